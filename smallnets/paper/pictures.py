"""The figures of a paper: those of the analysis, and lines of any query."""

from pathlib import Path

import polars as pl

from smallnets.analysis.figures import emphasised, figures
from smallnets.analysis.panels import Panel, axis, key_width, lines, markers, panel, save, span
from smallnets.paper.latex import escaped, floating
from smallnets.paper.queries import Figure
from smallnets.paper.sources import Sources

ACROSS = 2


def draw(sources: Sources, figure: Figure, folder: Path) -> None:
    """Write a figure as PDF and PNG into ``folder``: equal rows give equal bytes."""
    name = f"figure_{figure.name}"
    if figure.picture:
        found = _pictured(sources, figure)
        analysis = sources.analyses[figure.analysis]
        key = key_width(emphasised(analysis.study, analysis.compared))
        save(folder, name, found.panels, columns=found.columns, key=key)
        return
    table = _points(sources, figure)
    families = table["family"].unique(maintain_order=True).to_list()
    looks = [str(each) for each in families]
    x = axis(figure.x_title or figure.x, span(table["x"], kind=figure.x_scale), kind=figure.x_scale)
    y = axis(figure.y_title or figure.y, span(table["y"], kind=figure.y_scale), kind=figure.y_scale)
    panels: list[Panel] = []
    for (title,), part in table.group_by("panel", maintain_order=True):
        curves = {str(key): each for (key,), each in part.group_by("family", maintain_order=True)}
        marks = [*lines(curves, [n for n in looks if n in curves], looks), markers(part, looks)]
        panels.append(panel(marks, x, y, height=230, title=str(title), legend=len(looks) > 1))
    save(folder, name, panels, columns=min(ACROSS, len(panels)), key=key_width(looks))


def as_tex(sources: Sources, figure: Figure) -> str:
    """The figure with its caption, which for one of the analysis says what its intervals are."""
    if figure.picture:
        found = _pictured(sources, figure)
        studies = (sources.analyses[figure.analysis].rows,)
        caption = " ".join(
            each for each in (figure.caption, escaped(found.caption.strip())) if each
        )
    else:
        _points(sources, figure)
        caption, studies = figure.caption, sources.source(figure).studies
    commands = [command for name in studies for command in sources.studies[name].commands]
    body = rf"\includegraphics[width=\linewidth]{{generated/figure_{figure.name}.pdf}}"
    return floating("figure", figure.name, body, caption, commands=commands)


def _pictured(sources: Sources, figure: Figure):
    if figure.analysis not in sources.analyses:
        raise ValueError(
            f"figure {figure.name} is of the analysis {figure.analysis!r}, and there is none, only "
            f"{', '.join(sources.analyses)}"
        )
    analysis = sources.analyses[figure.analysis]
    drawn = figures(analysis.study, analysis.compared)
    if figure.picture not in drawn:
        raise ValueError(
            f"figure {figure.name}: {figure.analysis} has no picture {figure.picture!r}, only "
            f"{', '.join(drawn)}"
        )
    return drawn[figure.picture]


def _points(sources: Sources, figure: Figure) -> pl.DataFrame:
    if not (figure.source and figure.x and figure.y):
        raise ValueError(
            f"figure {figure.name} is a picture of an analysis, or has from, x and y of a query"
        )
    select = f"{figure.panel} AS panel, {figure.family} AS family, {figure.x} AS x, {figure.y} AS y"
    found = sources.answer(figure, select).sort("panel", "family", "x")  # numbers as numbers
    text = [pl.col(name).cast(pl.String).fill_null("") for name in ("panel", "family")]
    return found.with_columns(*text, pl.col("x", "y").cast(pl.Float64))

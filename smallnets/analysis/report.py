"""The report: one page that opens offline, and the curves for print beside it."""

import base64
import gzip
import json
import os
from html import escape
from pathlib import Path
from string import Template

import plotly.graph_objects as go
import polars as pl
from plotly.offline import get_plotlyjs

from smallnets.analysis import interactive, static
from smallnets.analysis.drawing import caption, label, means, objective
from smallnets.analysis.study import Curve, Study, analyse
from smallnets.analysis.table import read

PAGE = Path(__file__).with_name("page.html")


def build(folder: Path, out: Path | None = None) -> Path:
    """Read the rows in ``folder``, analyse them as a study of ours, write the report.

    Raises:
        ValueError: in one line, if the rows can't carry a report (see ``read`` and ``analyse``).
        OSError: if ``out`` (by default ``folder``) can't be written.
    """
    return write(analyse(read(folder)), Path(folder) if out is None else Path(out))


def write(study: Study, out: Path) -> Path:
    """Write ``report.html``, ``curves.pdf`` and ``curves.png`` into ``out``; return the page."""
    out.mkdir(parents=True, exist_ok=True)
    static.curves(study, out)
    path = out / "report.html"
    draft = out / f".report.{os.getpid()}"
    draft.write_text(page(study), encoding="utf-8")
    draft.replace(path)
    return path


def page(study: Study) -> str:
    """The page as text."""
    figures = {"curves": interactive.curves(study), "residuals": interactive.residuals(study)}
    swept = interactive.sweep(study)
    if swept is not None:
        figures["sweep"] = swept
    parts = [
        _notes(study),
        _figure("curves", "Score over size", caption(study)),
        "<h2>Laws</h2>" + _laws(study),
    ]
    if study.selection is not None:
        name = label(study.selection.setting)
        parts.append(
            _figure(
                "sweep",
                f"Choice of the {name}",
                f"Mean {label(study.selection.score)} over seeds, one line a size (darker is "
                "larger); the star marks the choice. A point is left out where a run diverged.",
            )
        )
    parts += [
        _figure("residuals", "Residuals", "Each run's log score minus the law of its family."),
        _details("Scores", _scores(study)),
        _details("Configuration", _configuration(study.table)),
        _details("Versions", _versions(study.table)),
    ]
    title = f"{label(study.columns.score).capitalize()} over {label(study.columns.size)}"
    return Template(PAGE.read_text(encoding="utf-8")).substitute(
        title=escape(title),
        subtitle=escape(_subtitle(study)),
        body="\n".join(part for part in parts if part),
        plotly=_packed(get_plotlyjs()),
        figures=_packed(_json(figures)),
    )


def _packed(text: str) -> str:
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


def _json(figures: dict[str, go.Figure]) -> str:
    return "{" + ",".join(f"{json.dumps(k)}:{f.to_json()}" for k, f in figures.items()) + "}"


def _subtitle(study: Study) -> str:
    parts = [f"{len(study.table):,} runs, {len(study.curves)} families"]
    for column in ("task", "device", "commit"):
        if column in study.table.columns:
            values = study.table[column].drop_nulls().unique(maintain_order=True).to_list()
            parts.append(f"{column} {', '.join(str(value) for value in values[:4])}")
    return " \N{MIDDLE DOT} ".join(parts)


def _notes(study: Study) -> str:
    if not (notes := all_notes(study)):
        return ""
    return '<ul class="notes">' + "".join(f"<li>{escape(note)}</li>" for note in notes) + "</ul>"


def all_notes(study: Study) -> list[str]:
    """What a reader must be told, of the whole study and then of families, equal notes as one."""
    families: dict[str, list[str]] = {}
    for curve in study.curves:
        for note in curve.notes:
            families.setdefault(note, []).append(curve.family)
    return [*study.notes, *(f"{', '.join(names)}: {note}." for note, names in families.items())]


def _figure(name: str, title: str, text: str) -> str:
    return (
        f'<figure><h2>{escape(title)}</h2><div class="plot" id="{name}"></div>'
        f"<figcaption>{escape(text)}</figcaption></figure>"
    )


def _details(title: str, body: str) -> str:
    return f"<details><summary>{title}</summary>{body}</details>" if body else ""


def laws(study: Study) -> pl.DataFrame:
    """One line for each parameter of each family's law, with its interval."""
    lines = []
    for curve in study.curves:
        if curve.choice is None:
            continue
        best = curve.choice.best
        for place, interval in enumerate(curve.intervals):
            lines.append(
                {
                    "family": curve.family if place == 0 else "",
                    "law": best.law.formula if place == 0 else "",
                    "parameter": interval.parameter,
                    "estimate": f"{interval.estimate:.4g}",
                    f"{study.level:.0%} interval": str(interval),
                    "wider of two": interval.method if str(interval) != interval.method else "",
                    "other laws": _others(curve) if place == 0 else "",
                    "hold-out": _percent(curve.choice.hold_out[0]) if place == 0 else "",
                }
            )
    return pl.DataFrame(lines)


def _others(curve: Curve) -> str:
    choice = curve.choice
    if choice is None:
        return ""
    texts = [
        f"{fitted.law.formula} (AICc +{difference:.1f})"
        for fitted, difference in zip(choice.fits[1:], choice.differences[1:], strict=True)
        if fitted in choice.alternatives
    ]
    return "; ".join(texts)


def _percent(log_ratio: float) -> str:
    return "" if log_ratio != log_ratio else f"{100 * log_ratio:+.1f} %"


def _laws(study: Study) -> str:
    table = laws(study)
    if table.is_empty():
        return "<p>No law was fitted.</p>"
    text = (
        "Intervals: profile likelihood with an F threshold, on runs and on size means; the wider "
        "counts and is named. The law is chosen by AICc; other laws within 4 of it are named, "
        "because the data don't exclude them. Hold-out: how far the mean score at the largest size "
        "lies from the law fitted without it. "
        f"Objective: {objective(study.delta)}."
    )
    return f'{html_table(table)}<p class="caption">{escape(text)}</p>'


def html_table(table: pl.DataFrame) -> str:
    """A plain HTML table."""
    head = "".join(f"<th>{escape(name)}</th>" for name in table.columns)
    rows = "".join(
        "<tr>" + "".join(f"<td>{escape(str(value))}</td>" for value in line) + "</tr>"
        for line in table.iter_rows()
    )
    return f'<div class="scroll"><table><tr>{head}</tr>{rows}</table></div>'


def _scores(study: Study) -> str:
    frames = [
        means(curve, study.columns).select(
            pl.lit(curve.family).alias("family"),
            pl.col("size").cast(pl.Int64).alias(label(study.columns.size)),
            "runs",
            *(pl.col(name).round_sig_figs(4) for name in ("mean", "lowest", "highest")),
        )
        for curve in study.curves
        if len(curve.runs)
    ]
    return html_table(pl.concat(frames)) if frames else ""


def _configuration(table: pl.DataFrame) -> str:
    names = [name for name in table.columns if name.startswith("config.")]
    if not names:
        return ""
    common, varying = [], []
    for name in names:
        values = table[name].unique(maintain_order=True).to_list()
        key = name.removeprefix("config.")
        if len(values) == 1:
            common.append(f"{key}: {values[0]}")
        else:
            shown = ", ".join(str(value) for value in values[:12])
            varying.append(f"{key}: {shown}" + (", ..." if len(values) > 12 else ""))
    return (
        f"<p>The same in every run:</p><pre>{escape(chr(10).join(common))}</pre>"
        f"<p>Varied:</p><pre>{escape(chr(10).join(varying))}</pre>"
    )


def _versions(table: pl.DataFrame) -> str:
    lines = []
    for name in table.columns:
        if name.startswith("versions.") or name in ("commit", "device", "execution"):
            values = table[name].drop_nulls().unique(maintain_order=True).to_list()
            lines.append(f"{name.removeprefix('versions.')}: {', '.join(map(str, values))}")
    return f"<pre>{escape(chr(10).join(lines))}</pre>" if lines else ""

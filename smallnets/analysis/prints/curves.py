"""The scaling plot for print: score over size with its law, and the excess over the asymptote."""

from pathlib import Path

import polars as pl
from matplotlib.axes import Axes

from smallnets.analysis.drawing import asymptote, caption, label, means, segments
from smallnets.analysis.prints.axes import beyond, logarithmic, printed
from smallnets.analysis.study import Curve, Study
from smallnets.analysis.style import Style, style


def curves(study: Study, folder: Path) -> None:
    """Write ``curves.pdf`` and ``curves.png`` into ``folder``."""
    with printed(folder, "curves", caption(study), columns=2) as (_, ((score, excess),)):
        for place, curve in enumerate(study.curves):
            _curve(score, study, curve, style(place), subtract=0.0, bands=True)
            _curve(excess, study, curve, style(place), subtract=asymptote(curve), bands=False)
        finished = [p for curve in study.curves if len(p := means(curve, study.columns))]
        for axis in (score, excess):
            logarithmic(axis, "x")
            logarithmic(axis, "y")
            axis.set_xlabel(label(study.columns.size))
            if finished:
                low = min(float(points["size"][0]) for points in finished)
                beyond(axis, low, max(float(points["size"][-1]) for points in finished))
        score.set_ylabel(label(study.columns.score))
        excess.set_ylabel(f"{label(study.columns.score)} \N{MINUS SIGN} E")


def _curve(
    axis: Axes, study: Study, curve: Curve, look: Style, *, subtract: float, bands: bool
) -> None:
    points = means(curve, study.columns).filter(pl.col("mean") > subtract)
    runs = curve.runs.select(
        pl.col(study.columns.size).cast(pl.Float64), pl.col(study.columns.score).cast(pl.Float64)
    ).to_numpy()
    above = runs[runs[:, 1] > subtract]
    axis.plot(above[:, 0], above[:, 1] - subtract, ".", color=look.colour, ms=2.8, alpha=0.6, mew=0)
    axis.plot(
        points["size"],
        points["mean"] - subtract,
        look.marker,
        color=look.colour,
        mfc="none",
        ms=5,
        mew=0.9,
        label=curve.family if len(runs) else f"{curve.family} (no run finished)",
        zorder=4,
    )
    for segment in segments(curve, level=study.level):
        lines = segment.band
        x = lines.x[0]
        ok = lines.curve > subtract
        dash = "-" if segment.inside else (0, (3, 2))
        axis.plot(x[ok], lines.curve[ok] - subtract, ls=dash, color=look.colour, lw=1.1, zorder=3)
        if segment.banded and bands:
            axis.fill_between(
                x, lines.run_low, lines.run_high, color=look.colour, alpha=0.07, lw=0, zorder=1
            )
            axis.fill_between(
                x, lines.mean_low, lines.mean_high, color=look.colour, alpha=0.18, lw=0, zorder=2
            )

"""The Pareto front and the efficiency multiplier for print."""

from pathlib import Path

import polars as pl

from smallnets.analysis.claims import Claims
from smallnets.analysis.drawing import label, multiplier_caption, pareto_caption, staircase
from smallnets.analysis.prints.axes import logarithmic, printed
from smallnets.analysis.study import Study
from smallnets.analysis.style import style


def pareto(study: Study, claims: Claims, folder: Path) -> None:
    """Write ``pareto.pdf`` and ``pareto.png``."""
    with printed(folder, "pareto", pareto_caption(study)) as (_, ((axis,),)):
        x, y = staircase(claims.points)
        axis.step(x, y, where="post", color="0.6", lw=1, zorder=1)
        for place, curve in enumerate(study.curves):
            look = style(place)
            points = claims.points.filter(pl.col("family") == curve.family)
            drawn = {"color": look.colour, "ms": 5, "mew": 0.9, "ls": ""}
            on, off = points.filter("front"), points.filter(~pl.col("front"))
            axis.plot(off["cost"], off["score"], marker=look.marker, mfc="none", **drawn)
            axis.plot(on["cost"], on["score"], marker=look.marker, **drawn, label=curve.family)
        logarithmic(axis, "x")
        logarithmic(axis, "y")
        axis.set_xlabel(label(study.columns.size))
        axis.set_ylabel(label(study.columns.score))


def multiplier(study: Study, claims: Claims, folder: Path) -> None:
    """Write ``multiplier.pdf`` and ``multiplier.png``, if there is a multiplier to show."""
    if not claims.multipliers:
        return
    caption = multiplier_caption(study, claims.reference)
    with printed(folder, "multiplier", caption) as (_, ((axis,),)):
        for place, curve in enumerate(study.curves):
            m = claims.multipliers.get(curve.family)
            if m is None:
                continue
            look = style(place)
            axis.fill_between(m.score, m.low, m.high, color=look.colour, alpha=0.15, lw=0)
            axis.plot(
                m.score,
                m.value,
                color=look.colour,
                lw=1.1,
                marker=look.marker,
                mfc="none",
                ms=5,
                mew=0.9,
                markevery=(len(m.score) // 8, max(len(m.score) // 4, 1)),
                label=curve.family,
            )
        axis.axhline(1, color="0.4", lw=0.6)
        logarithmic(axis, "y")
        axis.invert_xaxis()
        axis.set_xlabel(f"{label(study.columns.score)} (better to the right)")
        axis.set_ylabel(f"times fewer {label(study.columns.size)} than {claims.reference}")

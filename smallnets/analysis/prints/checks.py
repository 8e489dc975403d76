"""Residuals and the sweep of settings for print."""

from pathlib import Path

import numpy as np
import polars as pl

from smallnets.analysis.drawing import RESIDUALS, label, sweep_caption, swept_families
from smallnets.analysis.prints.axes import logarithmic, printed
from smallnets.analysis.study import Study
from smallnets.analysis.style import style


def residuals(study: Study, folder: Path) -> None:
    """Write ``residuals.pdf`` and ``residuals.png``."""
    with printed(folder, "residuals", RESIDUALS, height=3.2) as (_, ((axis,),)):
        for place, curve in enumerate(study.curves):
            if curve.choice is None:
                continue
            fitted, look = curve.choice.best, style(place)
            axis.plot(
                fitted.x[0],
                fitted.residuals,
                look.marker,
                color=look.colour,
                mfc="none",
                ms=3.6,
                mew=0.7,
                label=curve.family,
            )
        axis.axhline(0, color="0.4", lw=0.6)
        logarithmic(axis, "x")
        axis.set_xlabel(label(study.columns.size))
        axis.set_ylabel(f"log {label(study.columns.score)} \N{MINUS SIGN} log law")


def sweep(study: Study, folder: Path) -> None:
    """Write ``sweep.pdf`` and ``sweep.png``, if a setting was swept."""
    selection = study.selection
    names = swept_families(study)
    if selection is None or not names:
        return
    columns = min(len(names), 3)
    rows = -(-len(names) // columns)
    table = selection.sweep
    sizes = np.log(table[selection.size].to_numpy().astype(float))
    caption = sweep_caption(study)
    with printed(folder, "sweep", caption, rows=rows, columns=columns, height=1 + 1.7 * rows) as (
        _,
        axes,
    ):
        for axis, name in zip(axes.flat, names, strict=False):
            lines = table.filter(pl.col(study.columns.family) == name)
            for (size,), line in lines.group_by(selection.size, maintain_order=True):
                share = (np.log(float(size)) - sizes.min()) / max(np.ptp(sizes), 1e-9)  # type: ignore[arg-type]
                line = line.filter(pl.col("mean").is_finite())
                x, y = line[selection.setting], line["mean"]
                axis.plot(x, y, "-", color=str(0.72 - 0.62 * share), lw=0.9)
                chosen = line.filter("chosen")
                axis.plot(chosen[selection.setting], chosen["mean"], "*", color="#D55E00", ms=6)
            axis.set_title(name, fontsize=8, pad=3)
        for axis in axes.flat:
            logarithmic(axis, "x")
            logarithmic(axis, "y")
        for axis in axes.flat[len(names) :]:
            axis.set_axis_off()
        for place in range(len(names)):
            axis = axes.flat[place]
            if place + columns >= len(names):
                axis.set_xlabel(label(selection.setting))
                axis.tick_params(labelbottom=True)
            if place % columns == 0:
                axis.set_ylabel(label(selection.score))

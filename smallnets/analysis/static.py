"""The curves for print: PDF and PNG by Matplotlib, legible in greyscale."""

from pathlib import Path

import matplotlib as mpl
import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from smallnets.analysis.drawing import asymptote, caption, label, means, segments
from smallnets.analysis.study import Curve, Study
from smallnets.analysis.style import Style, style

LOOKS = {
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
}


def curves(study: Study, folder: Path) -> tuple[Path, Path]:
    """Write ``curves.pdf`` and ``curves.png`` into ``folder``; return their paths."""
    with mpl.rc_context(LOOKS):
        figure = Figure(figsize=(7.2, 3.9))
        score, excess = figure.subplots(1, 2)
        for place, curve in enumerate(study.curves):
            _curve(score, study, curve, style(place), subtract=0.0)
            _curve(excess, study, curve, style(place), subtract=asymptote(curve))
        for axes in (score, excess):
            _axes(axes, study)
        score.set_ylabel(label(study.columns.score))
        excess.set_ylabel(f"{label(study.columns.score)} \N{MINUS SIGN} E")
        handles, names = score.get_legend_handles_labels()
        if handles:
            figure.legend(
                handles, names, loc="upper center", ncols=min(len(names), 5), frameon=False
            )
        rows = -(-len(names) // 5)
        bottom = figure.text(0.01, 0.012, _wrapped(caption(study)), fontsize=6.5, va="bottom")
        lines = bottom.get_text().count("\n") + 1
        figure.subplots_adjust(
            left=0.085,
            right=0.985,
            wspace=0.24,
            top=0.97 - 0.05 * rows,
            bottom=0.145 + 0.032 * lines,
        )
        paths = (folder / "curves.pdf", folder / "curves.png")
        for path in paths:
            # No date inside, so that equal studies give equal files.
            stamp = {"CreationDate": None} if path.suffix == ".pdf" else None
            draft = path.with_suffix(".draft" + path.suffix)
            figure.savefig(draft, dpi=220, metadata=stamp)
            draft.replace(path)
    return paths


def _curve(axes: Axes, study: Study, curve: Curve, look: Style, *, subtract: float) -> None:
    points = means(curve, study.columns)
    runs = curve.runs.select(
        pl.col(study.columns.size).cast(pl.Float64), pl.col(study.columns.score).cast(pl.Float64)
    ).to_numpy()
    if len(runs):
        above = runs[runs[:, 1] > subtract]
        axes.plot(
            above[:, 0], above[:, 1] - subtract, ".", color=look.colour, ms=2.8, alpha=0.6, mew=0
        )
        shown = points.filter(pl.col("mean") > subtract)
        axes.plot(
            shown["size"],
            shown["mean"] - subtract,
            look.marker,
            color=look.colour,
            mfc="none",
            ms=5,
            mew=0.9,
            label=curve.family,
            zorder=4,
        )
    else:
        axes.plot(
            [],
            [],
            look.marker,
            color=look.colour,
            mfc="none",
            ms=5,
            mew=0.9,
            label=f"{curve.family} (none)",
        )
    for segment in segments(curve, level=study.level):
        lines = segment.band
        x = lines.x[0]
        ok = lines.curve > subtract
        dash = "-" if segment.inside else (0, (3, 2))
        axes.plot(x[ok], lines.curve[ok] - subtract, ls=dash, color=look.colour, lw=1.1, zorder=3)
        if subtract == 0.0 and np.isfinite(lines.mean_high).all():
            axes.fill_between(
                x, lines.run_low, lines.run_high, color=look.colour, alpha=0.07, lw=0, zorder=1
            )
            axes.fill_between(
                x, lines.mean_low, lines.mean_high, color=look.colour, alpha=0.18, lw=0, zorder=2
            )


def _axes(axes: Axes, study: Study) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel(label(study.columns.size))
    finished = [points for curve in study.curves if len(points := means(curve, study.columns))]
    if finished:
        low = min(float(points["size"][0]) for points in finished)
        high = max(float(points["size"][-1]) for points in finished)
        left, right = axes.get_xlim()
        axes.axvspan(left, low, color="0.955", zorder=0, lw=0)
        axes.axvspan(high, right, color="0.955", zorder=0, lw=0)
        axes.set_xlim(left, right)
    decades = np.ptp(np.log10(axes.get_ylim()))
    subs = (1,) if decades > 2 else (1, 2, 5) if decades > 1.2 else (1, 1.5, 2, 3, 4, 5, 7)
    axes.yaxis.set_major_locator(LogLocator(subs=subs))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(True, which="major", color="0.9", lw=0.4)
    axes.set_axisbelow(True)


def _wrapped(text: str, width: int = 150) -> str:
    lines, line = [], ""
    for word in text.split():
        if len(line) + len(word) > width:
            lines.append(line)
            line = ""
        line = f"{line} {word}".strip()
    return "\n".join([*lines, line])

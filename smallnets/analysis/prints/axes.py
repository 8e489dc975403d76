"""The looks that every printed figure shares, and how it is written."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import fill

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from smallnets.files import replacing

LOOKS = {
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "pdf.fonttype": 42,
}
BEYOND = "0.955"


@contextmanager
def printed(
    folder: Path, name: str, caption: str, *, rows: int = 1, columns: int = 1, height: float = 3.9
) -> Iterator[tuple[Figure, np.ndarray]]:
    """Yield a figure with ``rows`` x ``columns`` axes, then write it as PDF and PNG."""
    with mpl.rc_context(LOOKS):  # pyright: ignore[reportArgumentType]
        figure = Figure(figsize=(7.2, height))
        share = rows * columns > 2
        axes = figure.subplots(rows, columns, squeeze=False, sharex=share, sharey=share)
        yield figure, axes
        handles, names = _families(axes)
        inch = 1 / height
        top = 1 - 0.12 * inch
        if names:
            figure.legend(
                handles, names, loc="upper center", ncols=min(len(names), 5), frameon=False
            )
            top -= 0.22 * inch * -(-len(names) // 5)
        if share:
            top -= 0.12 * inch
        text = fill(caption, 148)
        figure.text(0.01, 0.05 * inch, text, fontsize=6.5, va="bottom")
        bottom = (0.55 + 0.125 * (text.count("\n") + 1)) * inch
        wide = columns == 1
        figure.subplots_adjust(
            left=0.16 if wide else 0.085,
            right=0.84 if wide else 0.985,
            wspace=0.08 if share else 0.24,
            hspace=0.3,
            top=top,
            bottom=bottom,
        )
        for each in figure.findobj(Text):  # names may hold dollars; only powers of ten are formulas
            if isinstance(each, Text) and "\\mathdefault" not in each.get_text():
                each.set_parse_math("$" not in each.get_text())
        for suffix in (".pdf", ".png"):
            # No date inside, so that equal studies give equal files.
            stamp = {"CreationDate": None} if suffix == ".pdf" else None
            with replacing(folder / f"{name}{suffix}") as draft:
                figure.savefig(draft, format=suffix[1:], dpi=220, metadata=stamp)


def logarithmic(axis: Axes, which: str) -> None:
    """A logarithmic axis; the vertical one with plain numbers, finer within one decade.

    The horizontal one has plain numbers too where it is too short for several powers of ten.
    """
    axis.grid(True, which="major", color="0.9", lw=0.4)
    axis.set_axisbelow(True)
    if which == "x":
        axis.set_xscale("log")
        axis.xaxis.set_minor_formatter(NullFormatter())
        low, high = axis.get_xlim()
        if high < 30 * low:
            axis.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
            axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        return
    axis.set_yscale("log")
    low, high = axis.get_ylim()
    decades = float(np.log10(high / low))
    if decades > 2.6:
        digits = (1.0,)
    elif decades > 1.2:
        digits = (1.0, 2.0, 5.0)
    elif decades > 0.35:
        digits = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0)
    else:
        digits = tuple(np.arange(10, 100, 5 if decades > 0.1 else 1) / 10)
    axis.yaxis.set_major_locator(LogLocator(subs=digits))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.yaxis.set_minor_locator(NullLocator())


def beyond(axis: Axes, low: float, high: float) -> None:
    """Shade what lies outside the sizes that were run."""
    left, right = axis.get_xlim()
    axis.axvspan(left, low, color=BEYOND, zorder=0, lw=0)
    axis.axvspan(high, right, color=BEYOND, zorder=0, lw=0)
    axis.set_xlim(left, right)


def _families(axes: np.ndarray) -> tuple[list, list[str]]:
    found: dict = {}
    for axis in axes.flat:
        for handle, name in zip(*axis.get_legend_handles_labels(), strict=True):
            found.setdefault(name, handle)
    return list(found.values()), list(found)

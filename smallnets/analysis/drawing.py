"""What both the print and the screen draw of a curve: points, means, segments, captions."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from smallnets.analysis.intervals import Band, band
from smallnets.analysis.study import Columns, Curve, Study

REACH = 2.5  # how far beyond the data, as a factor, a law is drawn (dashed)
POINTS = 60


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A piece of a fitted curve, ``inside`` the sizes that were run or beyond them.

    ``banded`` says whether its bands mean anything: not where the law is not identifiable.
    """

    band: Band
    inside: bool
    banded: bool


def segments(curve: Curve, *, level: float) -> tuple[Segment, ...]:
    """The law of ``curve`` below, within and above its data; empty where there is no law."""
    if curve.choice is None or len(curve.choice.best.law.variables) > 1:
        return ()
    fitted = curve.choice.best
    low, high = fitted.x[0].min(), fitted.x[0].max()
    pieces = ((low / REACH, low, False), (low, high, True), (high, high * REACH, False))
    return tuple(
        Segment(
            band=band(fitted, np.geomspace(a, b, POINTS), level=level),
            inside=inside,
            banded=fitted.identifiable,
        )
        for a, b, inside in pieces
    )


def asymptote(curve: Curve) -> float:
    """The fitted E, zero for a law without one."""
    return curve.choice.best.parameters.get("E", 0.0) if curve.choice else 0.0


def means(curve: Curve, columns: Columns) -> pl.DataFrame:
    """One line a size: geometric mean of the score (what is fitted), lowest, highest, runs."""
    score = pl.col(columns.score).cast(pl.Float64)
    return (
        curve.runs.filter(score > 0)
        .group_by(pl.col(columns.size).alias("size"))
        .agg(
            score.log().mean().exp().alias("mean"),
            score.min().alias("lowest"),
            score.max().alias("highest"),
            pl.len().alias("runs"),
        )
        .sort("size")
    )


def staircase(points: pl.DataFrame) -> tuple[list[float], list[float]]:
    """The front of ``pareto``'s table as the corners of a line, cheapest first."""
    on = points.filter("front").sort("cost")
    if on.is_empty():
        return [], []
    return [*on["cost"], float(points["cost"].max())], [*on["score"], on["score"][-1]]  # type: ignore[arg-type]


def caption(study: Study) -> str:
    """The sentence that a reader needs: sizes x seeds, objective, interval method."""
    counts = [
        (len(points), int(points["runs"].max()))  # type: ignore[arg-type]
        for points in (means(curve, study.columns) for curve in study.curves)
        if len(points)
    ]
    if not counts:
        return "No run finished."
    sizes, seeds = (_span(values) for values in zip(*counts, strict=True))
    fits = [curve for curve in study.curves if curve.choice]
    text = (
        f"{len(counts)} families, {sizes} sizes \N{MULTIPLICATION SIGN} {seeds} seeds each. "
        if len(counts) > 1
        else (f"{sizes} sizes \N{MULTIPLICATION SIGN} {seeds} seeds. ")
    )
    text += "Dots: runs; markers: geometric mean over seeds. "
    if not fits:
        return text + "No law was fitted."
    return text + (
        f"Lines: law fitted by {objective(study.delta)}, solid within the data, dashed beyond. "
        f"Dark band: {study.level:.0%} for the mean; light band: for one further run. "
        "Right: the score less the fitted E, of laws that have one. "
        "Parameter intervals: profile likelihood on size means."
    )


def objective(delta: float) -> str:
    """The fitting objective in words."""
    if delta == 0:
        return "least absolute deviation of the log score"
    if np.isinf(delta):
        return "least squares on the log score"
    return f"the sum of Huber's loss of the log score, delta = {delta:g}"


def number(value: float) -> str:
    """A size or cost in full digits where they are few, else to four."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def label(column: str) -> str:
    """A column's name as an axis title: the last part of a dotted one, in words."""
    return column.rsplit(".", 1)[-1].replace("_", " ")


def _span(values: tuple[int, ...]) -> str:
    return str(values[0]) if len(set(values)) == 1 else f"{min(values)} to {max(values)}"


RESIDUALS = "Each run's log score minus the law of its family. A pattern over size is a wrong law."


def swept_families(study: Study) -> list[str]:
    """The families that a sweep can be drawn of: those with a setting at which no run diverged."""
    if study.selection is None:
        return []
    shown = study.selection.sweep.filter(pl.col("mean").is_finite())[study.columns.family]
    return [curve.family for curve in study.curves if curve.family in set(shown)]


def sweep_caption(study: Study) -> str:
    """What the sweep shows."""
    selection = study.selection
    if selection is None:
        return ""
    return (
        f"Mean {label(selection.score)} over seeds, one line a size, darker for larger; the star "
        f"marks the {label(selection.setting)} chosen. Left out: settings at which a run diverged."
    )


def pareto_caption(study: Study) -> str:
    """What the front shows, with its rule for ties."""
    return (
        "Geometric mean over seeds; filled: on the Pareto front, where no other point is at least "
        f"as good in {label(study.columns.size)} and {label(study.columns.score)} and better in "
        "one, so that equal points are on it together."
    )


def multiplier_caption(study: Study, reference: str) -> str:
    """What the multiplier shows."""
    return (
        f"How many times fewer {label(study.columns.size)} a family needs than {reference} for "
        f"the same {label(study.columns.score)}, from laws fitted apart, only where both have data "
        f"within their own sizes. Bands: {study.level:.0%} pointwise, delta method with Student's "
        "t on size means."
    )

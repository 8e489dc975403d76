"""Pareto fronts of cost and score, with ties and with the uncertainty that few seeds leave.

A point is on the front unless another is at least as good on every axis and better on one; equal
points are on it together.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from smallnets.analysis.fit import Fit
from smallnets.analysis.intervals import band

DRAWS = 2000
AT_ONCE = 2**20  # drawn means that are held in memory


@dataclass(frozen=True, kw_only=True)
class Slice:
    """The scores of several families at one cost, best first: law, with the band of its mean.

    ``reasons`` says for each family that is missing why it is.
    """

    cost: float
    families: tuple[str, ...]
    score: np.ndarray
    low: np.ndarray
    high: np.ndarray
    reasons: tuple[str, ...]


def front(points: np.ndarray) -> np.ndarray:
    """Which of ``points`` (..., n, axes), lower being better on each, are on the front (..., n)."""
    points = np.asarray(points, float)
    this, other = points[..., :, None, :], points[..., None, :, :]
    beaten = (other <= this).all(axis=-1) & (other < this).any(axis=-1)
    return np.asarray(~beaten.any(axis=-1))


def pareto(
    runs: pl.DataFrame,
    *,
    cost: str,
    score: str,
    family: str,
    apart: Sequence[str] = (),
    seed: int = 0,
) -> pl.DataFrame:
    """One line for each (family, cost): mean score, on the front or not, and how probable that is.

    The probability is over the means that the seeds allow: each is drawn from Student's t about
    the mean log score, with the scatter of seeds pooled within its family. It is null in a family
    with one run a cost, whose scatter is unknown. Rows that differ in a column of ``apart`` are
    points of their own and no seeds of one point.

    Raises:
        ValueError: if no run has a positive score.
    """
    value = pl.col(score).cast(pl.Float64)
    runs = runs.filter(value.is_finite() & (value > 0))  # NaN is above zero here
    if runs.is_empty():
        raise ValueError(f"no run has a positive {score}: a front needs at least one")
    log_score = pl.col(score).cast(pl.Float64).log()
    points = (
        runs.group_by(
            family, pl.col(cost).cast(pl.Float64).alias("cost"), *apart, maintain_order=True
        )
        .agg(
            log_score.mean().alias("log_mean"),
            ((log_score - log_score.mean()) ** 2).sum().alias("squares"),
            pl.len().alias("runs"),
        )
        .sort(family, "cost")
        .with_columns(
            pl.col("squares").sum().over(family).alias("squares"),
            (pl.col("runs") - 1).sum().over(family).alias("degrees"),
        )
    )
    mean, count = points["log_mean"].to_numpy(), points["runs"].to_numpy()
    degrees = points["degrees"].to_numpy()
    known = degrees > 0
    error = np.sqrt(points["squares"].to_numpy() / np.maximum(degrees, 1) / count)
    random = np.random.default_rng(seed)
    order = np.argsort(points["cost"].to_numpy(), kind="stable")
    costs = points["cost"].to_numpy()
    drawn = np.zeros(len(mean))
    some = max(1, AT_ONCE // len(mean))
    for first in range(0, DRAWS, some):
        size = (min(some, DRAWS - first), len(mean))
        t = random.standard_t(np.maximum(degrees, 1), size=size)
        drawn += _on_front(costs, mean + t * error, order).sum(axis=0) / DRAWS
    return points.select(
        pl.col(family).alias("family"),
        "cost",
        pl.col("log_mean").exp().alias("score"),
        "runs",
        pl.Series("front", _on_front(costs, mean[None], order)[0]),
        pl.Series("probability", np.where(known, drawn, np.nan)).fill_nan(None),
    )


def at_cost(fits: dict[str, Fit], cost: float, *, level: float = 0.95) -> Slice:
    """Every family's score at ``cost``, where that lies within the family's own data."""
    found, reasons = [], []
    for family, fitted in fits.items():
        low, high = fitted.x[0].min(), fitted.x[0].max()
        if not low <= cost <= high:
            reasons.append(f"{family} was run from {low:.6g} to {high:.6g}, not at {cost:.6g}")
            continue
        if not fitted.identifiable:
            reasons.append(f"{family} has {fitted.sizes} sizes, too few for a band")
            continue
        b = band(fitted, np.array([cost]), level=level)
        found.append((float(b.curve[0]), float(b.mean_low[0]), float(b.mean_high[0]), family))
    found.sort()
    return Slice(
        cost=cost,
        families=tuple(line[3] for line in found),
        score=np.array([line[0] for line in found]),
        low=np.array([line[1] for line in found]),
        high=np.array([line[2] for line in found]),
        reasons=tuple(reasons),
    )


def _on_front(costs: np.ndarray, scores: np.ndarray, order: np.ndarray) -> np.ndarray:
    """The front in two axes for many draws of the scores (d, n): a running minimum over cost."""
    groups, first = np.unique(costs[order], return_index=True)
    lowest = np.minimum.reduceat(scores[:, order], first, axis=1)
    cheaper = np.minimum.accumulate(lowest, axis=1)
    before = np.concatenate([np.full((len(scores), 1), np.inf), cheaper[:, :-1]], axis=1)
    place = np.searchsorted(groups, costs)
    return (scores < before[:, place]) & (scores <= lowest[:, place])

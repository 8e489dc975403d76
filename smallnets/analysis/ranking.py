"""Families at equal costs: Pareto fronts, ranks, and what a size costs along every axis.

Fronts are with ties and with the uncertainty that few seeds leave. A point is on the front unless
another is at least as good on every axis and better on one; equal points are on it together.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy import stats

from smallnets.analysis.fit import Fit
from smallnets.analysis.intervals import band
from smallnets.analysis.study import Study, setting_of

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
    points of their own and no seeds of one point; ``setting`` says their values.

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
        setting_of(apart),
        "cost",
        pl.col("log_mean").exp().alias("score"),
        "runs",
        pl.Series("front", _on_front(costs, mean[None], order)[0]),
        pl.Series("probability", np.where(known, drawn, np.nan)).fill_nan(None),
    )


def apart(study: Study) -> tuple[str, ...]:
    """Columns whose values set rows of one family and size apart: they are no seeds.

    Where curves were fitted, settings are chosen and only the amount of data is left.
    """
    columns = study.columns
    data = (columns.data,) if columns.data else ()
    if any(curve.choice for curve in study.curves):
        return data
    own = (columns.family, *columns.variables, columns.seed, columns.score)
    varied = study.runs.group_by(columns.family, columns.size).agg(
        pl.col(name).n_unique()
        for name in study.runs.columns
        if name.startswith("config.") and name not in own
    )
    found = [name for name in varied.columns[2:] if varied[name].max() != 1]
    return tuple(dict.fromkeys([*data, *columns.settings, *found]))


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


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """``probability`` (f, r): how often family f has rank r over the seeds, best rank first.

    ``agreement`` is Kendall's W over the seeds: 1 if all give the same order, near 0 by luck.
    """

    families: tuple[str, ...]
    probability: np.ndarray
    agreement: float
    seeds: int


def rank_stability(scores: np.ndarray, families: tuple[str, ...]) -> Ranks:
    """Ranks from ``scores`` (seeds, families), lower being better; equal scores share ranks.

    Kendall's W = 12 S / (m^2 (k^3 - k) - m T), S the sum of squared deviations of the rank sums of
    k families over m seeds, T the correction for ties (Kendall & Babington Smith 1939).

    Raises:
        ValueError: if there are fewer than two seeds or two families.
    """
    scores = np.asarray(scores, float)
    m, k = scores.shape
    if m < 2 or k < 2:
        raise ValueError(f"ranks need two seeds and two families, got {m} and {k}")
    ranks = stats.rankdata(scores, axis=1)
    deviations = ((ranks.sum(axis=0) - m * (k + 1) / 2) ** 2).sum()
    ties = sum((c**3 - c).sum() for c in (np.unique(row, return_counts=True)[1] for row in ranks))
    spread = m**2 * (k**3 - k) - m * ties
    first, last = (stats.rankdata(scores, axis=1, method=end)[..., None] for end in ("min", "max"))
    place = np.arange(1, k + 1)
    shares = ((place >= first) & (place <= last)) / (last - first + 1)
    return Ranks(
        families=families,
        probability=shares.mean(axis=0),
        agreement=float(12 * deviations / spread) if spread > 0 else 0.0,
        seeds=m,
    )


def scores_at(
    runs: pl.DataFrame, cost: float, *, size: str, score: str, family: str, seed: str
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Scores (seeds, families) at ``cost``: each seed's own runs, interpolated in logarithms.

    Families whose sizes don't enclose ``cost``, and seeds that not every other family has, are
    left out.
    """
    runs = runs.filter(pl.col(score).cast(pl.Float64) > 0)
    found: dict[str, dict[object, float]] = {}
    for (name, label), line in runs.sort(size).group_by(family, seed, maintain_order=True):
        x = line[size].cast(pl.Float64).to_numpy()
        if x[0] <= cost <= x[-1]:
            y = np.log(line[score].cast(pl.Float64).to_numpy())
            value = np.exp(np.interp(np.log(cost), np.log(x), y))
            found.setdefault(str(name), {})[label] = float(value)
    if not found:
        return np.empty((0, 0)), ()
    seeds = sorted(set.intersection(*(set(values) for values in found.values())), key=str)
    families = tuple(found)
    return np.array([[found[f][s] for f in families] for s in seeds]), families


PREFIX = "costs."
MATCHED = 0.05  # sizes that differ by less than this share are compared as one budget


def axes(table: pl.DataFrame) -> list[str]:
    """The columns of costs."""
    return [name for name in table.columns if name.startswith(PREFIX)]


def mismatch(study: Study, reference: str) -> pl.DataFrame:
    """A line for each family and size: its cost by each axis, and that over the reference's.

    The reference is the size of the family ``reference`` nearest to it, where it lies within 5 %;
    elsewhere the ratios, columns ``<axis> ratio``, are null. Costs are medians over runs. Empty
    where the rows hold no costs.
    """
    size, family = study.columns.size, study.columns.family
    names = [name for name in axes(study.runs) if name != size]
    if not names:
        return pl.DataFrame()
    at = study.runs.group_by(family, size, maintain_order=True).agg(pl.col(names).median())
    against = at.filter(pl.col(family) == reference)
    ratios = [_ratios(line, against, size, names) for line in at.iter_rows(named=True)]
    return at.hstack(pl.DataFrame(ratios, schema={_ratio(name): pl.Float64 for name in names}))


def _ratios(line: dict, against: pl.DataFrame, size: str, names: Sequence[str]) -> dict:
    distance = (against[size] / line[size]).log().abs()
    if not len(distance) or distance.min() > MATCHED:  # type: ignore[operator]
        return {}
    other = against.row(distance.arg_min(), named=True)  # type: ignore[arg-type]
    return {_ratio(name): line[name] / other[name] for name in names if line[name] and other[name]}


def _ratio(name: str) -> str:
    return f"{name} ratio"

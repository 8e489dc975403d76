"""Whether the order of families is more than luck: ranks over seeds."""

from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy import stats


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

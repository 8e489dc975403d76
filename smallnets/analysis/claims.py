"""What a study says about its families against each other: multipliers, fronts, ranks."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from smallnets.analysis.fit import Fit
from smallnets.analysis.laws import ASYMPTOTE
from smallnets.analysis.multiplier import Comparison, Multiplier, compare, multiplier
from smallnets.analysis.pareto import Slice, at_cost, pareto
from smallnets.analysis.ranks import Ranks, rank_stability, scores_at
from smallnets.analysis.shared import Shared, shared_shape
from smallnets.analysis.study import Study


@dataclass(frozen=True, kw_only=True)
class Claims:
    """Every comparison that the study allows; ``refused`` says which it doesn't and why.

    ``multipliers`` are of each family against ``reference``; ``comparisons`` of every pair, with
    p-values after Holm; ``shared`` the test of a common shape for each of those pairs.
    """

    reference: str
    multipliers: dict[str, Multiplier]
    comparisons: tuple[Comparison, ...]
    shared: dict[tuple[str, str], Shared]
    points: pl.DataFrame
    slices: tuple[Slice, ...]
    ranks: Ranks | None
    refused: tuple[str, ...]


def claims(study: Study, *, reference: str | None = None) -> Claims:
    """Compare the families of ``study``; ``reference`` is "dense" where there is one.

    Raises:
        ValueError: if ``reference`` is not a family of the study.
    """
    columns = study.columns
    fits = {curve.family: curve.choice.best for curve in study.curves if curve.choice}
    names = [curve.family for curve in study.curves]
    if reference is None:
        reference = "dense" if "dense" in fits else next(iter(fits), "")
    elif reference not in names:
        raise ValueError(f"no family {reference} to compare with; there are {', '.join(names)}")
    multipliers, refused = {}, []
    for family, fitted in fits.items():
        if family == reference or reference not in fits:
            continue
        try:
            multipliers[family] = multiplier(fitted, fits[reference], level=study.level)
        except ValueError as error:
            refused.append(f"no multiplier of {family} against {reference}: {error}")
    comparisons = compare(fits, level=study.level)
    return Claims(
        reference=reference,
        multipliers=multipliers,
        comparisons=comparisons,
        shared=_shared(fits, comparisons, study.level),
        points=pareto(study.runs, cost=columns.size, score=columns.score, family=columns.family),
        slices=tuple(at_cost(fits, cost, level=study.level) for cost in _budgets(fits)),
        ranks=_ranks(study, fits),
        refused=tuple(refused),
    )


def _shared(
    fits: dict[str, Fit], comparisons: tuple[Comparison, ...], level: float
) -> dict[tuple[str, str], Shared]:
    found = {}
    for pair in comparisons:
        a, b = fits[pair.family], fits[pair.other]
        least_squares = np.isinf(a.delta) and np.isinf(b.delta)
        if a.law is ASYMPTOTE and b.law is ASYMPTOTE and least_squares and not pair.reason:
            found[pair.family, pair.other] = shared_shape(a, b, level=level)
    return found


def _budgets(fits: dict[str, Fit]) -> list[float]:
    """A quarter, half and three quarters of the way through the costs that all families share."""
    if len(fits) < 2:
        return []
    low = max(fitted.x[0].min() for fitted in fits.values())
    high = min(fitted.x[0].max() for fitted in fits.values())
    if not low < high:
        return []
    return [float(np.exp(v)) for v in np.linspace(np.log(low), np.log(high), 5)[1:-1]]


def _ranks(study: Study, fits: dict[str, Fit]) -> Ranks | None:
    columns, budgets = study.columns, _budgets(fits)
    if not budgets:
        return None
    scores, families = scores_at(
        study.runs,
        budgets[1],
        size=columns.size,
        score=columns.score,
        family=columns.family,
        seed=columns.seed,
    )
    return rank_stability(scores, families) if min(scores.shape) > 1 else None

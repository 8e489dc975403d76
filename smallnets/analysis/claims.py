"""What a study says about its families against each other: multipliers, fronts, ranks."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from smallnets.analysis.fit import Fit
from smallnets.analysis.multiplier import Comparison, Multiplier, compare, multiplier
from smallnets.analysis.pareto import Slice, at_cost, pareto
from smallnets.analysis.ranks import Ranks, rank_stability, scores_at
from smallnets.analysis.study import Study, finished
from smallnets.analysis.words import some


@dataclass(frozen=True, kw_only=True)
class Claims:
    """Every comparison that the study allows; ``refused`` says which it doesn't and why.

    ``multipliers`` are of each family against ``reference`` over all scores, by their laws;
    ``comparisons`` of every pair at one score, by laws and by interpolation, with p-values after
    Holm. ``points`` are the Pareto front, ``slices`` the families at equal costs.
    """

    reference: str
    multipliers: dict[str, Multiplier]
    comparisons: tuple[Comparison, ...]
    points: pl.DataFrame
    slices: tuple[Slice, ...]
    ranks: Ranks | None
    refused: tuple[str, ...]


def claims(study: Study, *, reference: str | None = None, at: float | None = None) -> Claims:
    """Compare the families of ``study``; ``reference`` is "dense" where there is one.

    ``at`` is the score at which pairs are compared, by default the middle of what both reached.

    Raises:
        ValueError: if ``reference`` is not a family of the study.
    """
    columns, fits = study.columns, _fits(study)
    reference, comparisons = compared(study, reference=reference, at=at)
    multipliers, refused = {}, []
    for family, fitted in fits.items():
        if family == reference or reference not in fits:
            continue
        try:
            multipliers[family] = multiplier(fitted, fits[reference], level=study.level)
        except ValueError as error:
            refused.append(f"no multiplier of {family} against {reference}: {error}")
    return Claims(
        reference=reference,
        multipliers=multipliers,
        comparisons=comparisons,
        points=pareto(
            finished(study.runs),
            cost=columns.size,
            score=columns.score,
            family=columns.family,
            apart=() if study.verdict or fits else settings(study),
        ),
        slices=tuple(at_cost(fits, cost, level=study.level) for cost in _budgets(fits)),
        ranks=_ranks(study, fits),
        refused=tuple(refused),
    )


def compared(
    study: Study, *, reference: str | None = None, at: float | None = None
) -> tuple[str, tuple[Comparison, ...]]:
    """The reference of a study and its comparisons alone (see :func:`claims`)."""
    fits, names = _fits(study), [curve.family for curve in study.curves]
    if reference is None:
        reference = "dense" if "dense" in fits else next(iter(fits), "")
    elif reference not in names:
        raise ValueError(f"no family {reference} to compare with; there are {some(names)}")
    leads = "interpolation" if study.shape.questioned else "law"
    return reference, compare(fits, score=at, level=study.level, leads=leads, reference=reference)


def _fits(study: Study) -> dict[str, Fit]:
    """The laws by family; of laws in two variables there is no one cost for a score."""
    if study.columns.data:
        return {}
    return {curve.family: curve.choice.best for curve in study.curves if curve.choice}


def settings(study: Study) -> tuple[str, ...]:
    """Columns whose values set rows of one family and size apart: they are no seeds."""
    columns = study.columns
    own = (columns.family, *columns.variables, columns.seed, columns.score)
    return tuple(
        name
        for name in study.runs.columns
        if name not in own
        and name.startswith("config.")
        and study.runs.group_by(columns.family, columns.size)
        .agg(pl.col(name).n_unique())[name]
        .max()
        != 1
    )


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

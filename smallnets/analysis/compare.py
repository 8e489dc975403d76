"""The efficiency multiplier: how many times less of a cost one family needs for the same score.

With N_f(L) the cost at which the law of family f reaches the score L,

    m(L) = N_b(L) / N_a(L),

above 1 where ``a`` needs less than ``b``. Both laws are fitted apart; the interval is the delta
method on log m with Student's t (degrees of freedom after Welch and Satterthwaite), on the noise of
size means. Nothing is said outside the scores that both families reached within their own sizes.

Where the shape of the law is questioned, the multiplier between two such lines is arithmetic; that
of ``interpolation`` stands beside it always and leads there.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import polars as pl
from scipy.special import stdtr, stdtrit

from smallnets.analysis.fit import Fit
from smallnets.analysis.interpolation import (
    Interpolated,
    Interpolation,
    interpolated,
    interpolation,
    over_scores,
    scatter,
)
from smallnets.analysis.intervals import covariance
from smallnets.analysis.laws import Law
from smallnets.analysis.ranking import (
    Ranks,
    Slice,
    apart,
    at_cost,
    pareto,
    rank_stability,
    scores_at,
)
from smallnets.analysis.study import Study, finished
from smallnets.analysis.table import some

STEP = 1e-5
HALVINGS, NEWTONS = 20, 3  # of the span of the sizes, then steps to a double's last bits
ALL_PAIRS = 6  # families of which every pair is compared; of more, each with the reference
POWER_OF_TEST = 0.8


@dataclass(frozen=True, kw_only=True)
class Multiplier:
    """m at each ``score`` (n,) with its interval, and the p-value of m = 1, point by point.

    ``detectable`` is the multiplier that as many runs would tell from 1 in four of five studies.
    """

    score: np.ndarray
    value: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p_value: np.ndarray
    detectable: np.ndarray
    level: float


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two families at one score, by their laws and by interpolation; p-values after Holm (1979).

    ``value``, ``low``, ``high`` and ``p_value`` are of the laws; ``interpolated`` has the same by
    interpolation of the means. ``leads`` says which of the two is the answer, "law" or
    "interpolation" where the shape of the law is questioned; ``p_adjusted`` is the leading p-value
    corrected for all pairs. ``detectable`` is the multiplier that as many runs would tell from 1
    in four of five studies. Where the laws say nothing, their numbers are NaN and ``reason`` says
    why.
    """

    family: str
    other: str
    score: float
    value: float
    low: float
    high: float
    p_value: float
    p_adjusted: float
    detectable: float
    interpolated: Interpolated
    leads: str
    reason: str

    @property
    def answer(self) -> tuple[float, float, float, float]:
        """Value, low, high and p-value, not adjusted, of what leads; NaN where it says nothing."""
        if self.leads == "law":
            return self.value, self.low, self.high, self.p_value
        leading = self.interpolated
        return leading.value, leading.low, leading.high, leading.p_value

    @property
    def refusal(self) -> str:
        """Why what leads says nothing, empty where it does."""
        return self.reason if self.leads == "law" else self.interpolated.reason


def overlap(a: Fit, b: Fit) -> tuple[float, float]:
    """The lowest and highest score that both laws reach within their own data.

    Raises:
        ValueError: if a law has several variables or no interval, or there is no such score.
    """
    for fitted in (a, b):
        if len(fitted.law.variables) != 1:
            raise ValueError(f"a multiplier needs laws of one variable, not {fitted.law.formula}")
        if not fitted.identifiable:
            raise ValueError(
                f"{fitted.sizes} sizes leave no interval: a {fitted.law.name} needs "
                f"{fitted.law.size + 2}"
            )
    ends = [span(fitted) for fitted in (a, b)]
    low, high = max(end[0] for end in ends), min(end[1] for end in ends)
    if not low < high:
        (a_low, a_high), (b_low, b_high) = ends
        raise ValueError(
            f"no score that both reach: one spans {a_low:.4g} to {a_high:.4g}, the other "
            f"{b_low:.4g} to {b_high:.4g}"
        )
    return low, high


def multiplier(
    a: Fit, b: Fit, *, score: np.ndarray | None = None, points: int = 40, level: float = 0.95
) -> Multiplier:
    """m(L) of family ``a`` against ``b`` at ``score``, or at ``points`` over the whole overlap.

    Raises:
        ValueError: if a score lies outside the overlap, or there is none (see ``overlap``).
    """
    low, high = overlap(a, b)
    if score is None:
        score = np.geomspace(low * (1 + 1e-9), high * (1 - 1e-9), points)
    score = np.atleast_1d(np.asarray(score, float))
    if not ((score >= low) & (score <= high)).all():
        raise ValueError(
            f"both families reached {low:.4g} to {high:.4g} within their sizes; a multiplier at "
            f"{score.min():.4g} to {score.max():.4g} would be extrapolated"
        )
    cost_a, gradient_a = _inverse(a, score)
    cost_b, gradient_b = _inverse(b, score)
    log_m = cost_b - cost_a
    parts = [
        (np.einsum("pn,pq,qn->n", g, covariance(f), g), f.sizes - f.law.size)
        for g, f in ((gradient_a, a), (gradient_b, b))
    ]
    variance = np.maximum(sum(v for v, _ in parts), 1e-300)
    degrees = variance**2 / np.maximum(sum(v**2 / d for v, d in parts), 1e-300)
    error = np.sqrt(variance)
    half = stdtrit(degrees, 0.5 + level / 2) * error
    with np.errstate(over="ignore"):  # an interval may be open
        return Multiplier(
            score=score,
            value=np.exp(log_m),
            low=np.exp(log_m - half),
            high=np.exp(log_m + half),
            p_value=2 * stdtr(degrees, -np.abs(log_m) / error),
            detectable=np.exp(half + stdtrit(degrees, POWER_OF_TEST) * error),
            level=level,
        )


def compare(
    fits: Mapping[str, Fit],
    *,
    score: float | None = None,
    level: float = 0.95,
    leads: str = "law",
    reference: str = "",
) -> tuple[Comparison, ...]:
    """Pairs of families at ``score``, or at the geometric middle of what both reached.

    Up to six families every pair, of more each family with ``reference`` (every pair without one).
    p-values are after Holm, over the pairs compared. Of each pair the family that needs less comes
    first.
    """
    errors = scatter(fits.values())
    curves = {name: interpolation(fitted, errors) for name, fitted in fits.items()}
    found, pairs = [], list(combinations(fits, 2))
    if len(fits) > ALL_PAIRS and reference in fits:
        pairs = [pair for pair in pairs if reference in pair]
    for first, second in pairs:
        pair = _pair(first, second, fits, curves, score, level, leads)
        found.append(_turned(pair) if pair.answer[0] < 1 else pair)
    adjusted = holm(np.array([pair.answer[3] for pair in found]))
    return tuple(
        replace(pair, p_adjusted=float(p)) for pair, p in zip(found, adjusted, strict=True)
    )


def _pair(
    family: str,
    other: str,
    fits: Mapping[str, Fit],
    curves: Mapping[str, Interpolation | str],
    score: float | None,
    level: float,
    leads: str,
) -> Comparison:
    a, b = fits[family], fits[other]
    numbers, reason = (np.nan,) * 5, ""
    at = np.nan if score is None else score
    try:
        if score is None:
            at = float(np.exp(np.log(overlap(a, b)).mean()))
        m = multiplier(a, b, score=np.array([at]), level=level)
        numbers = tuple(float(v[0]) for v in (m.value, m.low, m.high, m.p_value, m.detectable))
    except ValueError as error:
        reason = str(error)
    beside = interpolated(
        curves[family], curves[other], score=None if np.isnan(at) else at, level=level
    )
    return Comparison(
        family=family,
        other=other,
        score=beside.score if np.isnan(at) else at,
        value=numbers[0],
        low=numbers[1],
        high=numbers[2],
        p_value=numbers[3],
        p_adjusted=np.nan,
        detectable=numbers[4],
        interpolated=beside,
        leads=leads,
        reason=reason,
    )


def _turned(pair: Comparison) -> Comparison:
    """The same comparison with the families in the other order."""
    beside = pair.interpolated
    return replace(
        pair,
        family=pair.other,
        other=pair.family,
        value=1 / pair.value,
        low=1 / pair.high,
        high=1 / pair.low,
        interpolated=replace(
            beside, value=1 / beside.value, low=1 / beside.high, high=1 / beside.low
        ),
    )


def holm(p_values: np.ndarray) -> np.ndarray:
    """p-values that hold for all of them together (Holm 1979); NaN stay and don't count."""
    known = np.flatnonzero(~np.isnan(p_values))
    order = known[np.argsort(p_values[known], kind="stable")]
    adjusted = np.full(len(p_values), np.nan)
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(factors * p_values[order]), 1)
    return adjusted


def span(fitted: Fit) -> tuple[float, float]:
    """The lowest and highest score of the law within its own sizes."""
    z = np.log([fitted.x[0].min(), fitted.x[0].max()]) - fitted.centre[0]
    high, low = np.exp(fitted.law.evaluate(fitted.working[None], z[None])[0][0])
    return float(low), float(high)


def _inverse(fitted: Fit, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """log cost (n,) at which the law gives ``score``, and its derivative (p, n) by working u."""
    law, u = fitted.law, fitted.working[None]
    low, high = np.log([fitted.x[0].min(), fitted.x[0].max()]) - fitted.centre[0] + [-1e-6, 1e-6]
    low, high = np.full(len(score), low), np.full(len(score), high)
    for _ in range(HALVINGS):
        z = (low + high) / 2
        above = law.evaluate(u, z[None])[0][0] > np.log(score)
        low, high = np.where(above, z, low), np.where(above, high, z)
    z, target = (low + high) / 2, np.log(score)
    for _ in range(NEWTONS):
        slope = _slope(law, u, z)
        z = np.clip(z - (law.evaluate(u, z[None])[0][0] - target) / slope, low, high)
    _, derivative = law.evaluate(u, z[None])
    return z + fitted.centre[0], -derivative[0] / _slope(law, u, z)


def _slope(law: Law, u: np.ndarray, z: np.ndarray) -> np.ndarray:
    """The derivative of the log score by the log size."""
    high, low = (law.evaluate(u, z[None] + h)[0][0] for h in (STEP, -STEP))
    return (high - low) / (2 * STEP)


@dataclass(frozen=True, kw_only=True)
class Claims:
    """Every comparison that the study allows; ``refused`` says which it doesn't and why.

    ``multipliers`` are of each family against ``reference`` over all scores, by their laws;
    ``interpolated`` the same by interpolation, empty where the laws lead. ``comparisons`` are of
    every pair at one score, by laws and by interpolation, with p-values after Holm. ``points`` are
    the Pareto front, ``slices`` the families at equal costs.
    """

    reference: str
    multipliers: dict[str, Multiplier]
    interpolated: dict[str, tuple[Interpolated, ...]]
    comparisons: tuple[Comparison, ...]
    points: pl.DataFrame
    slices: tuple[Slice, ...]
    ranks: Ranks | None
    refused: tuple[str, ...]


def claims(study: Study, *, reference: str | None = None, at: float | None = None) -> Claims:
    """Compare the families of ``study``; ``reference`` is "dense" where there is one.

    ``at`` is the score at which pairs are compared, by default the middle of what both reached.

    Raises:
        ValueError: if ``reference`` is not a family of the study, or ``at`` not positive.
    """
    if at is not None and not 0 < at < np.inf:
        raise ValueError(f"families are compared at a positive score, got {at:g}")
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
        interpolated=over_scores(fits, reference, study.level) if study.shape.questioned else {},
        comparisons=comparisons,
        points=pareto(
            finished(study.runs),
            cost=columns.size,
            score=columns.score,
            family=columns.family,
            apart=apart(study),
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

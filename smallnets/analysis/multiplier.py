"""The efficiency multiplier: how many times less of a cost one family needs for the same score.

With N_f(L) the cost at which the law of family f reaches the score L,

    m(L) = N_b(L) / N_a(L),

above 1 where ``a`` needs less than ``b``. Both laws are fitted apart; the interval is the delta
method on log m with Student's t (degrees of freedom after Welch and Satterthwaite), on runs and on
size means, the wider counting. Nothing is said outside the scores that both families reached
within their own sizes.
"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy import stats
from scipy.optimize import brentq

from smallnets.analysis.bands import covariances
from smallnets.analysis.fit import Fit

STEP = 1e-5


@dataclass(frozen=True, kw_only=True)
class Multiplier:
    """m at each ``score`` (n,) with its interval, and the p-value of m = 1, point by point."""

    score: np.ndarray
    value: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p_value: np.ndarray
    level: float


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two families at one score; ``p_adjusted`` is corrected for all pairs (Holm 1979).

    Where nothing can be said, the numbers are NaN and ``reason`` says why.
    """

    family: str
    other: str
    score: float
    value: float
    low: float
    high: float
    p_value: float
    p_adjusted: float
    reason: str


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
    half, p_value = np.zeros_like(score), np.zeros_like(score)
    spread_a, spread_b = covariances(a), covariances(b)
    for method in spread_a.keys() & spread_b.keys():
        parts = [
            (np.einsum("pn,pq,qn->n", g, c.matrix, g), c.degrees_of_freedom)
            for g, c in ((gradient_a, spread_a[method]), (gradient_b, spread_b[method]))
        ]
        variance = np.maximum(sum(v for v, _ in parts), 1e-300)
        degrees = variance**2 / np.maximum(sum(v**2 / d for v, d in parts), 1e-300)
        error = np.sqrt(variance)
        half = np.maximum(half, stats.t.ppf(0.5 + level / 2, degrees) * error)
        p_value = np.maximum(p_value, 2 * stats.t.sf(np.abs(log_m) / error, degrees))
    return Multiplier(
        score=score,
        value=np.exp(log_m),
        low=np.exp(log_m - half),
        high=np.exp(log_m + half),
        p_value=p_value,
        level=level,
    )


def compare(fits: dict[str, Fit], *, level: float = 0.95) -> tuple[Comparison, ...]:
    """Every pair of families at the geometric middle of their overlap, p-values after Holm.

    Of each pair the family that needs less comes first.
    """
    found = []
    for first, second in combinations(fits, 2):
        try:
            middle = np.sqrt(np.prod(overlap(fits[first], fits[second])))
            m = multiplier(fits[first], fits[second], score=np.array([middle]), level=level)
            numbers = (m.value[0], m.low[0], m.high[0])
            swapped = numbers[0] < 1
            if swapped:
                numbers = (1 / numbers[0], 1 / numbers[2], 1 / numbers[1])
            names = (second, first) if swapped else (first, second)
            found.append((*names, float(middle), *map(float, numbers), float(m.p_value[0]), ""))
        except ValueError as error:
            found.append((first, second, *(float("nan"),) * 5, str(error)))
    adjusted = holm(np.array([line[6] for line in found]))
    return tuple(
        Comparison(
            family=family,
            other=other,
            score=score,
            value=value,
            low=low,
            high=high,
            p_value=p_value,
            p_adjusted=float(p_adjusted),
            reason=reason,
        )
        for (family, other, score, value, low, high, p_value, reason), p_adjusted in zip(
            found, adjusted, strict=True
        )
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
    ends = np.log([fitted.x[0].min(), fitted.x[0].max()]) - fitted.centre[0] + [-1e-6, 1e-6]

    def above(z: float, target: float) -> float:
        return float(law.evaluate(u, np.array([[z]]))[0][0, 0]) - target

    z = np.array([brentq(above, *ends, args=(t,), xtol=1e-12) for t in np.log(score)])
    _, derivative = law.evaluate(u, z[None])
    high, low = (law.evaluate(u, z[None] + h)[0][0] for h in (STEP, -STEP))
    return z + fitted.centre[0], -derivative[0] / ((high - low) / (2 * STEP))

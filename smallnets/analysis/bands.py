"""Bands around a fitted curve, and the covariance that they and the multiplier rest on.

Delta method: the variance of the log prediction is j' C j, with j its derivative by the working
parameters and C = s^2 (J' J)^-1. As for the intervals it is computed from the runs and from the
size means, and the larger counts, with its own degrees of freedom.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from smallnets.analysis.fit import Fit, at_boundary, influence, last_delta
from smallnets.analysis.intervals import size_means


@dataclass(frozen=True, kw_only=True)
class Covariance:
    """Covariance (p, p) of the working parameters and the degrees of freedom behind it."""

    matrix: np.ndarray
    degrees_of_freedom: int


@dataclass(frozen=True, kw_only=True)
class Band:
    """The curve (n,) at ``x`` with a band for its mean and one for a single further run."""

    x: np.ndarray
    curve: np.ndarray
    mean_low: np.ndarray
    mean_high: np.ndarray
    run_low: np.ndarray
    run_high: np.ndarray
    level: float


def covariances(fitted: Fit) -> dict[str, Covariance]:
    """From the "runs" and from the "size means", where there are degrees of freedom left."""
    law, z = fitted.law, np.log(fitted.x) - fitted.centre[:, None]
    _, derivative = law.evaluate(fitted.working[None], z)
    slope, _ = influence(fitted.residuals, last_delta(fitted.delta))
    flat = np.abs(fitted.residuals) <= last_delta(fitted.delta)
    share = max((fitted.weights * flat).sum() / fitted.weights.sum(), 1 / len(flat))
    free = ~at_boundary(law, z, fitted.working[None])[0]
    found = {}
    degrees = len(fitted.score) - law.size
    if degrees > 0:
        variance = (fitted.weights * slope**2).sum() / (degrees * share**2)
        scaled = derivative[0] * np.sqrt(fitted.weights)
        found["runs"] = _covariance(scaled, free, variance, degrees)
    sizes, means = size_means(fitted.x, np.stack([fitted.residuals, *derivative[0]]))
    degrees = sizes.shape[1] - law.size
    if degrees > 0:
        variance = (means[0] ** 2).sum() / degrees
        found["size means"] = _covariance(means[1:], free, variance, degrees)
    return found


def _covariance(
    derivative: np.ndarray, free: np.ndarray, variance: float, degrees: int
) -> Covariance:
    matrix = np.zeros((len(free), len(free)))
    inner = derivative[free] @ derivative[free].T
    matrix[np.ix_(free, free)] = variance * np.linalg.pinv(inner, rcond=1e-12, hermitian=True)
    return Covariance(matrix=matrix, degrees_of_freedom=degrees)


def half_width(fitted: Fit, directions: np.ndarray, *, level: float) -> np.ndarray:
    """Half the interval of each u . direction (p, n): the wider of runs and means, or infinite."""
    widths = [
        stats.t.ppf(0.5 + level / 2, c.degrees_of_freedom)
        * np.sqrt(np.maximum(np.einsum("pn,pq,qn->n", directions, c.matrix, directions), 0))
        for c in covariances(fitted).values()
    ]
    return np.max(widths, axis=0) if widths else np.full(directions.shape[1], np.inf)


def band(fitted: Fit, x: np.ndarray, *, level: float = 0.95) -> Band:
    """Mean band and prediction band of ``fitted`` at the sizes ``x``, (n,) or (variables, n)."""
    x = np.atleast_2d(np.asarray(x, float))
    z = np.log(x) - fitted.centre[:, None]
    value, derivative = fitted.law.evaluate(fitted.working[None], z)
    mean = half_width(fitted, derivative[0], level=level)
    degrees = max(fitted.degrees_of_freedom, 1)
    spread = stats.t.ppf(0.5 + level / 2, degrees) * np.sqrt(
        (fitted.weights * fitted.residuals**2).sum()
        / fitted.weights.sum()
        * len(fitted.residuals)
        / degrees
    )
    run = np.hypot(mean, spread)
    return Band(
        x=x,
        curve=np.exp(value[0]),
        mean_low=np.exp(value[0] - mean),
        mean_high=np.exp(value[0] + mean),
        run_low=np.exp(value[0] - run),
        run_high=np.exp(value[0] + run),
        level=level,
    )

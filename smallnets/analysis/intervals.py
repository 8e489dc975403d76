"""Intervals for the parameters of a law, by profile likelihood, and bands for its curve.

The profile of a parameter is the lowest objective with that parameter held; the interval is where

    Q_profile <= Q + F / 2 * sum(slope^2) / (degrees of freedom * mean(curvature)),

which for least squares is the usual RSS <= RSS (1 + F / (n - p)), and for a robust objective the
scaled likelihood ratio of M-estimators (Huber & Ronchetti 2009, section 7). F is the quantile of
F(1, n - p). It is computed twice: on the runs, which trusts that runs of one size err
independently, and on the mean log score of each size, with S - p degrees of freedom, which allows
an error that all seeds of a size share (a learning rate tuned a little better at one width than
at another). The wider is the headline.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from smallnets.analysis.fit import Fit, centred, descend, influence, last_delta, loss, start
from smallnets.analysis.laws import Law

REACH = 40.0  # how far a profile is followed, in working units, before it counts as open


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An interval for one parameter, ``method`` naming the wider: "runs" or "size means".

    ``low`` and ``high`` are the headline; ``runs`` and ``means`` the two it was taken from. An open
    side is 0 or infinite. Where the data can't say, ``method`` is "not identifiable".
    """

    parameter: str
    estimate: float
    low: float
    high: float
    level: float
    method: str
    runs: tuple[float, float]
    means: tuple[float, float]

    def __str__(self) -> str:
        if self.method == NOT_IDENTIFIABLE:
            return NOT_IDENTIFIABLE
        return f"{self.low:.3g} to {self.high:.3g}"


NOT_IDENTIFIABLE = "not identifiable"


def intervals(fitted: Fit, *, level: float = 0.95) -> tuple[Interval, ...]:
    """The interval of every parameter of ``fitted``.

    Raises:
        ValueError: if ``level`` is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise ValueError(f"the level of an interval lies between 0 and 1, got {level}")
    law = fitted.law
    if not fitted.identifiable:
        open_ = (-np.inf, np.inf)
        return tuple(
            Interval(
                parameter=name,
                estimate=fitted.parameters[name],
                low=open_[0],
                high=open_[1],
                level=level,
                method=NOT_IDENTIFIABLE,
                runs=open_,
                means=open_,
            )
            for name in law.parameters
        )
    _, z = centred(law, fitted.x)
    on_runs = profile(
        law,
        z,
        np.log(fitted.score)[None],
        fitted.weights[None],
        fitted.centre,
        fitted.working[None],
        delta=fitted.delta,
        level=level,
    )
    x, y = size_means(fitted.x, np.log(fitted.score))
    z = np.log(x) - fitted.centre[:, None]
    on_means = profile(law, z, y[None], np.ones_like(y[None]), fitted.centre, level=level)
    return tuple(
        _headline(name, fitted.parameters[name], on_runs[i, 0], on_means[i, 0], level)
        for i, name in enumerate(law.parameters)
    )


def size_means(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct columns of ``x`` (v, n) and the mean of ``y`` (..., n) at each."""
    sizes, place = np.unique(x, axis=1, return_inverse=True)
    share = np.eye(sizes.shape[1])[place.ravel()]
    return sizes, y @ (share / share.sum(axis=0))


def profile(
    law: Law,
    z: np.ndarray,
    y: np.ndarray,
    weights: np.ndarray,
    centre: np.ndarray,
    u: np.ndarray | None = None,
    *,
    delta: float = np.inf,
    level: float = 0.95,
) -> np.ndarray:
    """Profile intervals (p, l, 2) of every natural parameter for the data sets ``y`` (l, n)."""
    if u is None:
        u, _, _ = descend(law, z, y, weights, start(law, z, y, weights, delta=delta), delta=delta)
    smooth = last_delta(delta)
    residuals = y - law.evaluate(u, z)[0]
    best = (weights * loss(residuals, smooth)).sum(axis=1)
    slope, _ = influence(residuals, smooth)
    spread = np.broadcast_to(weights, y.shape)
    flat = np.abs(residuals) <= smooth
    degrees = y.shape[1] - law.size
    curvature = np.maximum((spread * flat).sum(axis=1) / spread.sum(axis=1), 1 / y.shape[1])
    quantile = stats.f.ppf(level, 1, degrees)
    allowed = 0.5 * quantile * (spread * slope**2).sum(axis=1) / (degrees * curvature)
    matrix, offset = law.natural(centre)
    sides = np.empty((law.size, len(y), 2))
    for i in range(law.size):
        for side, sign in enumerate((-1.0, 1.0)):
            edge = _edge(law, z, y, weights, u, best, allowed, matrix[i], sign, delta)
            edge = edge + offset[i]
            sides[i, :, side] = np.exp(edge) if law.positive[i] else edge
    return sides


def _edge(
    law: Law,
    z: np.ndarray,
    y: np.ndarray,
    weights: np.ndarray,
    u: np.ndarray,
    best: np.ndarray,
    allowed: np.ndarray,
    direction: np.ndarray,
    sign: float,
    delta: float,
) -> np.ndarray:
    """Where the profile along ``direction`` . u leaves the allowed objective, infinite if never.

    Doubling steps bracket the crossing; inside the bracket the square root of the excess, which is
    nearly linear, is interpolated (regula falsi in the form of Illinois).
    """
    free = np.linalg.svd(direction[None])[2][1:].T
    unit = direction / (direction @ direction)
    floor = y.min(axis=1, keepdims=True) - 9
    term = (np.arange(law.size) < law.linear) & (not law.log_linear)
    u = np.where(term & (u < floor), floor, u)

    def excess(value: np.ndarray, guess: np.ndarray, lanes: np.ndarray) -> tuple[np.ndarray, ...]:
        # A vanished term has no slope: lift it so that it may come back.
        guess = np.where(term & (guess < floor[lanes]), floor[lanes], guess)
        guess = guess + (value - guess @ direction)[:, None] * unit
        w = weights if len(weights) == 1 else weights[lanes]
        found, _, _ = descend(law, z, y[lanes], w, guess, delta=delta, free=free, tolerance=1e-6)
        objective = (w * loss(y[lanes] - law.evaluate(found, z)[0], last_delta(delta))).sum(axis=1)
        return found, np.sqrt(np.maximum(objective - best[lanes], 0) / allowed[lanes]) - 1

    lanes = np.arange(len(y))
    origin = u @ direction
    inside, inside_u, inside_f = origin.copy(), u.copy(), np.full(len(y), -1.0)
    outside, outside_f = np.full(len(y), sign * np.inf), np.full(len(y), np.nan)
    length, searching = 0.05, lanes[allowed > 0]
    while searching.size and length <= REACH:
        value = origin[searching] + sign * length
        found, f = excess(value, inside_u[searching], searching)
        out = f > 0
        outside[searching[out]], outside_f[searching[out]] = value[out], f[out]
        stay = searching[~out]
        inside[stay], inside_u[stay], inside_f[stay] = value[~out], found[~out], f[~out]
        searching, length = stay, length * 2
    closed = lanes[np.isfinite(outside)]
    edge = outside.copy()
    for _ in range(20):
        if not closed.size:
            break
        a, b, fa, fb = inside[closed], outside[closed], inside_f[closed], outside_f[closed]
        value = (a * fb - b * fa) / (fb - fa)
        found, f = excess(value, inside_u[closed], closed)
        edge[closed] = value
        out = f > 0
        hit, miss = closed[out], closed[~out]
        outside[hit], outside_f[hit] = value[out], f[out]
        inside_f[hit] *= 0.5
        inside[miss], inside_u[miss], inside_f[miss] = value[~out], found[~out], f[~out]
        outside_f[miss] *= 0.5
        wide = (np.abs(f) > 1e-4) & (np.abs(outside[closed] - inside[closed]) > 1e-6)
        closed = closed[wide]
    return edge


def _headline(
    name: str, estimate: float, runs: np.ndarray, means: np.ndarray, level: float
) -> Interval:
    wider_means = not (means[1] - means[0] < runs[1] - runs[0])
    low, high = means if wider_means else runs
    method = "size means" if wider_means else "runs"
    return Interval(
        parameter=name,
        estimate=estimate,
        low=float(low),
        high=float(high),
        level=level,
        method=NOT_IDENTIFIABLE if np.isinf(high) else method,
        runs=(float(runs[0]), float(runs[1])),
        means=(float(means[0]), float(means[1])),
    )

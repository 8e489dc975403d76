"""The one fitter: a grid over the shapes for the start, Levenberg-Marquardt, then Newton.

The objective of runs i with score L_i, weight w_i and law f in working parameters u is

    Q(u) = sum_i w_i rho(log L_i - f(x_i; u)),

rho(r) = r^2 / 2 up to ``delta`` and delta (|r| - delta / 2) beyond (Huber 1964): ``delta`` infinite
is least squares on the logarithm of the score, zero is least absolute deviation, rho(r) = |r|.
Always the sum, in float64. Everything that is said of a fit (its intervals, bands, criterion and
tests) rests on this one objective, whatever delta and weights are. Least squares see of the runs of
a size their mean alone, so that the descent does too.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.optimize import leastsq

from smallnets.analysis.laws import Law

Observed = tuple[np.ndarray, np.ndarray, np.ndarray]  # z (v, n), log scores and weights (n,)

EVALUATIONS, PULLED = 4000, 400
LIMIT = 5  # the status of MINPACK that says that evaluations ran out
TOLERANCE = 1e-12  # of the objective
# Of a break that the data don't have the valley is flat, and Levenberg-Marquardt takes thousands of
# steps along it: from here on Newton goes, who sees all of the curvature.
MANY, VALLEY = 6, 1e-4
STEPS, ENOUGH, LONGEST = 60, 1e-7, 2.0
DIFFERENCE = 1e-5  # of working parameters, for second derivatives
FIRST_STEP = 1  # in lengths of the start: exponentials bear no larger one
FLOOR = 1e-6  # a term below this share of the score at every run is at its boundary, zero
SMALLEST = 1e-9  # the threshold that stands for zero
GRID_POINTS = 64  # sizes that the start looks at: a grid over all of 50,000 would need gigabytes


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A law fitted to runs: the optimum and what is needed to judge and use it.

    ``x`` (v, n), ``score`` (n,) and ``weights`` (n,) are of the runs kept; ``dropped`` says which
    were not and why. ``objective`` is Q above, ``gradient_norm`` the length of its gradient in
    working parameters; ``converged`` is False where the descent ended at its limit. ``boundary``
    names parameters that went to zero. ``residuals`` are log score minus log law. ``parameters``
    are the natural ones, those that the law has pinned among them.
    """

    law: Law
    parameters: dict[str, float]
    working: np.ndarray
    centre: np.ndarray
    x: np.ndarray
    score: np.ndarray
    weights: np.ndarray
    residuals: np.ndarray
    delta: float
    objective: float
    gradient_norm: float
    converged: bool
    degrees_of_freedom: int
    sizes: int
    dropped: tuple[str, ...]
    boundary: tuple[str, ...]

    @property
    def identifiable(self) -> bool:
        """Whether there are two sizes more than parameters, the least that leaves an interval."""
        return self.sizes >= self.law.size + 2

    @property
    def z(self) -> np.ndarray:
        """The centred logarithms (v, n) of the sizes."""
        return np.log(self.x) - self.centre[:, None]

    @cached_property
    def place(self) -> np.ndarray:
        """Which of the distinct sizes, in increasing order, each run (n,) has."""
        return np.unique(self.x, axis=1, return_inverse=True)[1].ravel()

    @cached_property
    def observed(self) -> Observed:
        """z, log scores and weights that the objective depends on (see :func:`means`)."""
        return means(self.z, np.log(self.score), self.weights, self.delta)

    @cached_property
    def size_weights(self) -> np.ndarray:
        """The summed weight of the runs of each size."""
        return np.bincount(self.place, self.weights)

    @cached_property
    def slopes(self) -> np.ndarray:
        """rho' of each run's residual: the residual itself in least squares, clipped by delta."""
        delta = threshold(self.delta)
        return np.clip(self.residuals, -delta, delta)

    @cached_property
    def size_slopes(self) -> np.ndarray:
        """The weighted mean of rho' over the runs of each size."""
        return np.bincount(self.place, self.weights * self.slopes) / self.size_weights

    @property
    def curvature(self) -> float:
        """The mean of rho'' over the runs: 1 in least squares.

        With a threshold far below the noise hardly a residual lies within it, so that a share of
        them says little: rho'' is then estimated from as many as half of the residuals (the density
        at zero, as for least absolute deviation).
        """
        if np.isinf(self.delta):
            return 1.0
        delta, size = threshold(self.delta), np.abs(self.residuals)
        reach = max(delta, float(np.median(size)))
        return float(delta / reach * (self.weights * (size <= reach)).sum() / self.weights.sum())


def fit(
    law: Law,
    x: np.ndarray,
    score: np.ndarray,
    *,
    delta: float = np.inf,
    weights: np.ndarray | None = None,
) -> Fit:
    """Fit ``law`` to ``score`` (n,) at ``x``, (n,) or (variables, n), lower scores being better.

    Runs whose score is not a positive finite number can't be taken the logarithm of: they are left
    out and counted in ``dropped``.

    Raises:
        ValueError: if the shapes disagree, a size or weight is not a positive finite number, delta
            is negative, or fewer distinct sizes are left than the law has parameters.
    """
    x, score = np.atleast_2d(np.asarray(x, float)), np.asarray(score, float)
    if x.shape != (len(law.variables), len(score)):
        raise ValueError(
            f"{law.name} needs {len(law.variables)} x {len(score)} sizes for as many scores, "
            f"got {x.shape[0]} x {x.shape[1]}"
        )
    weights = np.ones(len(score)) if weights is None else np.asarray(weights, float)
    for what, values in (("sizes", x), ("weights", weights)):
        if not (np.isfinite(values) & (values > 0)).all():
            raise ValueError(f"{what} must be positive finite numbers")
    if not delta >= 0:
        raise ValueError(f"delta must be 0 (absolute deviation) or larger, got {delta}")
    usable = np.isfinite(score) & (score > 0)
    dropped = _reasons(score)
    x, score, weights = x[:, usable], score[usable], weights[usable]
    sizes = np.unique(x, axis=1).shape[1] if score.size else 0
    if sizes < law.size:
        raise ValueError(
            f"{law.name} has {law.size} parameters and needs at least {law.size} sizes, got {sizes}"
        )
    centre, z = centred(law, x)
    y = np.log(score)
    u = start(law, z, y, weights, delta=delta)
    if delta == 0:  # each threshold starts where the one before ended
        spread = max(float(np.abs(y - law.evaluate(u[None], z)[0][0]).mean()), 1e-8)
        for step in np.geomspace(spread, SMALLEST, 18)[:-1]:
            u, _ = descend(law, z, y, weights, u, delta=step)
    u, converged = descend(law, *means(z, y, weights, delta), u, delta=threshold(delta))
    prediction, derivative = law.evaluate(u[None], z)
    residuals, bound = y - prediction[0], threshold(delta)
    gradient = derivative[0] @ (weights * np.clip(residuals, -bound, bound))
    matrix, offset = law.natural(centre)
    boundary = tuple(law.parameters[i] for i in at_boundary(law, z, u).nonzero()[0])
    parameters = dict(law.pins) | {
        name: 0.0 if name in boundary else float(np.exp(value) if positive else value)
        for name, value, positive in zip(
            law.parameters, matrix @ u + offset, law.positive, strict=True
        )
    }
    objective = np.abs(residuals) if delta == 0 else loss(residuals, delta)
    return Fit(
        law=law,
        parameters=parameters,
        working=u,
        centre=centre,
        x=x,
        score=score,
        weights=weights,
        residuals=residuals,
        delta=delta,
        objective=float((weights * objective).sum()),
        gradient_norm=float(np.linalg.norm(gradient)),
        converged=converged,
        degrees_of_freedom=len(score) - law.size,
        sizes=sizes,
        dropped=dropped,
        boundary=boundary,
    )


def predict(fitted: Fit, x: np.ndarray) -> np.ndarray:
    """The score (n,) that the fitted law gives at ``x``, (n,) or (variables, n)."""
    z = np.log(np.atleast_2d(np.asarray(x, float))) - fitted.centre[:, None]
    return np.exp(fitted.law.evaluate(fitted.working[None], z)[0][0])


def centred(law: Law, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The log centre (v,) of each variable and the centred logarithms (v, n) of ``x``."""
    logs = np.log(x)
    centre = np.where(law.centred[: len(logs)], logs.mean(axis=1), 0.0)
    return centre, logs - centre[:, None]


def threshold(delta: float) -> float:
    """Zero stands for a threshold so small that the descent ends on a vertex."""
    return delta if delta > 0 else SMALLEST


def loss(residuals: np.ndarray, delta: float) -> np.ndarray:
    """rho of each residual."""
    slope = np.clip(residuals, -delta, delta)
    return slope * (residuals - 0.5 * slope)


def means(z: np.ndarray, y: np.ndarray, weights: np.ndarray, delta: float) -> Observed:
    """What the objective depends on but for a constant: in least squares the mean of each size."""
    if np.isfinite(delta):
        return z, y, weights
    sizes, place = np.unique(z, axis=1, return_inverse=True)
    total = np.bincount(place.ravel(), weights)
    return sizes, np.bincount(place.ravel(), weights * y) / total, total


def start(
    law: Law, z: np.ndarray, y: np.ndarray, weights: np.ndarray, *, delta: float = np.inf
) -> np.ndarray:
    """A start (p,): the best point of a grid over the shapes of the law.

    At every grid point the linear parameters solve a least-squares problem on the median of each
    size; where a term must be positive, every subset of the terms is tried. The candidate with the
    lowest objective wins. Of more than 64 sizes as many are looked at, evenly in their order.
    """
    z, y, weights = _medians(z, y, weights)
    whole = law.free_law or law
    (shapes, features), terms = whole.grid(z), whole.linear
    # Relative errors stand for logarithmic ones: weight 1 / score^2, target 1. The unit is a middle
    # score, since squares of 1e200 are beyond a double.
    unit = 0.0 if law.log_linear else y.mean()
    target = y if law.log_linear else np.exp(y - unit)
    w = weights if law.log_linear else weights / target**2
    normal = (features * w) @ features.swapaxes(1, 2)
    right = features @ (w * target)
    found, values, log = [], [], np.asarray if law.log_linear else np.log
    for subset in [list(range(terms))] if law.log_linear else _subsets(terms):
        block = normal[:, subset][:, :, subset]
        ridge = 1e-12 * np.einsum("gii->g", block)[:, None, None] * np.eye(len(subset))
        linear = np.zeros_like(right)
        linear[:, subset] = np.linalg.solve(block + ridge, right[:, subset, None])[..., 0]
        allowed = (linear[:, subset] > 0).all(axis=1) | law.log_linear
        u = linear[allowed]
        if not law.log_linear:
            u = np.maximum(u, 1e-2 * target.min())
        values.append(unit + log(np.einsum("gj,gjn->gn", u, features[allowed])))
        found.append(np.concatenate([unit + log(u), shapes[allowed]], axis=1))
    candidates, value = np.concatenate(found), np.concatenate(values)
    if law.pins:  # which move the prediction off the grid
        held = [whole.parameters.index(name) for name, _ in law.pins]
        candidates = np.delete(candidates, held, axis=1)
        value = law.evaluate(candidates, z)[0]
    objective = (weights * loss(y - value, threshold(delta))).sum(axis=1)
    return candidates[objective.argmin()]


def descend(
    law: Law,
    z: np.ndarray,
    y: np.ndarray,
    weights: np.ndarray,
    u: np.ndarray,
    *,
    delta: float = np.inf,
    tolerance: float | None = None,
    pull: Callable | None = None,
) -> tuple[np.ndarray, bool]:
    """Descend from ``u`` (p,): the optimum (p,) and whether the descent converged.

    Huber's loss is the square of a residual that grows like a root beyond ``delta``. ``pull`` maps
    u to one residual more and its gradient (p,), which a profile adds.
    """
    if tolerance is None:
        tolerance = TOLERANCE if law.size < MANY else VALLEY
    root_weights = np.sqrt(weights)
    last: dict[bytes, tuple] = {}

    def at(u: np.ndarray) -> tuple:
        if (known := last.get(u.tobytes())) is None:
            value, derivative = law.evaluate(u[None], z)
            root, slope = _root(y - value[0], delta)
            known = root_weights * root, -root_weights * slope * derivative[0]
            if pull is not None:
                further, gradient = pull(u)
                known = np.append(known[0], further), np.column_stack([known[1], gradient])
            last.clear()
            last[u.tobytes()] = known
        return known

    with np.errstate(all="ignore"):  # of trial steps, which are then refused
        found, *_, status = leastsq(
            lambda u: at(u)[0],
            u,
            Dfun=lambda u: at(u)[1],
            col_deriv=True,
            full_output=True,
            ftol=tolerance,
            xtol=tolerance,
            maxfev=EVALUATIONS if pull is None else PULLED,
            factor=FIRST_STEP,
        )
    if pull is None and (law.size >= MANY or np.isfinite(delta)):
        return _newton(law, z, y, weights, found, delta)
    return found, status != LIMIT


def at_boundary(law: Law, z: np.ndarray, u: np.ndarray, share: float = FLOOR) -> np.ndarray:
    """Which positive linear parameters (p,) add less than a ``share`` of the score at every run."""
    _, derivative = law.evaluate(u[None], z)
    term = (np.arange(law.size) < law.linear) & (not law.log_linear)
    return term & (np.abs(derivative[0]).max(axis=1) < share)


def _root(residuals: np.ndarray, delta: float) -> tuple[np.ndarray, np.ndarray]:
    """The residual whose half square is rho, with its derivative."""
    size = np.abs(residuals)
    far = size > delta
    if not far.any():
        return residuals, np.ones_like(residuals)
    root = np.where(far, np.sqrt(np.maximum(2 * delta * size - delta**2, 1e-300)), size)
    return np.sign(residuals) * root, np.where(far, delta / np.maximum(root, 1e-300), 1.0)


def second_order(
    law: Law, z: np.ndarray, y: np.ndarray, weights: np.ndarray, u: np.ndarray, delta: float
) -> tuple[float, np.ndarray, np.ndarray]:
    """The objective at ``u`` with gradient (p,) and Hessian (p, p), of central differences."""
    moves = DIFFERENCE * np.eye(len(u))
    value, derivative = law.evaluate(np.concatenate([u[None], u + moves, u - moves]), z)
    residuals = y - value[0]
    slope = weights * np.clip(residuals, -delta, delta)
    ups, downs = np.split(derivative[1:] @ slope, 2)
    curvature = (ups - downs) / (2 * DIFFERENCE)
    flat = derivative[0] * (weights * (np.abs(residuals) <= delta))
    hessian = flat @ derivative[0].T - (curvature + curvature.T) / 2
    return float((weights * loss(residuals, delta)).sum()), -derivative[0] @ slope, hessian


def _newton(
    law: Law, z: np.ndarray, y: np.ndarray, weights: np.ndarray, u: np.ndarray, delta: float
) -> tuple[np.ndarray, bool]:
    """Damped steps of Newton's, in absolute curvatures, until the objective falls no more."""
    damping, enough = 1e-3, TOLERANCE if law.size < MANY else ENOUGH
    with np.errstate(all="ignore"):  # of trial steps, which are then refused
        best, gradient, hessian = second_order(law, z, y, weights, u, delta)
        for _ in range(STEPS):
            if not np.isfinite(hessian).all():
                return u, False
            curvature, axes = np.linalg.eigh(hessian)
            curvature = np.maximum(np.abs(curvature), 1e-14 * np.abs(curvature).max() + 1e-300)
            slope = axes.T @ gradient
            for _ in range(12):
                step = -axes @ (slope / (curvature + damping))
                step *= min(1.0, LONGEST / max(np.linalg.norm(step), 1e-300))
                residuals = y - law.evaluate((u + step)[None], z)[0][0]
                if (value := float((weights * loss(residuals, delta)).sum())) < best:
                    break
                damping *= 8
            else:
                return u, True
            u, damping = u + step, damping / 10
            if best - value < enough * best:
                return u, True
            best, gradient, hessian = second_order(law, z, y, weights, u, delta)
    return u, False


def _medians(z: np.ndarray, y: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, ...]:
    """The sizes (v, s), the median of y at each (s,) and their weights (s,)."""
    sizes, place = np.unique(z, axis=1, return_inverse=True)
    place = place.ravel()
    weights = np.bincount(place, weights)
    order = np.lexsort([y, place])
    ends = np.searchsorted(place[order], np.arange(len(weights) + 1))
    middle = y[order[(ends[:-1] + ends[1:] - 1) // 2]] + y[order[(ends[:-1] + ends[1:]) // 2]]
    kept = np.unique(np.linspace(0, len(weights) - 1, GRID_POINTS).astype(int))
    return sizes[:, kept], middle[kept] / 2, weights[kept]


def _subsets(terms: int) -> list[list[int]]:
    return [[j for j in range(terms) if code >> j & 1] for code in range(1, 2**terms)]


def _reasons(score: np.ndarray) -> tuple[str, ...]:
    counts = {
        "not a finite number": int((~np.isfinite(score)).sum()),
        "zero or negative, which has no logarithm": int((score <= 0).sum()),
    }
    return tuple(f"left out: {count} with a score {why}" for why, count in counts.items() if count)

"""The one fitter: variable projection for the start, then a robust Levenberg-Marquardt descent.

The objective of runs i with score L_i, weight w_i and law f in working parameters u is

    Q(u) = sum_i w_i rho(log L_i - f(x_i; u)),

rho(r) = r^2 / 2 up to ``delta`` and delta (|r| - delta / 2) beyond (Huber 1964): ``delta`` infinite
is least squares on the logarithm of the score, zero is least absolute deviation, rho(r) = |r|.
Always the sum, in float64. Data sets are fitted side by side in lanes.
"""

from dataclasses import dataclass

import numpy as np

from smallnets.analysis.laws import Law

ITERATIONS = 200
# The share of the tail that counts as curvature: none stalls Newton's method where few runs lie
# within delta, all of it is iteratively reweighted least squares, which needs four times the steps.
TAIL = 0.03
FLOOR = 1e-6  # a term below this share of the score at every run is at its boundary, zero


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A law fitted to runs: the optimum and what is needed to judge and use it.

    ``x`` (v, n) and ``score`` (n,) are the runs kept; ``dropped`` says which were not and why.
    ``objective`` is Q above, ``gradient_norm`` the length of its gradient in working parameters;
    ``boundary`` names parameters that went to zero. ``residuals`` are log score minus log law.
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
    degrees_of_freedom: int
    sizes: int
    iterations: int
    dropped: tuple[str, ...]
    boundary: tuple[str, ...]

    @property
    def identifiable(self) -> bool:
        """Whether there are two sizes more than parameters, the least that leaves an interval."""
        return self.sizes >= self.law.size + 2


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
        ValueError: if the shapes disagree, a size is not a positive finite number, delta is
            negative, or fewer distinct sizes are left than the law has parameters.
    """
    x, score = np.atleast_2d(np.asarray(x, float)), np.asarray(score, float)
    if x.shape != (len(law.variables), len(score)):
        raise ValueError(
            f"{law.name} needs {len(law.variables)} x {len(score)} sizes for as many scores, "
            f"got {x.shape[0]} x {x.shape[1]}"
        )
    if not (np.isfinite(x) & (x > 0)).all():
        raise ValueError("sizes must be positive finite numbers")
    if not delta >= 0:
        raise ValueError(f"delta must be 0 (absolute deviation) or larger, got {delta}")
    usable = np.isfinite(score) & (score > 0)
    dropped = _reasons(score)
    weights = np.ones(len(score)) if weights is None else np.asarray(weights, float)
    x, score, weights = x[:, usable], score[usable], weights[usable]
    sizes = len(np.unique(x, axis=1).T) if score.size else 0
    if sizes < law.size:
        raise ValueError(
            f"{law.name} has {law.size} parameters and needs at least {law.size} sizes, got {sizes}"
        )
    centre, z = centred(law, x)
    y = np.log(score)[None]
    u = start(law, z, y, weights[None], delta=delta)
    u, objective, iterations = descend(law, z, y, weights[None], u, delta=delta)
    residuals, derivative = _residuals(law, z, y, u)
    slope, _ = influence(residuals, last_delta(delta))
    gradient = (derivative @ (weights * slope)[..., None])[..., 0]
    matrix, offset = law.natural(centre)
    values = matrix @ u[0] + offset
    boundary = tuple(law.parameters[i] for i in at_boundary(law, z, u)[0].nonzero()[0])
    parameters = {
        name: 0.0 if name in boundary else float(np.exp(value) if positive else value)
        for name, value, positive in zip(law.parameters, values, law.positive, strict=True)
    }
    return Fit(
        law=law,
        parameters=parameters,
        working=u[0],
        centre=centre,
        x=x,
        score=score,
        weights=weights,
        residuals=residuals[0],
        delta=delta,
        objective=float(objective[0]),
        gradient_norm=float(np.linalg.norm(gradient)),
        degrees_of_freedom=len(score) - law.size,
        sizes=sizes,
        iterations=int(iterations[0]),
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


def last_delta(delta: float) -> float:
    """Zero stands for a threshold so small that the descent ends on a vertex."""
    return delta if delta > 0 else 1e-9


def loss(residuals: np.ndarray, delta: float) -> np.ndarray:
    """rho of each residual."""
    slope = np.clip(residuals, -delta, delta)
    return slope * (residuals - 0.5 * slope)


def influence(residuals: np.ndarray, delta: float) -> tuple[np.ndarray, np.ndarray]:
    """The slope rho' of each residual, and the curvature that the descent uses."""
    slope = np.clip(residuals, -delta, delta)
    if np.isinf(delta):
        return slope, np.ones_like(residuals)
    curvature = np.abs(residuals)
    flat = curvature <= delta
    np.divide(TAIL * delta, np.maximum(curvature, delta, out=curvature), out=curvature)
    curvature[flat] = 1.0
    return slope, curvature


def start(
    law: Law, z: np.ndarray, y: np.ndarray, weights: np.ndarray, *, delta: float = np.inf
) -> np.ndarray:
    """A start (l, p) for each lane: the best point of a grid over the shapes of the law.

    At every grid point the linear parameters solve a least-squares problem whose normal equations
    are, for all grid points and lanes at once, one matrix product; where a term must be positive,
    every subset of the terms is tried. The candidate with the lowest objective wins.
    """
    shapes, features = law.grid(z)
    y, weights = np.broadcast_arrays(y, weights)
    lanes, terms = len(y), features.shape[1]
    # Relative errors stand for logarithmic ones: weight 1 / score^2, target 1.
    scale = np.ones_like(y) if law.log_linear else np.exp(-y)
    target = y if law.log_linear else np.exp(y)
    w = weights * scale**2
    upper = [(i, j) for i in range(terms) for j in range(i, terms)]
    pairs = np.stack([features[:, i] * features[:, j] for i, j in upper], axis=1)
    products = np.einsum("gqn,ln->lgq", pairs, w, optimize=True)
    normal = np.empty((lanes, len(shapes), terms, terms))
    for q, (i, j) in enumerate(upper):
        normal[:, :, i, j] = normal[:, :, j, i] = products[:, :, q]
    right = np.einsum("gjn,ln->lgj", features, w * target, optimize=True)
    subsets = [range(terms)] if law.log_linear else _subsets(terms)
    best = np.full(lanes, np.inf)
    chosen = np.zeros((lanes, law.size))
    for subset in subsets:
        keep = list(subset)
        block = normal[..., keep, :][..., keep]
        ridge = 1e-12 * np.einsum("...ii->...", block)[..., None, None] * np.eye(len(keep))
        linear = np.zeros_like(right)
        linear[..., keep] = np.linalg.solve(block + ridge, right[..., keep, None])[..., 0]
        for lane in range(lanes):
            allowed = (linear[lane][:, keep] > 0).all(axis=1) | law.log_linear
            if not allowed.any():
                continue
            u = linear[lane][allowed]
            if not law.log_linear:
                u = np.log(np.maximum(u, 1e-2 * np.exp(y[lane].min())))
            u = np.concatenate([u, shapes[allowed]], axis=1)
            value = (weights[lane] * loss(y[lane] - law.evaluate(u, z)[0], delta)).sum(axis=1)
            if value.min() < best[lane]:
                best[lane], chosen[lane] = value.min(), u[value.argmin()]
    return chosen


def descend(
    law: Law,
    z: np.ndarray,
    y: np.ndarray,
    weights: np.ndarray,
    u: np.ndarray,
    *,
    delta: float = np.inf,
    free: np.ndarray | None = None,
    tolerance: float = 1e-15,
    limit: int = ITERATIONS,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Descend from ``u`` (l, p); return the optimum (l, p), Q (l,) and the iterations (l,).

    ``free`` (p, f) spans the directions that may change (all, by default): a profile holds the
    rest. y and weights are (l, n) or (1, n). A lane ends when a step promises less than
    ``tolerance`` of Q, or at the ``limit`` of iterations. A threshold of zero is reached through a
    falling series of thresholds, each starting where the one before ended.
    """
    if delta == 0:
        spread = np.abs(y - law.evaluate(u, z)[0]).mean()
        steps = np.zeros(len(u), int)
        for threshold in np.geomspace(max(spread, 1e-8), last_delta(0), 18):
            u, _, more = descend(
                law, z, y, weights, u, delta=threshold, free=free, tolerance=tolerance
            )
            steps += more
        total = (weights * np.abs(y - law.evaluate(u, z)[0])).sum(axis=1)
        return u, total, steps
    u = u.copy()
    lanes = len(u)
    y, weights = (np.broadcast_to(a, (lanes, y.shape[-1])) for a in (y, weights))
    identity = np.eye(law.size if free is None else free.shape[1])
    iterations = np.zeros(lanes, int)
    damping = np.full(lanes, 1e-2)
    active, y_active, w_active = np.arange(lanes), y, weights
    residuals, derivative = _residuals(law, z, y, u)
    value = np.einsum("ln,ln->l", weights, loss(residuals, delta))
    for _ in range(limit):
        slope, curvature = influence(residuals, delta)
        slope *= w_active
        curvature *= w_active
        gradient = (derivative @ slope[..., None])[..., 0]
        hessian = (derivative * curvature[:, None]) @ derivative.transpose(0, 2, 1)
        if free is not None:
            gradient, hessian = gradient @ free, free.T @ hessian @ free
        scale = np.diagonal(hessian, axis1=1, axis2=2)
        lift = damping[active, None] * scale + 1e-14 * scale.max(axis=1, keepdims=True) + 1e-300
        step = np.linalg.solve(hessian + lift[..., None] * identity, gradient[..., None])[..., 0]
        promise = (gradient * step).sum(axis=1)
        rows = np.flatnonzero(
            (promise > tolerance * value[active] + 1e-30) & (damping[active] < 1e11)
        )
        if not rows.size:
            break
        if rows.size < active.size:
            active, step = active[rows], step[rows]
            y_active, w_active = y[active], weights[active]
        if free is not None:
            step = step @ free.T
        # Exponentials: no step may change a logarithm by more than two at once.
        step *= np.minimum(1, 2 / np.maximum(np.abs(step).max(axis=1), 1e-300))[:, None]
        trial = u[active] + step
        new_residuals, new_derivative = _residuals(law, z, y_active, trial)
        new_value = np.einsum("ln,ln->l", w_active, loss(new_residuals, delta))
        better = new_value <= value[active]
        moved, worse = active[better], rows[~better]
        u[moved], value[moved] = trial[better], new_value[better]
        new_residuals[~better], new_derivative[~better] = residuals[worse], derivative[worse]
        residuals, derivative = new_residuals, new_derivative
        damping[active] *= np.where(better, 0.1, 10)
        np.clip(damping, 1e-12, 1e12, out=damping)
        iterations[active] += 1
    return u, value, iterations


def at_boundary(law: Law, z: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Which positive linear parameters (l, p) add nothing that could be seen at any run."""
    _, derivative = law.evaluate(u, z)
    term = (np.arange(law.size) < law.linear) & (not law.log_linear)
    return term & (np.abs(derivative).max(axis=2) < FLOOR)


def _residuals(
    law: Law, z: np.ndarray, y: np.ndarray, u: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    prediction, derivative = law.evaluate(u, z)
    return y - prediction, derivative


def _subsets(terms: int) -> list[list[int]]:
    return [[j for j in range(terms) if code >> j & 1] for code in range(1, 2**terms)]


def _reasons(score: np.ndarray) -> tuple[str, ...]:
    counts = {
        "not a finite number": int((~np.isfinite(score)).sum()),
        "zero or negative, which has no logarithm": int((score <= 0).sum()),
    }
    return tuple(f"{count} runs: score {why}" for why, count in counts.items() if count)

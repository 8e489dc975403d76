"""Intervals for parameters and predictions, by profile likelihood, and bands for a curve.

The profile of a quantity is the lowest objective with that quantity held; its interval is where

    Q_profile <= Q + F / 2 * noise,

with F the quantile of F(1, S - p) for S sizes and p parameters, and the noise that of the size
means, rho' averaged over the runs of each size: for least squares this is the regression of the
size means, RSS <= RSS (1 + F / (S - p)), and for a robust objective the scaled likelihood ratio of
M-estimators (Huber & Ronchetti 2009, section 7). Size means allow an error that all seeds of a size
share (a learning rate tuned a little better at one width than at another), which no number of seeds
averages out. The profile is that of the estimate's own objective, so that it holds the estimate.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import fdtri, stdtrit

from smallnets.analysis.fit import (
    LONGEST,
    Fit,
    at_boundary,
    descend,
    loss,
    second_order,
    threshold,
)
from smallnets.analysis.laws import TWO_AXES

Quantity = Callable[[np.ndarray], tuple[float, np.ndarray]]

AT_ONCE, NEAR = 20, 1e-3  # steps straight to an end, and how near it they must come
SEEN = 0.01  # the share of the score from which a term is more than a remainder
REACH = 40.0  # how far a profile is followed, in working units, before it counts as open
CLOSE = 0.02  # of one: from there a straight line gives where the excess crosses it
PULL = 100.0  # by how much the pull on a held quantity is stiffer than the objective
NOT_IDENTIFIABLE = "not identifiable"


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An interval for one parameter; an open side is 0 or infinite.

    ``method`` is "size means", or "not identifiable" where the data can't say.
    """

    parameter: str
    estimate: float
    low: float
    high: float
    level: float
    method: str

    def __str__(self) -> str:
        if self.method == NOT_IDENTIFIABLE:
            return NOT_IDENTIFIABLE
        return f"{self.low:.3g} to {self.high:.3g}"


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


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The score of the law at ``x`` (v,), with the interval of its mean and of one further run."""

    x: np.ndarray
    score: float
    low: float
    high: float
    run_low: float
    run_high: float
    level: float


def intervals(fitted: Fit, *, level: float = 0.95) -> tuple[Interval, ...]:
    """The interval of every parameter of ``fitted``.

    Raises:
        ValueError: if ``level`` is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise ValueError(f"the level of an interval lies between 0 and 1, got {level}")
    matrix, offset = fitted.law.natural(fitted.centre)
    found = []
    for i, name in enumerate(fitted.law.parameters):
        low, high = -np.inf, np.inf
        if fitted.identifiable:
            low, high = profile(fitted, _combination(matrix[i], offset[i]), level=level)
            if fitted.law.positive[i]:
                low, high = np.exp(low), np.exp(high)
        estimate = fitted.parameters[name]
        found.append(
            Interval(
                parameter=name,
                estimate=estimate,
                low=float(min(low, estimate)),  # one at its boundary, zero
                high=float(high),
                level=level,
                method=NOT_IDENTIFIABLE if np.isinf(high) else "size means",
            )
        )
    return tuple(found)


def noise(fitted: Fit) -> float:
    """What twice the objective grows by for one parameter of the truth: s^2 in least squares.

    It is taken between sizes, with S - p degrees of freedom; NaN where there are none.
    """
    degrees = fitted.sizes - fitted.law.size
    if degrees <= 0:
        return np.nan
    squares = (fitted.size_weights * fitted.size_slopes**2).sum()
    return float(squares / degrees / fitted.curvature)


def covariance(fitted: Fit) -> np.ndarray:
    """Covariance (p, p) of the working parameters, with S - p degrees of freedom (delta method)."""
    _, derivative = fitted.law.evaluate(fitted.working[None], fitted.z)
    free = ~at_boundary(fitted.law, fitted.z, fitted.working)
    inner = fitted.curvature * (derivative[0][free] * fitted.weights) @ derivative[0][free].T
    matrix = np.zeros((len(free), len(free)))
    matrix[np.ix_(free, free)] = noise(fitted) * np.linalg.pinv(inner, rcond=1e-12, hermitian=True)
    return matrix


def profile(fitted: Fit, quantity: Quantity, *, level: float = 0.95) -> tuple[float, float]:
    """The profile interval of a ``quantity`` of the working parameters, infinite where open.

    ``quantity`` maps u (p,) to a number and its gradient (p,). It is not held but pulled: however
    strong the pull, the optimum has the lowest objective of all u with its quantity, and so lies on
    the profile.
    """
    law, delta = fitted.law, threshold(fitted.delta)
    z, y, weights = fitted.observed
    allowed = 0.5 * fdtri(1, fitted.sizes - law.size, level) * noise(fitted)
    # A vanished term has no slope: it is lifted so that it may come back.
    term = (np.arange(law.size) < law.linear) & (not law.log_linear)
    origin = np.where(term, np.maximum(fitted.working, y.min() - 14), fitted.working)
    best = _objective(fitted, fitted.working)
    value, gradient = quantity(origin)
    _, derivative = law.evaluate(origin[None], z)
    inner = fitted.curvature * (derivative[0] * weights) @ derivative[0].T
    inner += 1e-12 * np.trace(inner) * np.eye(law.size)
    spread = float(gradient @ np.linalg.solve(inner, gradient))
    if not (allowed > 0 and spread > 0):
        return value, value
    step = float(np.clip(np.sqrt(2 * allowed * spread), 1e-9, 5.0))
    stiffness = np.sqrt(PULL * 2 * allowed) / step

    def reached(goal: float, guess: np.ndarray) -> tuple[np.ndarray, float, float]:
        def pull(u: np.ndarray) -> tuple[float, np.ndarray]:
            at, slope = quantity(u)
            return stiffness * (goal - at), -stiffness * slope

        u, _ = descend(law, z, y, weights, guess, delta=delta, tolerance=1e-7, pull=pull)
        excess = np.sqrt(max(_objective(fitted, u) - best, 0) / allowed)
        return u, quantity(u)[0], float(excess)

    ends = []
    for sign in (-1.0, 1.0):
        end = _straight(fitted, quantity, origin, sign, best + allowed, allowed)
        if end is not None:
            ends.append(end)
            continue
        inside, outside = (origin, value, 0.0), None
        length = step
        while outside is None and length <= REACH:
            found = reached(value + sign * length, inside[0])
            if found[2] > 1:
                outside = found
            else:
                inside = found
                length *= 2 if found[2] > 0.5 else 3
        if outside is None:
            ends.append(sign * np.inf)
            continue
        ends.append(_crossing(reached, inside, outside))
    return min(ends), max(ends)


def band(fitted: Fit, x: np.ndarray, *, level: float = 0.95) -> Band:
    """Mean band and prediction band of ``fitted`` at the sizes ``x``, (n,) or (variables, n).

    Delta method, for drawing: j' C j with j the derivative of the log prediction. An interval at
    one size is :func:`prediction`.
    """
    x = np.atleast_2d(np.asarray(x, float))
    z = np.log(x) - fitted.centre[:, None]
    value, derivative = fitted.law.evaluate(fitted.working[None], z)
    variance = np.einsum("pn,pq,qn->n", derivative[0], covariance(fitted), derivative[0])
    degrees = fitted.sizes - fitted.law.size
    t = stdtrit(degrees, 0.5 + level / 2) if degrees > 0 else np.inf
    mean = t * np.sqrt(np.maximum(variance, 0))
    run = np.hypot(mean, t * run_spread(fitted))
    return Band(
        x=x,
        curve=np.exp(value[0]),
        mean_low=np.exp(value[0] - mean),
        mean_high=np.exp(value[0] + mean),
        run_low=np.exp(value[0] - run),
        run_high=np.exp(value[0] + run),
        level=level,
    )


def run_spread(fitted: Fit) -> float:
    """The standard deviation of one run's log score about the law, errors of sizes included."""
    degrees = max(fitted.degrees_of_freedom, 1)
    if np.isinf(fitted.delta):
        squares = (fitted.weights * fitted.residuals**2).sum() / fitted.weights.sum()
        return float(np.sqrt(squares * len(fitted.residuals) / degrees))
    return float(1.4826 * np.median(np.abs(fitted.residuals)))


def prediction(fitted: Fit, x: Sequence[float] | float, *, level: float = 0.95) -> Prediction:
    """The score at one size ``x``, a number or (v,), by profile, however far beyond the data.

    Raises:
        ValueError: if ``x`` is not a positive finite number for each variable, or there are too
            few sizes for an interval.
    """
    at = np.atleast_1d(np.asarray(x, float))
    law = fitted.law
    if at.shape != (len(law.variables),) or not (np.isfinite(at) & (at > 0)).all():
        raise ValueError(
            f"a prediction needs a positive number for {', '.join(law.variables)}, got {x}"
        )
    if not fitted.identifiable:
        raise ValueError(
            f"{fitted.sizes} sizes leave no interval: a {law.name} needs {law.size + 2}"
        )
    z = (np.log(at) - fitted.centre)[:, None]

    def log_score(u: np.ndarray) -> tuple[float, np.ndarray]:
        value, derivative = law.evaluate(u[None], z)
        return float(value[0, 0]), derivative[0, :, 0]

    middle = log_score(fitted.working)[0]
    low, high = profile(fitted, log_score, level=level)
    further = stdtrit(fitted.sizes - law.size, 0.5 + level / 2) * run_spread(fitted)
    return Prediction(
        x=at,
        score=float(np.exp(middle)),
        low=float(np.exp(low)),
        high=float(np.exp(high)),
        run_low=float(np.exp(middle - np.hypot(middle - low, further))),
        run_high=float(np.exp(middle + np.hypot(high - middle, further))),
        level=level,
    )


def _objective(fitted: Fit, u: np.ndarray) -> float:
    z, y, weights = fitted.observed
    residuals = y - fitted.law.evaluate(u[None], z)[0][0]
    return float((weights * loss(residuals, threshold(fitted.delta))).sum())


def _straight(
    fitted: Fit, quantity: Quantity, u: np.ndarray, sign: float, target: float, allowed: float
) -> float | None:
    """The farthest value of the quantity where the objective is ``target``, None if not found.

    Each step goes to the farthest point of the quadratic models of objective and quantity
    (sequential quadratic programming; Venzon & Moolgavkar 1988).
    """
    law, delta, z = fitted.law, threshold(fitted.delta), fitted.observed[0]
    with np.errstate(all="ignore"):
        for _ in range(AT_ONCE):
            objective, slope, hessian = second_order(law, *fitted.observed, u, delta)
            value, gradient = quantity(u)
            if not np.isfinite(hessian).all():
                return None
            curvature, axes = np.linalg.eigh(hessian)
            curvature = np.abs(curvature)
            inverse = (axes / np.maximum(curvature, 1e-10 * curvature[-1])) @ axes.T
            down, out = inverse @ slope, inverse @ gradient
            room = max(2 * (target - objective) + slope @ down, 0.0)
            step = sign * np.sqrt(room / (gradient @ out)) * out - down
            aside = step @ hessian @ step
            if abs(objective - target) < NEAR * allowed and aside < NEAR**2 * allowed:
                # A vanished term has hardly a slope: is it for good, or would the end move with it?
                outward = sign * gradient - (sign * gradient @ slope) / (slope @ slope) * slope
                back = outward[at_boundary(law, z, u, SEEN)] > 0
                return None if back.any() else value
            u = u + step * min(1.0, LONGEST / np.linalg.norm(step))
    return None


def _combination(direction: np.ndarray, offset: float) -> Quantity:
    return lambda u: (float(direction @ u + offset), direction)


def _crossing(reached: Callable, inside: tuple, outside: tuple) -> float:
    """Where the root of the excess, nearly linear in the quantity, crosses one (Illinois)."""
    shift_in, shift_out = inside[2] - 1, outside[2] - 1
    for _ in range(20):
        at = (inside[1] * shift_out - outside[1] * shift_in) / (shift_out - shift_in)
        if min(-shift_in, shift_out) < CLOSE or abs(outside[1] - inside[1]) < 1e-9:
            break
        found = reached(at, inside[0])
        if found[2] > 1:
            outside, shift_out, shift_in = found, found[2] - 1, (inside[2] - 1)
        else:
            inside, shift_in, shift_out = found, found[2] - 1, (outside[2] - 1)
    return at


@dataclass(frozen=True, kw_only=True)
class Allocation:
    """The compute-optimal N ~ C^a and D ~ C^b, C being proportional to N D.

    From E + A N^-alpha + B D^-beta, a = beta / (alpha + beta) and b = 1 - a (Hoffmann et al. 2022,
    arXiv:2203.15556, equation 4). ``ratio`` is G in N = G (N D)^a, D = (N D)^b / G:
    (alpha A / (beta B))^(1 / (alpha + beta)), NaN where a term does not fall.
    """

    size: Interval
    data: Interval
    ratio: float


def allocation(fitted: Fit, *, level: float = 0.95) -> Allocation:
    """The optimal exponents of a fit of the law in parameters and data, with profile intervals.

    Raises:
        ValueError: if the fit is of another law, or has pinned exponents.
    """
    if fitted.law.name != TWO_AXES.name or {"alpha", "beta"} & dict(fitted.law.pins).keys():
        raise ValueError(f"a budget is split by a fitted {TWO_AXES.formula}, not {fitted.law.name}")
    places = [fitted.law.parameters.index(name) for name in ("alpha", "beta")]

    def share(u: np.ndarray) -> tuple[float, np.ndarray]:
        alpha, beta = u[places]
        gradient = np.zeros(len(u))
        gradient[places] = np.array([-beta, alpha]) / (alpha + beta) ** 2
        return float(beta / (alpha + beta)), gradient

    middle = share(fitted.working)[0]
    low, high = profile(fitted, share, level=level) if fitted.identifiable else (-np.inf, np.inf)
    method = "size means" if np.isfinite([low, high]).all() else NOT_IDENTIFIABLE
    p = fitted.parameters
    by_size, by_data = p["alpha"] * p["A"], p["beta"] * p["B"]
    exponent = 1 / (p["alpha"] + p["beta"])
    ratio = (by_size / by_data) ** exponent if min(by_size, by_data) > 0 else np.nan
    return Allocation(
        size=Interval(
            parameter="a", estimate=middle, low=low, high=high, level=level, method=method
        ),
        data=Interval(
            parameter="b",
            estimate=1 - middle,
            low=1 - high,
            high=1 - low,
            level=level,
            method=method,
        ),
        ratio=float(ratio),
    )

"""Scaling laws, each as one function of the logarithms of its variables.

A law says how the logarithm of a score (a loss or an error, lower is better) depends on sizes. It
is written in *working* parameters that keep positive numbers positive and are centred at the
geometric mean of the sizes, so that they hardly correlate: z = log(x / centre). Everything else
(start, fit, intervals, bands) is the same code for every law, so a further law is one function
that returns the logarithm of its prediction with derivatives, one that returns the features that
enter linearly, and one line for each natural parameter.

Axes: l lanes (data sets fitted side by side), p parameters, n runs, v variables, g grid points,
j linear parameters, k shape parameters.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

Evaluate = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
Grid = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
Natural = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True, kw_only=True)
class Law:
    """One scaling law.

    ``evaluate(u, z)`` maps working parameters (l, p) and centred log variables (v, n) to the log
    prediction (l, n) and its derivatives (l, p, n). ``grid(z)`` gives candidate shape parameters
    (g, k) and the features (g, j, n) that enter linearly: into the score, or into its logarithm
    where ``log_linear``. The working vector is the ``linear`` parameters (as logarithms unless
    ``log_linear``), then the shapes. ``natural(centre)`` is the matrix (p, p) whose product with
    the working vector gives ``parameters``, as logarithms where ``positive``. A law with ``pins``
    is ``free_law`` with those parameters held (see :func:`pin`).
    """

    name: str
    formula: str
    variables: tuple[str, ...]
    parameters: tuple[str, ...]
    positive: tuple[bool, ...]
    linear: int
    evaluate: Evaluate
    grid: Grid
    natural: Natural
    centred: tuple[bool, ...] = (True, True)
    log_linear: bool = False
    free_law: "Law | None" = None
    pins: tuple[tuple[str, float], ...] = ()

    @property
    def size(self) -> int:
        """How many parameters the law has."""
        return len(self.parameters)


def _power(u: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    derivative = np.empty((len(u), 2, z.shape[1]))
    derivative[:, 0] = 1
    derivative[:, 1] = -z[0]
    return u[:, :1] - u[:, 1:] * z[0], derivative


def _power_grid(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    shapes = np.geomspace(0.005, 3, 80)[:, None]
    return shapes, np.exp(-shapes * z[0])[:, None]


def _asymptote(u: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    log_excess = u[:, 1:2] - u[:, 2:3] * z[0]
    log_score = np.logaddexp(u[:, :1], log_excess)
    derivative = np.empty((len(u), 3, z.shape[1]))
    share = np.exp(log_excess - log_score, out=derivative[:, 1])
    np.subtract(1, share, out=derivative[:, 0])
    np.multiply(share, -z[0], out=derivative[:, 2])
    return log_score, derivative


def _asymptote_grid(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    shapes, power = _power_grid(z)
    return shapes, np.concatenate([np.ones_like(power), power], axis=1)


def _two_axes(u: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    floor, by_size, by_data = np.exp(u[:, :3]).T[..., None]
    first = by_size * np.exp(-u[:, 3:4] * z[0])
    second = by_data * np.exp(-u[:, 4:5] * z[1])
    score = first + second + floor
    share = 1 / score
    derivative = np.empty((len(u), 5, z.shape[1]))
    np.multiply(share, floor, out=derivative[:, 0])
    np.multiply(share, first, out=derivative[:, 1])
    np.multiply(share, second, out=derivative[:, 2])
    np.multiply(derivative[:, 1], -z[0], out=derivative[:, 3])
    np.multiply(derivative[:, 2], -z[1], out=derivative[:, 4])
    return np.log(score, out=score), derivative


def _two_axes_grid(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    exponents = np.geomspace(0.03, 2, 24)
    shapes = np.array(list(product(exponents, exponents)))
    first, second = np.exp(-exponents[:, None] * z[0]), np.exp(-exponents[:, None] * z[1])
    features = np.ones((len(exponents), len(exponents), 3, z.shape[1]))
    features[:, :, 1] = first[:, None]
    features[:, :, 2] = second[None]
    return shapes, features.reshape(len(shapes), 3, -1)


def _broken(u: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    before, change, place, width = (u[:, i : i + 1] for i in (2, 3, 4, 5))
    width = np.exp(np.clip(width, -9, 9))  # beyond, a step and a line without a break
    inside = (z[0] - place) / width
    soft = np.logaddexp(0, inside)
    step = np.exp(inside - soft)
    log_excess = u[:, 1:2] - before * z[0] - change * width * soft
    log_score = np.logaddexp(u[:, :1], log_excess)
    share = np.exp(log_excess - log_score)
    derivative = np.empty((len(u), 6, z.shape[1]))
    derivative[:, 0] = 1 - share
    derivative[:, 1] = share
    derivative[:, 2] = -share * z[0]
    derivative[:, 3] = -share * width * soft
    derivative[:, 4] = share * change * step
    derivative[:, 5] = -share * change * width * (soft - inside * step)
    return log_score, derivative


def _broken_grid(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    befores, widths = np.geomspace(0.02, 2, 12), np.array([0.1, 0.4])
    changes = np.concatenate([-np.geomspace(1.6, 0.05, 6), np.geomspace(0.05, 1.6, 6)])
    places = np.quantile(z[0], np.linspace(0.1, 0.9, 9))
    every = np.meshgrid(befores, changes, places, np.log(widths), indexing="ij")
    shapes = np.stack(every, axis=-1).reshape(-1, len(every))
    soft = widths[:, None] * np.logaddexp(0, (z[0] - places[:, None, None]) / widths[:, None])
    turn = np.exp(-changes[:, None, None, None] * soft)
    power = (np.exp(-befores[:, None] * z[0])[:, None, None, None] * turn).reshape(len(shapes), -1)
    return shapes, np.stack([np.ones_like(power), power], axis=1)


def _saturated(z: np.ndarray, start: np.ndarray, limit: np.ndarray) -> tuple[np.ndarray, ...]:
    """log B-hat of Clark et al. 2022, equation 9, with its derivatives by log start, log limit."""
    free = 1 / (np.expm1(z[1]) + np.exp(start))
    bound = np.exp(-limit) + np.zeros_like(free)
    log_ratio = -np.log(free + bound)
    return log_ratio, np.exp(start) * free**2 / (free + bound), bound / (free + bound)


def _mixture(u: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    log_ratio, by_start, by_limit = _saturated(z, u[:, 4:5], u[:, 5:6])
    size, ratio, both = u[:, 1:2], u[:, 2:3], u[:, 3:4]
    slope = ratio + both * z[0]
    score = u[:, :1] + size * z[0] + slope * log_ratio
    by_size = np.broadcast_to(z[0], score.shape)
    columns = [
        np.ones_like(score),
        by_size,
        log_ratio,
        by_size * log_ratio,
        slope * by_start,
        slope * by_limit,
    ]
    return score, np.stack(columns, axis=1)


def _mixture_grid(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    limits = np.log(np.geomspace(4, 4096, 12))
    shapes = np.array(list(product(np.log([0.5, 1, 2, 4, 8]), limits)))
    log_ratio, _, _ = _saturated(z, shapes[:, :1], shapes[:, 1:])
    size = np.broadcast_to(z[0], log_ratio.shape)
    return shapes, np.stack([np.ones_like(size), size, log_ratio, size * log_ratio], axis=1)


def _natural(size: int, *moves: tuple[int, int, int, int], shift: int | None = None) -> Natural:
    """Undo the centring of the variables.

    Each move (row, column, axis, sign) adds sign * log centre of ``axis`` * parameter ``column`` to
    parameter ``row``. ``shift`` names a parameter that is itself the logarithm of a size.
    """

    def natural(centre: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        matrix, offset = np.eye(size), np.zeros(size)
        for row, column, axis, sign in moves:
            matrix[row, column] = sign * centre[axis]
        if shift is not None:
            offset[shift] = centre[0]
        return matrix, offset

    return natural


POWER = Law(
    name="power law",
    formula="A N^-alpha",
    variables=("N",),
    parameters=("A", "alpha"),
    positive=(True, False),
    linear=1,
    evaluate=_power,
    grid=_power_grid,
    natural=_natural(2, (0, 1, 0, 1)),
)

ASYMPTOTE = Law(
    name="power law with asymptote",
    formula="E + A N^-alpha",
    variables=("N",),
    parameters=("E", "A", "alpha"),
    positive=(True, True, False),
    linear=2,
    evaluate=_asymptote,
    grid=_asymptote_grid,
    natural=_natural(3, (1, 2, 0, 1)),
)

# Hoffmann et al. 2022, arXiv:2203.15556, equation 2.
TWO_AXES = Law(
    name="law in parameters and data",
    formula="E + A N^-alpha + B D^-beta",
    variables=("N", "D"),
    parameters=("E", "A", "B", "alpha", "beta"),
    positive=(True, True, True, False, False),
    linear=3,
    evaluate=_two_axes,
    grid=_two_axes_grid,
    natural=_natural(5, (1, 3, 0, 1), (2, 4, 1, 1)),
)

# Caballero et al. 2022, arXiv:2210.14891, equation 1 with one break: d is the place of the break,
# f the width of the turn in log N, c0 the exponent before the break and c0 + c1 the one after it.
BROKEN = Law(
    name="broken power law",
    formula="E + A N^-c0 (1 + (N/d)^(1/f))^(-c1 f)",
    variables=("N",),
    parameters=("E", "A", "c0", "c1", "d", "f"),
    positive=(True, True, False, False, True, True),
    linear=2,
    evaluate=_broken,
    grid=_broken_grid,
    natural=_natural(6, (1, 2, 0, 1), shift=4),
)

# Clark et al. 2022, arXiv:2202.01169, equations 8 and 9, in their general form of section 5: N the
# active parameters, T the total, T/N in the place of the number of experts. 1/s is their
# 1/E_start - 1/E_max, kept whole because it stays positive.
MIXTURE = Law(
    name="law for mixtures",
    formula="log L = d + a log N + b log R + c log N log R, 1/R = 1/(T/N - 1 + s) + 1/R_max",
    variables=("N", "T/N"),
    parameters=("d", "a", "b", "c", "s", "R_max"),
    positive=(False, False, False, False, True, True),
    linear=4,
    evaluate=_mixture,
    grid=_mixture_grid,
    natural=_natural(6, (0, 1, 0, -1), (2, 3, 0, -1)),
    centred=(True, False),
    log_linear=True,
)

IN_SIZE = (POWER, ASYMPTOTE, BROKEN)
BY_NAME = {
    "power": POWER,
    "asymptote": ASYMPTOTE,
    "broken": BROKEN,
    "size-and-data": TWO_AXES,
    "mixture": MIXTURE,
}


def pin(law: Law, pins: dict[str, float]) -> Law:
    """``law`` with some of its parameters held, such as ``pin(ASYMPTOTE, {"E": 1.69})``.

    Raises:
        ValueError: if the law has no such parameter, it is a factor (A, B: its working value moves
            with the centre of the sizes), a positive one is not, or none would be left to fit.
    """
    if not pins:
        return law
    matrix, _ = law.natural(np.ones(2))
    own = [
        name for i, name in enumerate(law.parameters) if (matrix[i] == np.eye(law.size)[i]).all()
    ]
    for name, value in pins.items():
        if name not in own:
            raise ValueError(
                f"{name} can't be pinned in {law.formula}: it has {', '.join(own)} for that"
            )
        positive = law.positive[law.parameters.index(name)]
        if not np.isfinite(value) or (positive and value <= 0):
            rule = "a positive number" if positive else "a number"
            raise ValueError(f"{name} must be pinned to {rule}, got {value}")
    held = np.array([name in pins for name in law.parameters])
    fixed = np.array(
        [
            np.log(pins[name]) if positive else pins[name]
            for name, positive in zip(law.parameters, law.positive, strict=True)
            if name in pins
        ]
    )

    def whole(u: np.ndarray) -> np.ndarray:
        full = np.empty((len(u), law.size))
        full[:, ~held], full[:, held] = u, fixed
        return full

    def evaluate(u: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        value, derivative = law.evaluate(whole(u), z)
        return value, derivative[:, ~held]

    def natural(centre: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        matrix, offset = law.natural(centre)
        return matrix[~held][:, ~held], offset[~held] + matrix[~held][:, held] @ fixed

    formula = law.formula
    for name, value in pins.items():
        formula = re.sub(rf"\b{name}\b", f"{value:g}", formula)
    return replace(
        law,
        formula=formula,
        parameters=tuple(name for name in law.parameters if name not in pins),
        positive=tuple(law.positive[i] for i in np.flatnonzero(~held)),
        linear=int((~held[: law.linear]).sum()),
        evaluate=evaluate,
        natural=natural,
        free_law=law,
        pins=tuple(pins.items()),
    )

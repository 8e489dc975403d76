"""The multiplier without a law: monotone interpolation of the size means.

The means of the log score are made to fall with size (isotonic regression, Ayer et al. 1955) and
joined by the monotone cubic of Fritsch & Carlson (1980) over log size. What a mean errs by, seeds
and errors of its size, is taken from how the means scatter about a curve of four numbers that bends
where the laws don't: a cubic, a broken line or a sigmoid in log size (a parabola of 5 sizes, a line
of 4). It is pooled over the families of a study, since a few sizes of one say little. The interval
of a cost is Fieller's: all sizes whose interpolated score can't be told from the one asked for.
Where those reach an end of the data, the slope isn't told from zero, and nothing is said; nothing
is extrapolated. The intervals of two costs give that of their ratio (MOVER, Zou & Donner 2008).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.optimize import brentq, isotonic_regression
from scipy.special import expit, fdtri, stdtrit

from smallnets.analysis.fit import Fit

POINTS = 241  # of a curve
SCORES = 40  # at which a multiplier is drawn
CUBIC = 3
CHANCE = 0.05  # of leaving the cubic where it is right
BREAKS, MIDDLES, WIDTHS = 49, 61, np.geomspace(0.02, 1, 40)  # grids, of the range of log sizes


@dataclass(frozen=True, kw_only=True)
class Scatter:
    """The variance of a size mean of weight 1, and its degrees of freedom."""

    variance: float
    degrees: int


@dataclass(frozen=True, kw_only=True)
class Interpolated:
    """m at ``score`` by interpolation, with interval and p-value of m = 1; or the ``reason``."""

    score: float
    value: float
    low: float
    high: float
    p_value: float
    level: float
    reason: str


class _FlatError(ValueError):
    """The slope of a curve can't be told from zero where a score is asked for."""


@dataclass(frozen=True, kw_only=True)
class Interpolation:
    """An interpolated curve on a grid of log sizes (g,) with standard errors of its log score."""

    log_size: np.ndarray
    log_score: np.ndarray
    error: np.ndarray
    degrees: int


def scatter(fits: Iterable[Fit]) -> Scatter:
    """How the size means of all families scatter about smooth curves.

    The curves are cubics, unless broken lines or sigmoids in their place, which take as many
    numbers, come nearer by more than chance lets them in one study of twenty (F of the variances):
    a cubic doesn't follow a sharp bend, and would have it counted as noise.
    """
    squares, degrees = np.zeros(3), 0
    for fitted in fits:
        if len(fitted.x) != 1 or fitted.sizes < CUBIC + 1:
            continue
        log_size, means = _means(fitted)
        z = (log_size - log_size[0]) / (log_size[-1] - log_size[0])
        order = min(CUBIC, fitted.sizes - 3)
        curves = [np.vander(z, order + 1)[None]] * len(squares)
        if order == CUBIC:
            curves[1:] = _broken_lines(z), _sigmoids(z)
        squares += [_squares(curve, means, fitted.size_weights) for curve in curves]
        degrees += fitted.sizes - order - 1
    if not degrees:
        return Scatter(variance=np.nan, degrees=0)
    cubic, nearest = squares[0], min(squares)
    chosen = nearest if nearest * fdtri(degrees, degrees, 1 - CHANCE) < cubic else cubic
    return Scatter(variance=float(chosen) / degrees, degrees=degrees)


def _broken_lines(z: np.ndarray) -> np.ndarray:
    """The terms (g, s, 3) at ``z`` (s,) of lines that break at a place of a grid."""
    breaks = np.linspace(z[1], z[-2], BREAKS)[:, None]
    return np.stack(
        np.broadcast_arrays(np.ones_like(breaks), z, np.maximum(z - breaks, 0)), axis=-1
    )


def _sigmoids(z: np.ndarray) -> np.ndarray:
    """The terms (g, s, 2) at ``z`` (s,) of sigmoids with a middle and a width of a grid."""
    middles, widths = np.linspace(0, 1, MIDDLES)[:, None, None], WIDTHS[:, None]
    steps = expit((z - middles) / widths).reshape(-1, len(z))
    return np.stack([np.ones_like(steps), steps], axis=-1)


def _squares(terms: np.ndarray, means: np.ndarray, weights: np.ndarray) -> float:
    """The least weighted sum of squares that a combination of one grid point's terms leaves."""
    root = np.sqrt(weights)
    basis, _ = np.linalg.qr(terms * root[:, None])
    left = means * root - (basis @ (basis.mT @ (means * root)[:, None]))[..., 0]
    return float((left**2).sum(axis=-1).min())


def interpolated(
    first: Interpolation | str,
    second: Interpolation | str,
    *,
    score: float | None = None,
    level: float = 0.95,
    tested: bool = True,
) -> Interpolated:
    """m of the ``first`` family against the ``second`` at ``score``, or in the overlap's middle.

    It never raises: what can't be said has its ``reason``, that of a curve that isn't there too.
    Only if it is ``tested`` it has a p-value, which takes most of the time.
    """
    at = np.nan if score is None else score
    try:
        if isinstance(first, str) or isinstance(second, str):
            raise ValueError(first if isinstance(first, str) else second)
        low = max(curve.log_score[-1] for curve in (first, second))
        high = min(curve.log_score[0] for curve in (first, second))
        if not low < high:
            raise ValueError("no score that the means of both reach")
        at = float(np.exp((low + high) / 2)) if score is None else score
        if not low < np.log(at) < high:
            raise ValueError(
                f"the means of both reach {np.exp(low):.4g} to {np.exp(high):.4g}, and {at:.4g} "
                "would be extrapolated"
            )
        target = float(np.log(at))
        middle = _cost(second, target) - _cost(first, target)
        below, above = _ratio(first, second, target, level)
    except ValueError as error:
        return Interpolated(
            score=at,
            value=np.nan,
            low=np.nan,
            high=np.nan,
            p_value=np.nan,
            level=level,
            reason=str(error),
        )
    return Interpolated(
        score=at,
        value=float(np.exp(middle)),
        low=float(np.exp(below)),
        high=float(np.exp(above)),
        p_value=_p_value(first, second, target, middle) if tested else np.nan,
        level=level,
        reason="",
    )


def over_scores(
    fits: Mapping[str, Fit], reference: str, level: float = 0.95
) -> dict[str, tuple[Interpolated, ...]]:
    """m of each family against ``reference`` over the scores that the means of both reach.

    From the worst score to the best, without p-values; where a slope is not told from zero a point
    has its reason and no numbers. Families without a point that has numbers are left out.
    """
    errors, found = scatter(fits.values()), {}
    curves = {name: interpolation(fitted, errors) for name, fitted in fits.items()}
    other = curves.pop(reference, "no reference")
    for name, curve in curves.items():
        if isinstance(curve, str) or isinstance(other, str):
            continue
        high = min(curve.log_score[0], other.log_score[0])
        low = max(curve.log_score[-1], other.log_score[-1])
        scores = np.exp(np.linspace(high, low, SCORES + 2)[1:-1]) if low < high else ()
        points = [
            interpolated(curve, other, score=float(score), level=level, tested=False)
            for score in scores
        ]
        if any(not point.reason for point in points):
            found[name] = tuple(points)
    return found


def _means(fitted: Fit) -> tuple[np.ndarray, np.ndarray]:
    """The log sizes and the mean log scores there, medians where outliers must not count."""
    y = np.log(fitted.score)
    log_size = np.log(np.unique(fitted.x[0]))
    if np.isinf(fitted.delta):
        return log_size, np.bincount(fitted.place, fitted.weights * y) / fitted.size_weights
    return log_size, np.array([np.median(y[fitted.place == i]) for i in range(fitted.sizes)])


def interpolation(fitted: Fit, scatter: Scatter) -> Interpolation | str:
    """The curve through the size means of a fit's runs, which err by ``scatter``, or why not.

    The law of the fit is not used.
    """
    if len(fitted.x) != 1:
        return "interpolation is along one variable"
    if not scatter.degrees or fitted.sizes < CUBIC:
        return f"{fitted.sizes} sizes leave no scatter to judge by"
    log_size, means = _means(fitted)
    weights = fitted.size_weights
    grid = np.linspace(log_size[0], log_size[-1], POINTS)

    # A step of its own error to either side: derivatives across pooled means too.
    steps = np.diag(np.maximum(np.sqrt(scatter.variance / weights), 1e-9))
    moved = [means, *(means + steps), *(means - steps)]
    falling = [isotonic_regression(each, weights=weights, increasing=False).x for each in moved]
    values = PchipInterpolator(log_size, np.stack(falling, axis=1))(grid)
    ups, downs = np.split(values[:, 1:], 2, axis=1)
    return Interpolation(
        log_size=grid,
        log_score=values[:, 0],
        error=np.sqrt((((ups - downs) / 2) ** 2).sum(axis=1)),
        degrees=scatter.degrees,
    )


def _cost(curve: Interpolation, target: float) -> float:
    """The log size at which the curve comes down to ``target``, the middle of a level stretch."""
    left = np.interp(-target, -curve.log_score, curve.log_size)
    right = -np.interp(target, curve.log_score[::-1], -curve.log_size[::-1])
    return float((left + right) / 2)


def _cost_interval(curve: Interpolation, target: float, level: float) -> tuple[float, float]:
    """All log sizes about the cost whose score can't be told from ``target`` (Fieller)."""
    t = stdtrit(curve.degrees, 0.5 + level / 2)
    margin = np.abs(curve.log_score - target) - t * curve.error
    middle = int(np.searchsorted(curve.log_size, _cost(curve, target)))
    ends = []
    for side in (slice(middle - 1, None, -1), slice(middle, None)):
        out = np.flatnonzero(margin[side] > 0)
        if middle == 0 or not out.size:
            raise _FlatError("the slope there is not distinguishable from zero")
        sizes, excess = curve.log_size[side], margin[side]
        last = out[0]
        if last == 0:
            ends.append(float(_cost(curve, target)))
            continue
        share = excess[last] / (excess[last] - excess[last - 1])
        ends.append(float(sizes[last] + share * (sizes[last - 1] - sizes[last])))
    return ends[0], ends[1]


def _ratio(
    first: Interpolation, second: Interpolation, target: float, level: float
) -> tuple[float, float]:
    """The interval of log m (MOVER)."""
    (a, (a_low, a_high)), (b, (b_low, b_high)) = (
        (_cost(curve, target), _cost_interval(curve, target, level)) for curve in (first, second)
    )
    return (
        b - a - float(np.hypot(b - b_low, a_high - a)),
        b - a + float(np.hypot(b_high - b, a - a_low)),
    )


def _p_value(first: Interpolation, second: Interpolation, target: float, middle: float) -> float:
    """One minus the level at which the interval ends at m = 1; a bound where it would be open."""

    def short(level: float) -> float:
        try:
            low, high = _ratio(first, second, target, level)
        except _FlatError:
            return 1.0
        return -low if middle > 0 else high

    if middle == 0 or short(1e-6) >= 0:
        return 1.0
    if short(1 - 1e-6) < 0:
        return 1e-6
    found = brentq(short, 1e-6, 1 - 1e-6, xtol=1e-7)
    return 1 - float(found)  # pyright: ignore[reportArgumentType]

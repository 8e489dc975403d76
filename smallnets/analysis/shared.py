"""One asymptote and one exponent for two families, where an F test doesn't object.

A common shape halves the interval of the multiplier, and misses the truth altogether where the
shapes differ. So the common law E + A_f N^-alpha is offered only if

    F = ((RSS_common - RSS_apart) / 2) / (RSS_apart / (n - 6))

does not reject it. It is tested on runs, where an error shared by the seeds of a size makes it
reject too often rather than too seldom.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from smallnets.analysis.bands import half_width
from smallnets.analysis.fit import Fit, fit
from smallnets.analysis.laws import ASYMPTOTE, Law


@dataclass(frozen=True, kw_only=True)
class Shared:
    """The test, and m = (A_b / A_a)^(1/alpha) of the common law: NaN unless ``allowed``."""

    f_statistic: float
    p_value: float
    allowed: bool
    value: float
    low: float
    high: float
    level: float


def shared_shape(a: Fit, b: Fit, *, level: float = 0.95, significance: float = 0.05) -> Shared:
    """Test a common asymptote and exponent; where they pass, the multiplier that they give.

    Raises:
        ValueError: if the fits are not least-squares fits of the law with asymptote.
    """
    if any(fitted.law.name != ASYMPTOTE.name or np.isfinite(fitted.delta) for fitted in (a, b)):
        raise ValueError(f"a common shape is tested on least-squares fits of {ASYMPTOTE.formula}")
    size = np.concatenate([a.x[0], b.x[0]])
    family = np.repeat([1.0, np.e], [a.x.shape[1], b.x.shape[1]])
    common = fit(COMMON, np.stack([size, family]), np.concatenate([a.score, b.score]))
    apart = 2 * (a.objective + b.objective)
    degrees = len(size) - 2 * ASYMPTOTE.size
    extra = 2 * ASYMPTOTE.size - COMMON.size
    statistic = (2 * common.objective - apart) / extra / (apart / degrees)
    p_value = float(stats.f.sf(statistic, extra, degrees))
    numbers = (np.nan, np.nan, np.nan)
    if p_value > significance:
        _, first, second, alpha = common.working
        log_m = (second - first) / alpha
        direction = np.array([0, -1 / alpha, 1 / alpha, -log_m / alpha])[:, None]
        half = half_width(common, direction, level=level)[0]
        numbers = tuple(np.exp([log_m, log_m - half, log_m + half]))
    return Shared(
        f_statistic=float(statistic),
        p_value=p_value,
        allowed=p_value > significance,
        value=float(numbers[0]),
        low=float(numbers[1]),
        high=float(numbers[2]),
        level=level,
    )


def _common(u: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    second = z[1] > 0.5
    log_excess = np.where(second, u[:, 2:3], u[:, 1:2]) - u[:, 3:4] * z[0]
    log_score = np.logaddexp(u[:, :1], log_excess)
    share = np.exp(log_excess - log_score)
    columns = [1 - share, share * ~second, share * second, -share * z[0]]
    return log_score, np.stack(columns, axis=1)


def _common_grid(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    shapes, features = ASYMPTOTE.grid(z)
    second = z[1] > 0.5
    power = features[:, 1]
    return shapes, np.stack([features[:, 0], power * ~second, power * second], axis=1)


def _common_natural(centre: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    matrix = np.eye(4)
    matrix[[1, 2], 3] = centre[0]
    return matrix, np.zeros(4)


COMMON: Law = replace(
    ASYMPTOTE,
    name="common asymptote and exponent",
    formula="E + A_f N^-alpha",
    variables=("N", "e^family"),
    parameters=("E", "A_1", "A_2", "alpha"),
    positive=(True, True, True, False),
    linear=3,
    evaluate=_common,
    grid=_common_grid,
    natural=_common_natural,
    centred=(True, False),
)

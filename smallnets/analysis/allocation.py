"""What a law in parameters and data says of a compute budget: how to spend it on the two."""

from dataclasses import dataclass

import numpy as np

from smallnets.analysis.fit import Fit
from smallnets.analysis.intervals import NOT_IDENTIFIABLE, Interval, profile
from smallnets.analysis.laws import TWO_AXES


@dataclass(frozen=True, kw_only=True)
class Allocation:
    """The compute-optimal N ~ C^a and D ~ C^b, C being proportional to N D.

    From E + A N^-alpha + B D^-beta, a = beta / (alpha + beta) and b = 1 - a (Hoffmann et al. 2022,
    arXiv:2203.15556, equation 4). ``ratio`` is G in N = G (N D)^a, D = (N D)^b / G:
    (alpha A / (beta B))^(1 / (alpha + beta)).
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
    ratio = (p["alpha"] * p["A"] / (p["beta"] * p["B"])) ** (1 / (p["alpha"] + p["beta"]))
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

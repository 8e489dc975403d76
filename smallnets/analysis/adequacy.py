"""Does the law hold? Lack of fit against seeds, and whether the sizes leave the line in a pattern.

Two things make size means leave a line: an error that all seeds of a size share, which intervals on
size means answer for, and a wrong shape, which nothing answers for. Seeds tell that there is more
than seeds; only a pattern tells the two apart: errors of sizes have none.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats

from smallnets.analysis.fit import Fit, at_boundary

DRAWS = 4000
SIGNIFICANCE = 0.05


@dataclass(frozen=True, kw_only=True)
class LackOfFit:
    """The F test of one family's law against its seeds, NaN where there are no seeds to test by.

    F = (sum_i W_i mean_i^2 / (S - p)) / (sum_ij w_ij (r_ij - mean_i)^2 / (n - S)): the scatter of
    the S size means about the law over that of seeds about their size mean.
    """

    f_statistic: float
    p_value: float
    degrees: tuple[int, int]

    @property
    def found(self) -> bool:
        """Whether more than seeds is there."""
        return self.p_value < SIGNIFICANCE

    def __str__(self) -> str:
        if np.isnan(self.p_value):
            return "not testable: no size has two seeds"
        numbers = f"F{self.degrees} = {self.f_statistic:.1f}, p = {self.p_value:.2g}"
        return f"more than seeds is there ({numbers})" if self.found else f"none seen ({numbers})"


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Whether size means leave the laws of a study in a pattern, which errors of sizes don't.

    ``neighbours``: p-value of the residuals of neighbouring sizes being alike, over all families.
    ``agreement``: of families leaving their laws at the same sizes alike, NaN for a single one.
    Both are ranks among ``DRAWS`` studies with independent errors of sizes, fitted by the same laws
    (linearised), so that they need no seeds. ``p_value`` is the smaller, doubled where both exist.
    ``signs`` are, for each size in order, how many families lie above their law and of how many.
    """

    neighbours: float
    agreement: float
    p_value: float
    signs: tuple[tuple[int, int], ...]

    @property
    def questioned(self) -> bool:
        """Whether the shape of the law is questioned."""
        return self.p_value < SIGNIFICANCE

    def __str__(self) -> str:
        if np.isnan(self.p_value):
            return "The shape of the law can't be tested: no family has two sizes over."
        parts = [f"neighbouring sizes p = {self.neighbours:.2g}"]
        if not np.isnan(self.agreement):
            parts.append(f"agreement of families p = {self.agreement:.2g}")
        if not self.questioned:
            return f"No pattern is seen in how sizes leave their laws ({', '.join(parts)})."
        above = ", ".join(f"{up} of {total}" for up, total in self.signs)
        return (
            f"The shape of the law is questioned: sizes leave their laws in a pattern "
            f"({', '.join(parts)}; families above their law, from the smallest size: {above}). "
            "What rests on the law is arithmetic here, not evidence: the multiplier by "
            "interpolation leads."
        )


def lack_of_fit(fitted: Fit) -> LackOfFit:
    """Test ``fitted`` against its seeds."""
    between, within = fitted.sizes - fitted.law.size, len(fitted.score) - fitted.sizes
    if between <= 0 or within <= 0:
        return LackOfFit(f_statistic=np.nan, p_value=np.nan, degrees=(between, within))
    shared = (fitted.size_weights * fitted.size_slopes**2).sum()
    own = (fitted.weights * (fitted.slopes - fitted.size_slopes[fitted.place]) ** 2).sum()
    statistic = (shared / between) / max(own / within, 1e-300)
    return LackOfFit(
        f_statistic=float(statistic),
        p_value=float(stats.f.sf(statistic, between, within)),
        degrees=(between, within),
    )


def shape(fits: Mapping[str, Fit], *, seed: int = 0) -> Shape:
    """Test the residuals of the size means of all families of one variable for a pattern."""
    fits = {
        name: fitted
        for name, fitted in fits.items()
        if fitted.sizes >= fitted.law.size + 2 and len(fitted.x) == 1
    }
    if not fits:
        return Shape(neighbours=np.nan, agreement=np.nan, p_value=np.nan, signs=())
    random = np.random.default_rng(seed)
    most = max(fitted.sizes for fitted in fits.values())
    same, neighbours, total = [], np.zeros(1 + DRAWS), np.zeros((1 + DRAWS, most))
    for fitted in fits.values():  # the first line is what is seen, the others are the null
        drawn = random.standard_normal((DRAWS, fitted.sizes)) @ _residual_maker(fitted)
        errors = np.vstack([np.sqrt(fitted.size_weights) * fitted.size_slopes, drawn])
        errors /= np.maximum(np.linalg.norm(errors, axis=1, keepdims=True), 1e-300)
        neighbours += (errors[:, 1:] * errors[:, :-1]).sum(axis=1)
        if fitted.sizes == most:
            same.append(errors[0])
            total += errors
    alike = _rank(neighbours)
    agreement = _rank((total**2).sum(axis=1)) if len(same) > 1 else np.nan
    p_value = alike if np.isnan(agreement) else min(1.0, 2 * min(alike, agreement))
    stacked = np.array(same)
    return Shape(
        neighbours=alike,
        agreement=agreement,
        p_value=p_value,
        signs=tuple((int((column > 0).sum()), len(column)) for column in stacked.T),
    )


def _residual_maker(fitted: Fit) -> np.ndarray:
    """I - H of the size means in the linearised law, on means of equal variance."""
    first = np.unique(fitted.place, return_index=True)[1]
    _, derivative = fitted.law.evaluate(fitted.working[None], fitted.z[:, first])
    free = ~at_boundary(fitted.law, fitted.z, fitted.working)
    basis, _ = np.linalg.qr((derivative[0][free] * np.sqrt(fitted.size_weights)).T)
    return np.eye(fitted.sizes) - basis @ basis.T


def _rank(values: np.ndarray) -> float:
    """The share of ``values`` that are at least the first."""
    return float((values >= values[0] - 1e-12).mean())

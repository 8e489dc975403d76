"""Whether a law holds: tests of lack of fit against seeds, and of the shape.

Two things make size means leave a law: an error that all seeds of a size share, which intervals on
size means answer for, and a wrong shape, which nothing answers for. Seeds tell that there is more
than seeds; only a pattern tells the two apart: errors of sizes have none. A test that a design
can't carry is said not to be made, with the reason.

Of a law in two variables a size is a cell, such as a number of parameters and an amount of data,
and the pattern is a bend: squares and product of the log variables, added to the linearised law
(an F test on cell means, whose errors are taken as independent). Measured under a true law of
Chinchilla's with seeds of .02 of the log score: questioned in .054 of 1,250 single-run studies, in
.037 of 1,250 of three seeds and an error of cells of .02 (grids of 3 x 4 to 8 x 3, iso-FLOP
profiles of 4 x 5; with further seeds .060 and .057 of 600 on 4 x 4, and .053 of 150 with three
families). Where the law is that of Kaplan et al. 2020, or the larger of two bottlenecks, or has
repeated data in it, it was questioned in all of 40 to 60 studies of each grid (three seeds, an
error of .005) and in .97 or more of iso-FLOP profiles. What it does not do: a slight turn in one
variable alone went unseen (0 to .08), and an error that all amounts of data of a size share, such
as luck in tuning, questions a true law in .01 to .14 (.02, in 100 studies of each grid).
Neighbouring cells being alike, tried in its place, says nothing of iso-FLOP profiles.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from smallnets.analysis.fit import Fit, at_boundary

DRAWS, EXACT = 4000, 1e-9
SIGNIFICANCE = 0.05
LEAST = 2  # degrees of freedom of scatter: with one F must be above 200, which answers nothing
SEEN = 1e-3  # share of a bend's length that a law must leave of it


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
    (linearised), so that they need no seeds. ``bend``: of laws in two variables, the p-value of the
    squares and product of their logarithms, over all families (Fisher 1925). ``p_value`` is the
    smallest, doubled where there are two. ``signs`` are, for each size in order, how many families
    lie above their law and of how many. ``reason`` says why nothing is tested, else it is empty.
    """

    neighbours: float = np.nan
    agreement: float = np.nan
    bend: float = np.nan
    p_value: float = np.nan
    signs: tuple[tuple[int, int], ...] = ()
    reason: str = ""

    @property
    def questioned(self) -> bool:
        """Whether the shape of the law is questioned."""
        return self.p_value < SIGNIFICANCE

    def __str__(self) -> str:
        if self.reason:
            return f"The shape of the law is not tested: {self.reason}."
        named = {
            "neighbouring sizes": self.neighbours,
            "agreement of families": self.agreement,
            "squares and product of the two log variables": self.bend,
        }
        said = ", ".join(f"{name} p = {p:.2g}" for name, p in named.items() if not np.isnan(p))
        if not self.questioned:
            return f"No pattern is seen in how sizes leave their laws ({said})."
        if not self.signs:
            return (
                f"The shape of the law is questioned: the surface bends otherwise ({said}). Its "
                "exponents, predictions and the split of a budget are arithmetic here, not "
                "evidence, unless all amounts of data of a size share an error."
            )
        above = ", ".join(f"{up} of {total}" for up, total in self.signs)
        return (
            f"The shape of the law is questioned: sizes leave their laws in a pattern "
            f"({said}; families above their law, from the smallest size: {above}). "
            "What rests on the law is arithmetic here, not evidence: the multiplier by "
            "interpolation leads."
        )


def lack_of_fit(fitted: Fit) -> LackOfFit:
    """Test ``fitted`` against its seeds."""
    between, within = fitted.sizes - fitted.law.size, len(fitted.score) - fitted.sizes
    if between <= 0 or within <= 0 or np.abs(fitted.slopes).max() < EXACT:
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
    """Test the residuals of the size means of all families for a pattern."""
    fits = {name: each for name, each in fits.items() if each.sizes >= each.law.size + 2}
    if not fits:
        return Shape(reason="no family has two sizes more than its law has parameters")
    # What is left of an exact law is rounding, whose pattern says nothing.
    fits = {n: each for n, each in fits.items() if np.abs(each.size_slopes).max() > EXACT}
    if not fits:
        return Shape(reason="all sizes lie on their laws, to rounding")
    if any(len(fitted.x) > 1 for fitted in fits.values()):
        return _surface([fitted for fitted in fits.values() if len(fitted.x) > 1])
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


def _surface(fits: Sequence[Fit]) -> Shape:
    """The test of laws in two variables."""
    bends = [_bend(fitted) for fitted in fits]
    known = [bend for bend in bends if not isinstance(bend, str)]
    if not known:
        return Shape(reason=next(bend for bend in bends if isinstance(bend, str)))
    p_value = known[0]
    if len(known) > 1:
        p_value = float(stats.chi2.sf(-2 * np.log(np.maximum(known, 1e-300)).sum(), 2 * len(known)))
    return Shape(bend=p_value, p_value=p_value)


def _bend(fitted: Fit) -> float | str:
    """The p-value of the bends of a surface, or why they can't be told from its law.

    F = (|P e|^2 / k) / (|(I - P) e|^2 / (S - p - k)) on the S cell means' residuals e, P the
    projection on the k bends that the linearised law, of p parameters, leaves.
    """
    z = fitted.z[:, np.unique(fitted.place, return_index=True)[1]]
    z = (z - z.mean(axis=1, keepdims=True)) / np.maximum(z.std(axis=1, keepdims=True), 1e-300)
    root, maker = np.sqrt(fitted.size_weights), _residual_maker(fitted)
    bends = np.stack([z[0] ** 2, z[0] * z[1], z[1] ** 2]) * root
    length = np.maximum(np.linalg.norm(bends, axis=1, keepdims=True), 1e-300)
    _, seen, axes = np.linalg.svd(bends / length @ maker, full_matrices=False)
    axes = axes[seen > SEEN]
    degrees = round(float(np.trace(maker))) - len(axes)
    if not len(axes):
        return "no bend of size and data can be told from the law in this design"
    if degrees < LEAST:
        return (
            f"{fitted.sizes} cells of size and data leave too little scatter beside "
            f"{fitted.law.size} parameters and {len(axes)} bends, "
            f"{fitted.sizes - degrees + LEAST} would do"
        )
    errors = maker @ (root * fitted.size_slopes)
    bent = float(((axes @ errors) ** 2).sum())
    rest = max(float(errors @ errors) - bent, 1e-300)
    return float(stats.f.sf(bent / len(axes) / (rest / degrees), len(axes), degrees))


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

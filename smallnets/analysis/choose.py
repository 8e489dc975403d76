"""Which law the data support: the second-order Akaike criterion, and what it leaves open.

AICc = m log(RSS / n) + 2 k + 2 k (k + 1) / (m - k - 1) with k = p + 1 for the noise (Hurvich & Tsai
1989). m is the effective number of runs, n / (1 + (R - 1) rho) for R seeds a size (design effect,
Kish 1965): rho, the share of the residual variance that all seeds of a size have in common, is
estimated under the most flexible law. Without an error of that kind m is n; with one, counting
every seed would let the law with the most parameters win, by following the error of each size.

A hold-out error is reported and doesn't select: measured on simulated studies it finds the right
form far less often.
"""

from dataclasses import dataclass

import numpy as np

from smallnets.analysis.fit import Fit, fit, predict
from smallnets.analysis.intervals import size_means
from smallnets.analysis.laws import BROKEN, IN_SIZE, Law

WITHIN = 4.0
BESIDE = 3  # sizes that a break needs on either side


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Candidates by AICc, best first, with their distance to the best; ``skipped`` says why not.

    ``hold_out`` is the log of the mean score at the largest size over what the law, fitted without
    that size, predicts there: NaN where too few sizes are left.
    """

    fits: tuple[Fit, ...]
    differences: tuple[float, ...]
    hold_out: tuple[float, ...]
    skipped: tuple[str, ...]

    @property
    def best(self) -> Fit:
        """The fit with the lowest AICc."""
        return self.fits[0]

    @property
    def alternatives(self) -> tuple[Fit, ...]:
        """The other fits that the data can't tell from the best: within 4 of it."""
        pairs = zip(self.fits[1:], self.differences[1:], strict=True)
        return tuple(fitted for fitted, difference in pairs if difference <= WITHIN)


def choose(
    x: np.ndarray, score: np.ndarray, *, laws: tuple[Law, ...] = IN_SIZE, delta: float = np.inf
) -> Choice:
    """Fit every law that the sizes allow and order them by AICc.

    A law takes part where it leaves two sizes more than it has parameters, a broken one where its
    break has three sizes on either side; where none does, the smallest that can be fitted at all
    stands alone.

    Raises:
        ValueError: if no law can be fitted.
    """
    x, score = np.atleast_2d(np.asarray(x, float)), np.asarray(score, float)
    usable = np.isfinite(score) & (score > 0)
    sizes = np.unique(x[:, usable], axis=1).shape[1]
    allowed = [law for law in laws if sizes >= law.size + 2]
    skipped = tuple(
        f"{law.name}: needs {law.size + 2} sizes, there are {sizes}"
        for law in laws
        if law not in allowed
    )
    if not allowed:
        allowed = [min(laws, key=lambda law: law.size)]
    fits = [fit(law, x, score, delta=delta) for law in allowed]
    weak = [_weak(fitted) for fitted in fits]
    if not all(weak):
        fits = [fitted for fitted, reason in zip(fits, weak, strict=True) if not reason]
        skipped += tuple(reason for reason in weak if reason)
    effective = effective_runs(max(fits, key=lambda fitted: fitted.law.size))
    values = np.array([aicc(fitted, effective) for fitted in fits])
    order = np.argsort(values, kind="stable")
    return Choice(
        fits=tuple(fits[i] for i in order),
        differences=tuple(
            float(values[i] - values[order[0]]) if i != order[0] else 0.0 for i in order
        ),
        hold_out=tuple(_hold_out(fits[i]) for i in order),
        skipped=skipped,
    )


def aicc(fitted: Fit, effective: float) -> float:
    """AICc of ``fitted`` for an effective number of runs, infinite where that is too small."""
    k = fitted.law.size + 1
    if effective - k - 1 <= 0:
        return np.inf
    n = len(fitted.score)
    noise = max(float((fitted.weights * fitted.residuals**2).sum()) / n, 1e-300)
    return effective * np.log(noise) + 2 * k + 2 * k * (k + 1) / (effective - k - 1)


def effective_runs(fitted: Fit) -> float:
    """How many independent runs the runs of ``fitted`` are worth: between sizes and runs."""
    n = len(fitted.score)
    sizes, means = size_means(fitted.x, fitted.residuals)
    seeds = n / sizes.shape[1]
    if seeds <= 1 or fitted.sizes <= fitted.law.size:
        return float(n)
    between = seeds * (means**2).sum() / (fitted.sizes - fitted.law.size)
    within = max((fitted.residuals**2).sum() - seeds * (means**2).sum(), 0) / (n - fitted.sizes)
    total = between + (seeds - 1) * within
    rho = (between - within) / total if total > 0 else 0.0
    return n / (1 + (seeds - 1) * min(max(rho, 0.0), 1.0))


def _weak(fitted: Fit) -> str:
    """Why a break can't be believed: with few sizes on a side it follows their errors."""
    if fitted.law is not BROKEN:
        return ""
    place, sizes = fitted.parameters["d"], np.unique(fitted.x[0])
    fewer = min((sizes < place).sum(), (sizes > place).sum())
    if fewer >= BESIDE:
        return ""
    return (
        f"{fitted.law.name}: its break at {place:,.0f} has {fewer} sizes on one side, not {BESIDE}"
    )


def _hold_out(fitted: Fit) -> float:
    largest = fitted.x[0] == fitted.x[0].max()
    rest = fitted.x[:, ~largest]
    if np.unique(rest, axis=1).shape[1] < fitted.law.size:
        return np.nan
    partial = fit(fitted.law, rest, fitted.score[~largest], delta=fitted.delta)
    predicted = predict(partial, fitted.x[:, largest])
    return float(np.mean(np.log(fitted.score[largest]) - np.log(predicted)))

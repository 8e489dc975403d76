"""One law for all families of a study.

Chosen is the lowest second-order Akaike criterion, summed over the families:

AICc = m log(2 Q / n) + 2 k + 2 k (k + 1) / (m - k - 1) with k = p + 1 for the noise (Hurvich & Tsai
1989), Q the objective of the fit: RSS / 2 in least squares. m is the effective number of runs,
n / (1 + (R - 1) rho) for R seeds a size (design effect, Kish 1965): rho, the share of the residual
variance that all seeds of a size have in common, is estimated under the most flexible law.

A law chosen for each family apart makes two copies of one family differ: then it is the laws that
differ. So all families have one law. And a power law is never chosen over the law with asymptote
where that has an interval: it is that law at E = 0, and runs can fail to show an asymptote but
can't show that there is none. CALIBRATION.md has what the intervals of a power law cover that AICc
chose over an asymptote that was there: none of a hundred. Where AICc prefers it, it stands beside.

A hold-out error is reported and doesn't select: measured on simulated studies it finds the right
form far less often.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from smallnets.analysis.fit import Fit, fit, predict
from smallnets.analysis.laws import ASYMPTOTE, BROKEN, IN_SIZE, POWER, Law

WITHIN = 4.0
BESIDE = 3  # sizes that a break needs on either side


@dataclass(frozen=True, kw_only=True)
class Runs:
    """What a law is fitted to: sizes (v, n), scores (n,) and weights (n,) of one family."""

    x: np.ndarray
    score: np.ndarray
    weights: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The laws of one family, that of the study first, the others by their AICc.

    ``differences`` are AICc over the first's: negative where this family alone would choose another
    law, infinite where the runs are too few to afford one. ``hold_out`` is the mean log of score
    over prediction at the largest sizes, fitted without them, NaN where too few are left or the law
    is excluded; ``held_out`` that of the first law at each of them, (size, error). ``skipped``
    says which laws take no part and why.
    """

    fits: tuple[Fit, ...]
    differences: tuple[float, ...]
    hold_out: tuple[float, ...]
    held_out: tuple[tuple[float, float], ...]
    skipped: tuple[str, ...]

    @property
    def best(self) -> Fit:
        """The fit of the study's law."""
        return self.fits[0]

    @property
    def alternatives(self) -> tuple[Fit, ...]:
        """The other fits that this family doesn't exclude: less than 4 above the first."""
        pairs = zip(self.fits[1:], self.differences[1:], strict=True)
        return tuple(fitted for fitted, difference in pairs if difference <= WITHIN)

    def of(self, law: Law) -> Fit | None:
        """The fit of ``law``, if there is one."""
        return next((fitted for fitted in self.fits if fitted.law.name == law.name), None)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The law of a study. ``sums`` are the summed AICc of each law over the lowest of them.

    ``preferred`` has the lowest; ``law``, which every family is printed with, is another one only
    where that is a power law and the sizes allow an asymptote: then the study is not ``settled``.
    """

    law: Law
    preferred: Law
    sums: dict[str, float]

    @property
    def settled(self) -> bool:
        """Whether the preferred law is the one that the intervals are of."""
        return self.law.name == self.preferred.name


def choose(
    families: Mapping[str, Runs],
    *,
    laws: Sequence[Law] = IN_SIZE,
    delta: float = np.inf,
    held: int = 1,
) -> tuple[Verdict | None, dict[str, Choice]]:
    """Fit every law that the sizes allow to every family, and choose one for all.

    A law is fitted where it leaves two sizes more than it has parameters, a broken one where its
    break has three sizes on either side; where none is, the smallest that can be fitted at all
    stands alone. A law takes part in the choice if at least half of the families (of those with an
    interval) have the sizes for it, and none of these refuses it. A family without the sizes for
    the law of the study keeps the best that it has. ``held`` is how many sizes the hold-out leaves
    out.

    Raises:
        ValueError: if a family can't be fitted at all.
    """
    fitted = {name: _candidates(runs, laws, delta) for name, runs in families.items()}
    verdict = _verdict([fits for fits, _ in fitted.values()], laws)
    choices = {}
    for name, (fits, skipped) in fitted.items():
        effective = effective_runs(max(fits, key=lambda each: each.law.size))
        values = {each.law.name: aicc(each, effective) for each in fits}
        law = verdict.law.name if verdict else None
        first = law if law in values else _lead(min(fits, key=lambda f: values[f.law.name]), fits)
        order = sorted(fits, key=lambda f: (f.law.name != first, values[f.law.name]))
        over = [_difference(values[each.law.name], values[first]) for each in order]
        errors = [
            hold_out(f, held) if d <= WITHIN else () for f, d in zip(order, over, strict=True)
        ]
        choices[name] = Choice(
            fits=tuple(order),
            differences=tuple(over),
            hold_out=tuple(
                float(np.mean([error for _, error in each])) if each else np.nan for each in errors
            ),
            held_out=errors[0],
            skipped=skipped,
        )
    return verdict, choices


def aicc(fitted: Fit, effective: float) -> float:
    """AICc of ``fitted`` for an effective number of runs, infinite where that is too small."""
    k = fitted.law.size + 1
    if effective - k - 1 <= 0:
        return np.inf
    scale = max(2 * fitted.objective / fitted.weights.sum(), 1e-300)
    return effective * np.log(scale) + 2 * k + 2 * k * (k + 1) / (effective - k - 1)


def effective_runs(fitted: Fit) -> float:
    """How many independent runs the runs of ``fitted`` are worth: between sizes and runs."""
    n = len(fitted.score)
    seeds = n / fitted.sizes
    if seeds <= 1 or fitted.sizes <= fitted.law.size:
        return float(n)
    shared = (fitted.size_weights * fitted.size_slopes**2).sum()
    between = shared / (fitted.sizes - fitted.law.size)
    within = max((fitted.weights * fitted.slopes**2).sum() - shared, 0) / (n - fitted.sizes)
    total = between + (seeds - 1) * within
    rho = (between - within) / total if total > 0 else 0.0
    return n / (1 + (seeds - 1) * min(max(rho, 0.0), 1.0))


def hold_out(fitted: Fit, held: int = 1) -> tuple[tuple[float, float], ...]:
    """(size, log of score over prediction) at the ``held`` largest sizes, fitted without them.

    The size is the product of the variables where there are several. Empty where the sizes that
    are left are fewer than the parameters.
    """
    size = fitted.x.prod(axis=0)
    largest = np.unique(size)[-held:]
    rest = ~np.isin(size, largest)
    if np.unique(fitted.x[:, rest], axis=1).shape[1] < fitted.law.size:
        return ()
    partial = fit(
        fitted.law,
        fitted.x[:, rest],
        fitted.score[rest],
        delta=fitted.delta,
        weights=fitted.weights[rest],
    )
    error = np.log(fitted.score) - np.log(predict(partial, fitted.x))
    return tuple((float(one), float(error[size == one].mean())) for one in largest)


def _candidates(runs: Runs, laws: Sequence[Law], delta: float) -> tuple[list[Fit], tuple[str, ...]]:
    usable = np.isfinite(runs.score) & (runs.score > 0)
    sizes = np.unique(runs.x[:, usable], axis=1).shape[1]
    allowed = [law for law in laws if sizes >= law.size + 2]
    skipped = tuple(
        f"{law.name}: needs {law.size + 2} sizes, there are {sizes}"
        for law in laws
        if law not in allowed
    )
    allowed = allowed or [min(laws, key=lambda law: law.size)]
    fits = [fit(law, runs.x, runs.score, delta=delta, weights=runs.weights) for law in allowed]
    weak = [_weak(fitted) for fitted in fits]
    if not all(weak):
        fits = [fitted for fitted, reason in zip(fits, weak, strict=True) if not reason]
        skipped += tuple(reason for reason in weak if reason)
    return fits, skipped


def _verdict(families: list[list[Fit]], laws: Sequence[Law]) -> Verdict | None:
    """The law of the lowest sum; None where no family has an interval."""
    families = [fits for fits in families if any(fitted.identifiable for fitted in fits)]
    if not families:
        return None
    taking = []
    for law in laws:
        able = [fits for fits in families if fits[0].sizes >= law.size + 2]
        have = [fits for fits in able if any(fitted.law.name == law.name for fitted in fits)]
        if 2 * len(able) >= len(families) and len(have) == len(able) and have:
            taking.append(law)
    taking = taking or [min(laws, key=lambda law: law.size)]
    sums = {law.name: 0.0 for law in taking}
    for fits in families:
        effective = effective_runs(max(fits, key=lambda each: each.law.size))
        values = {each.law.name: aicc(each, effective) for each in fits}
        if all(law.name in values for law in taking):
            for law in taking:
                sums[law.name] += values[law.name]
    preferred = min(taking, key=lambda law: sums[law.name])
    lead = preferred
    if preferred.name == POWER.name and ASYMPTOTE.name in sums:
        lead = next(law for law in taking if law.name == ASYMPTOTE.name)
    lowest = sums[preferred.name]
    return Verdict(
        law=lead,
        preferred=preferred,
        sums={name: _difference(value, lowest) for name, value in sums.items()},
    )


def _lead(best: Fit, fits: list[Fit]) -> str:
    """What a family alone is printed with: a power law only where the asymptote has no interval."""
    names = [fitted.law.name for fitted in fits]
    return (
        ASYMPTOTE.name if best.law.name == POWER.name and ASYMPTOTE.name in names else best.law.name
    )


def _difference(value: float, lowest: float) -> float:
    """value - lowest, also where one of them or both are infinite."""
    return 0.0 if value == lowest else float(value - lowest)


def _weak(fitted: Fit) -> str:
    """Why a break can't be believed: with few sizes on a side it follows their errors."""
    if fitted.law.name != BROKEN.name or "d" not in fitted.parameters:
        return ""
    place, sizes = fitted.parameters["d"], np.unique(fitted.x[0])
    fewer = min((sizes < place).sum(), (sizes > place).sum())
    if fewer >= BESIDE:
        return ""
    return (
        f"{fitted.law.name}: its break at {place:,.0f} has {fewer} sizes on one side, not {BESIDE}"
    )

"""What a study says, in sentences that a person can quote, and which run was the best."""

from dataclasses import dataclass

import polars as pl

from smallnets.analysis.break_even import paid
from smallnets.analysis.compare import Claims, Comparison
from smallnets.analysis.paths import sentences
from smallnets.analysis.study import Curve, Study, finished, means
from smallnets.analysis.table import some
from smallnets.analysis.tables import label, number

NAMED = 3  # families, or chains, of which an answer gives the numbers
CHANGES = 1.25  # how far a multiplier may go over the scores before it is said


@dataclass(frozen=True, kw_only=True)
class Best:
    """The best run in a sentence, and the command that makes it again: empty if not known."""

    sentence: str
    command: str


def answer(study: Study, compared: Claims) -> tuple[str, ...]:
    """Who needs how many times fewer, what is not established, and whether the laws hold."""
    fitted = [curve for curve in study.curves if curve.choice is not None]
    if not fitted and (chains := sentences(study)):
        return tuple(chains[:NAMED])
    if not fitted:
        return (_without(study, compared),)
    level = 1 - study.level
    compares = [_against(pair, compared.reference, level) for pair in compared.comparisons]
    pairs = [pair for pair in compares if pair is not None]
    if not pairs:
        said = [_alone(study, fitted[0])] if len(fitted) == 1 else [_none(study, compared)]
    else:
        said = _compared(study, compared, pairs) + _left(compared)
    return (*said, *_laws(study, fitted))


def _without(study: Study, compared: Claims) -> str:
    """What can be said where there is no law: why, and who is on the Pareto front."""
    why = next((note for note in study.notes if "curve" in note), "none was asked for")
    found = compared.points.filter("front").group_by("family", maintain_order=True).len()
    fronts = [f"{name} ({count} point{'s' * (count > 1)})" for name, count in found.iter_rows()]
    axes = f"{label(study.columns.score)} and {label(study.columns.size)}"
    return f"No law was fitted: {why.rstrip('.')}. On the Pareto front of {axes}: {some(fronts)}."


def best_run(study: Study) -> Best | None:
    """The run with the best validation score, where there is one, else the best score.

    It is looked for among the runs that the curves rest on.
    """
    columns = study.columns
    by = study.selection.score if study.selection else columns.score
    runs = finished(study.runs)
    score = pl.col(by).cast(pl.Float64)
    runs = runs.filter(score.is_finite())
    if runs.is_empty():
        return None
    run = runs.sort(score, maintain_order=True).row(0, named=True)
    family, size = str(run[columns.family]), run[columns.size]
    curve = next(curve for curve in study.curves if curve.family == family)
    at = means(curve, columns).filter(pl.col("size") == size)
    same = curve.runs.filter(pl.col(columns.size) == size)
    # Rows at several settings, or of other data, are no seeds.
    apart = bool(columns.data or columns.settings) or same[columns.seed].is_duplicated().any()
    seeds = at["runs"][0] if len(at) and not apart else 0
    over = f" (mean of its {seeds} seeds: {at['mean'][0]:.4g})" if seeds > 1 else ""
    sentence = (
        f"Best run, by {label(by)}: {family} with {number(size)} {label(columns.size)}, "
        f"{label(columns.seed)} {run[columns.seed]}: {label(columns.score)} "
        f"{float(run[columns.score]):.4g}{over}."
    )
    return Best(sentence=sentence, command=run.get("command") or "")


def further(study: Study) -> list[str]:
    """The laws that stand beside, predictions, the split of a budget, and when a chain has paid."""
    said = []
    for curve in study.curves:
        for interval in curve.beside:
            if interval.parameter == "alpha":
                said.append(
                    f"{curve.family}, were it a power law: alpha {interval.estimate:.4g}, "
                    f"{study.level:.0%} interval {interval}"
                )
        for each in curve.predictions:
            at = ", ".join(f"{value:.6g}" for value in each.x)
            said.append(
                f"{curve.family} at {at}: {each.score:.4g}, {study.level:.0%} interval "
                f"{each.low:.4g} to {each.high:.4g} of the mean, {each.run_low:.4g} to "
                f"{each.run_high:.4g} of one run"
            )
        if curve.allocation is not None:
            split = curve.allocation
            said.append(
                f"{curve.family}, compute-optimal: {study.columns.size} ~ "
                f"C^{split.size.estimate:.3g} "
                f"({split.size}), {study.columns.data} ~ C^{split.data.estimate:.3g} ({split.data})"
            )
    return said + paid(study.table)


@dataclass(frozen=True, kw_only=True)
class _Pair:
    """A family against the reference."""

    family: str
    value: float
    low: float
    high: float
    score: float
    established: bool
    apart: bool


def _against(pair: Comparison, reference: str, level: float) -> _Pair | None:
    """The comparison turned so that ``reference`` is what is compared with; p below ``level``."""
    if pair.refusal or reference not in (pair.family, pair.other):
        return None
    turned = pair.family == reference
    value, low, high, _ = pair.answer
    if turned:
        value, low, high = 1 / value, 1 / high, 1 / low
    return _Pair(
        family=pair.other if turned else pair.family,
        value=value,
        low=low,
        high=high,
        score=pair.score,
        established=pair.p_adjusted < level and not low <= 1 <= high,
        apart=not low <= 1 <= high,
    )


def _compared(study: Study, compared: Claims, pairs: list[_Pair]) -> list[str]:
    size, score = label(study.columns.size), label(study.columns.score)
    reference = compared.reference
    pairs = sorted(pairs, key=lambda pair: -pair.value)
    fewer = [pair for pair in pairs if pair.established and pair.value > 1]
    more = [pair for pair in pairs[::-1] if pair.established and pair.value < 1]
    unsettled = [pair for pair in pairs if not pair.established]
    sentences = []
    for found, times, than, turned in (
        (fewer, "times fewer", "than", False),
        (more, "times as many", "as", True),
    ):
        if not found:
            continue
        first, *others = [_numbers(pair, study, compared, turned=turned) for pair in found[:NAMED]]
        text = (
            f"For the same {score}, {found[0].family} needs {first[0]} {times} {size} {than} "
            f"{reference} ({study.level:.0%} interval {first[1]})"
        )
        for pair, (value, interval) in zip(found[1:], others, strict=False):
            text += f"; {pair.family} {value} ({interval})"
        rest = len(found) - NAMED
        sentences.append(text + (f"; and {rest} more do." if rest > 0 else "."))
    if not fewer:
        what = "to need fewer" if more else "to differ in the"
        sentences.insert(
            0,
            f"No family is established {what} {size} "
            + (f"than {reference} for" if more else f"that it needs from {reference} at")
            + f" the same {score}.",
        )
    if unsettled:
        said = [f"{p.family} ({p.low:.3g} to {p.high:.3g} times fewer)" for p in unsettled]
        text = f"Not established against {reference}: {some(said, most=NAMED)}."
        if any(pair.apart for pair in unsettled):
            text += " Intervals without 1 are among them: p is corrected for all pairs (Holm)."
        sentences.append(text)
    return sentences


def _left(compared: Claims) -> list[str]:
    """Which families can't be compared with the reference."""
    refused = [pair for pair in compared.comparisons if pair.refusal]
    against = [{pair.family, pair.other} - {compared.reference} for pair in refused]
    names = [name for names in against if len(names) == 1 for name in names]
    return [f"Not comparable with {compared.reference}: {some(names, most=NAMED)}."] * bool(names)


def _numbers(pair: _Pair, study: Study, compared: Claims, *, turned: bool) -> tuple[str, str]:
    """The multiplier and its interval at the middle, and where it goes over all scores."""
    value, low, high = pair.value, pair.low, pair.high
    if turned:
        value, low, high = 1 / value, 1 / high, 1 / low
    text = f"{low:.3g} to {high:.3g}, at {label(study.columns.score)} {pair.score:.3g}"
    over = compared.multipliers.get(pair.family)
    by_laws = not study.shape.questioned
    if by_laws and over is not None and over.value.max() > CHANGES * over.value.min():
        first, last = over.value[-1], over.value[0]
        if turned:
            first, last = 1 / first, 1 / last
        text += f"; from {first:.3g} at {over.score[-1]:.3g} to {last:.3g} at {over.score[0]:.3g}"
    return f"{value:.3g}", text


def _none(study: Study, compared: Claims) -> str:
    reasons = [pair.refusal for pair in compared.comparisons if pair.refusal] or list(
        compared.refused
    )
    if study.columns.data:
        reasons = ["where a law is of two variables, no one size has a score"]
    why = f": {reasons[0]}" if reasons else ""
    return (
        f"How many times fewer {label(study.columns.size)} one family needs than another can't be "
        f"said{why}."
    )


def _alone(study: Study, curve: Curve) -> str:
    choice = curve.choice
    assert choice is not None
    law = choice.best.law
    said = ", ".join(
        f"{each.parameter} = {each.estimate:.3g} ({each})"
        for each in curve.intervals
        if each.parameter in ("E", "alpha", "beta") or len(curve.intervals) <= 2
    )
    return (
        f"The {label(study.columns.score)} of {curve.family} falls with its "
        f"{label(study.columns.size)} N as {law.formula}: {said}, {study.level:.0%} intervals."
    )


def _laws(study: Study, fitted: list[Curve]) -> list[str]:
    """Whether the laws hold, and how far they may be trusted."""
    weak = [curve.family for curve in fitted if curve.choice and not curve.choice.best.identifiable]
    if len(weak) == len(fitted):
        return [f"Too few sizes for an interval: {some(weak)}."]
    law = study.verdict.law.formula if study.verdict else "law"
    tests = [curve.lack_of_fit for curve in fitted if curve.lack_of_fit is not None]
    tests = [test for test in tests if test.p_value == test.p_value]
    lacking = sum(test.found for test in tests)
    shape = study.shape
    if shape.questioned:
        what = "its exponents and predictions are no evidence"
        if shape.signs:
            what = "the numbers above are by interpolation between sizes"
        said = (
            f"The shape of {law} is questioned by these data: {what}, and no law should be "
            "extrapolated."
        )
    elif lacking:
        seen = f"No wrong shape of {law} is seen"
        if shape.reason:
            seen = f"The shape of {law} is not tested ({shape.reason})"
        said = (
            f"{seen}, but in {lacking} of {len(tests)} families more than seeds moves the sizes "
            "off it, which the intervals allow for."
        )
    elif shape.reason and not tests:
        said = f"Whether {law} holds can't be tested by these data: {shape.reason}."
    elif shape.reason:
        said = f"No more than seeds is seen about {law}, whose shape is not tested: {shape.reason}."
    else:
        said = f"Nothing seen speaks against {law}."
    if study.verdict is not None and not study.verdict.settled:
        said += f" {study.verdict.preferred.formula} is not excluded: both are printed."
    return [said, *([f"Too few sizes for an interval: {some(weak)}."] if weak else [])]

"""From a table of runs to a curve for each family, with everything that a reader must be told."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from smallnets.analysis.adequacy import LackOfFit, Shape, lack_of_fit, shape
from smallnets.analysis.choose import Choice, Runs, Verdict, choose
from smallnets.analysis.intervals import (
    Allocation,
    Interval,
    Prediction,
    allocation,
    intervals,
    prediction,
)
from smallnets.analysis.laws import IN_SIZE, POWER, TWO_AXES, Law, pin
from smallnets.analysis.runs import ROW, Columns, chained, check, finished, grown, prepared, priced
from smallnets.analysis.scores import above_chance, distance, noise_of_examples, refuse_rising
from smallnets.analysis.select import Selection, best_rate, swept
from smallnets.analysis.select import notes as selection_notes

STEP = 0.3  # of the spacing of the sizes: a break that is narrower is a step


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One family: its runs, its law with intervals, or the ``notes`` that say why there is none.

    ``intervals`` are of the law of the study, ``beside`` of the power law where that is preferred
    by AICc but not settled (see ``choose.Verdict``), empty elsewhere. ``lack_of_fit`` is the test
    against seeds. ``predictions`` are at the sizes that were asked for, ``allocation`` the split of
    a compute budget, for a law in parameters and data.
    """

    family: str
    runs: pl.DataFrame
    choice: Choice | None
    intervals: tuple[Interval, ...]
    beside: tuple[Interval, ...]
    lack_of_fit: LackOfFit | None
    predictions: tuple[Prediction, ...]
    allocation: Allocation | None
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Study:
    """A whole study: ``runs`` are those that the curves rest on, ``table`` is everything read.

    ``verdict`` is the law that all families have, None where none has an interval; ``shape`` says
    whether that law is questioned by the data.
    """

    columns: Columns
    table: pl.DataFrame
    runs: pl.DataFrame
    selection: Selection | None
    curves: tuple[Curve, ...]
    verdict: Verdict | None
    shape: Shape
    delta: float
    level: float
    notes: tuple[str, ...]


def analyse(
    frame: object,
    *,
    size: str = "parameters",
    score: str = "test_error",
    family: str = "family",
    seed: str = "seed",
    task: str | None = None,
    where: str | None = None,
    data: str = "",
    weights: str = "",
    cost: str | None = None,
    setting: str | Sequence[str] = (),
    validation: str = "validation_error",
    higher_is_better: bool = False,
    perfect: float | None = None,
    chance: float | None = None,
    test_examples: int | None = None,
    grow: str = "",
    laws: Sequence[Law] | None = None,
    pins: Mapping[str, float] | None = None,
    predict: Sequence[float | Sequence[float]] = (),
    held: int = 1,
    delta: float = float("inf"),
    level: float = 0.95,
    notes: Sequence[str] = (),
) -> Study:
    """Select, check and fit: one curve of ``score`` over ``size`` for each family, all of one law.

    ``frame`` is a polars or pandas frame, a line a run; ``where`` a condition that runs fulfil (see
    ``runs.prepared``).

    The columns ``setting`` (by default those of a configuration that vary among runs of one family,
    size and seed) are chosen jointly for each (family, size) by the mean of ``validation`` over
    seeds. ``validation_error`` is the default because a study of errors should choose by errors:
    the validation loss of a small network keeps rising, from overconfidence, while its error still
    falls, and would choose rates that are too small. Where ``laws`` are none, nothing is chosen:
    each setting is a point of its own.

    Scores are better the lower they are; of a metric of which rows say that it is not, the distance
    from its best value is taken (:func:`smallnets.analysis.table.lower_is_better`), and that from
    ``perfect`` where ``higher_is_better``. Sizes that don't differ from ``chance``, a score as the
    runs have it, are left out. ``test_examples`` tells the noise of a test set from training's.

    ``data`` is a second column that the law is of, so that it is E + A N^-alpha + B D^-beta.
    ``weights`` is a column of the weight of each run. ``cost`` names another axis to draw and
    compare along (FLOPs, milliseconds, joules): each family and size is placed at its median over
    runs, because a clock differs between seeds. ``grow`` is a word of the families' labels, such as
    ``depth``, that makes sizes of one family and not families.

    ``laws`` are those to choose from (none: no curve is fitted), ``pins`` parameters to hold,
    ``predict`` sizes at which the score is predicted, ``held`` how many of the largest sizes a fit
    for the hold-out leaves out. ``notes`` are further ones that the report is to begin with.

    Raises:
        ValueError: in one line, if columns or values are missing, negative, infinite or
            duplicated, if there are several tasks and none is named, or fewer than two sizes.
    """
    if held < 1:
        raise ValueError(f"a hold-out leaves out one size or more, got {held}")
    if laws is None:
        laws = (TWO_AXES,) if data else IN_SIZE
    if not laws and (pins or len(predict)):
        raise ValueError("to predict or to pin a parameter takes a law: leave --law none out")
    laws = _pinned(laws, pins or {})
    settings = (setting,) if isinstance(setting, str) else tuple(setting)
    for law in laws:
        if len(law.variables) != 1 + bool(data):
            rule = "name its column with --data" if not data else "leave --data out"
            raise ValueError(f"{law.formula} is of {' and '.join(law.variables)}: {rule}")
    columns = Columns(size=size, score=score, family=family, seed=seed, data=data, weights=weights)
    given = prepared(
        frame,
        columns,
        task=task,
        cost=cost,
        settings=settings,
        validation=validation,
        where=where,
    )
    table, columns, validation = given.table, given.columns, given.validation
    asked, score = score, columns.score
    if higher_is_better:
        table, score = distance(table, score, perfect)
        if validation in table.columns:
            table, validation = distance(table, validation, perfect)
        columns = replace(columns, score=score)
    table, merged = grown(table, columns, grow)
    notes = [*notes, *given.notes, *merged]
    families = table[family].unique(maintain_order=True).to_list()
    selection, runs = None, table
    if not laws:  # nothing is chosen: each setting is a point of its own
        columns, settings = replace(columns, settings=settings), ()
    elif not settings:
        settings = swept(table, [family, *columns.variables, seed])
        settings = settings if validation in table.columns else ()
    if settings:
        selection = best_rate(table, setting=settings, score=validation, size=size, family=family)
        runs = selection.runs
        notes += selection_notes(selection, family, size)
    laws = () if laws and chained(runs, columns, notes) else laws
    check(runs, columns, curves=bool(laws))
    refuse_rising(finished(runs), size, score, family, turned=higher_is_better)
    if chance is not None:
        turned = asked != score and asked in runs.columns
        runs, left_out = above_chance(
            runs, chance, size=size, score=asked if turned else score, family=family, turned=turned
        )
        notes += left_out
    if cost is not None:
        runs, columns = priced(runs, columns, cost)
    table, runs = table.drop(ROW), runs.drop(ROW)  # no further check names one
    usable = {name: finished(runs.filter(pl.col(family) == name)) for name in families}
    fitted = {name: _arrays(line, columns) for name, line in usable.items() if laws}
    fitted = {name: line for name, line in fitted.items() if _sizes(line) >= 2}
    verdict, choices = choose(fitted, laws=laws, delta=delta, held=held) if fitted else (None, {})
    _possible(choices)
    curves = []
    for name in families:
        gone = int((runs[family] == name).sum()) - len(usable[name])
        said = [f"{gone} of {gone + len(usable[name])} runs diverged and are left out"] * (gone > 0)
        if name in choices:
            curve = _curve(name, usable[name], columns, choices[name], verdict, predict, level)
            said += [*curve.notes, *_examples(usable[name], columns, choices[name], test_examples)]
            curves.append(replace(curve, notes=tuple(said)))
        else:
            curves.append(_bare(name, usable[name], columns, laws, said))
    tested = shape({name: choice.best for name, choice in choices.items()})
    notes += _law_notes(verdict, tested, choices, held)
    if laws and not choices:
        notes.append("no family has enough sizes for a curve: at least two are needed")
    return Study(
        columns=columns,
        table=table,
        runs=runs,
        selection=selection,
        curves=tuple(curves),
        verdict=verdict,
        shape=tested,
        delta=delta,
        level=level,
        notes=tuple(notes),
    )


def _pinned(laws: Sequence[Law], pins: Mapping[str, float]) -> tuple[Law, ...]:
    """The laws that have all parameters that are pinned, with those held."""
    having = [law for law in laws if set(pins) <= set(law.parameters)]
    if pins and not having:
        raise ValueError(
            f"no law has {', '.join(pins)} to pin; there are "
            + ", ".join(f"{law.formula} ({', '.join(law.parameters)})" for law in laws)
        )
    return tuple(pin(law, dict(pins)) for law in having)


def _possible(choices: Mapping[str, Choice]) -> None:
    """Raise one line if an asymptote is pinned that leaves nothing to fall."""
    for name, choice in choices.items():
        best = choice.best
        floor = dict(best.law.pins).get("E")
        if floor is not None and best.boundary == best.law.parameters[: best.law.linear]:
            raise ValueError(
                f"E is pinned to {floor:g}, and the scores of {name} go down to "
                f"{best.score.min():.4g}: pin it below all of them"
            )


def _arrays(runs: pl.DataFrame, columns: Columns) -> Runs:
    def values(name: str) -> np.ndarray:
        return runs[name].cast(pl.Float64).to_numpy()

    return Runs(
        x=np.stack([values(name) for name in columns.variables]),
        score=values(columns.score),
        weights=values(columns.weights) if columns.weights else np.ones(len(runs)),
    )


def _sizes(runs: Runs) -> int:
    positive = np.isfinite(runs.score) & (runs.score > 0)
    return np.unique(runs.x[:, positive], axis=1).shape[1]


def _bare(
    family: str, runs: pl.DataFrame, columns: Columns, laws: Sequence[Law], notes: list[str]
) -> Curve:
    """A family without a law."""
    if laws:
        notes.append(
            "no curve: a single size with a positive score, at least two are needed"
            if _sizes(_arrays(runs, columns))
            else "no curve: every run diverged"
        )
    return Curve(
        family=family,
        runs=runs,
        choice=None,
        intervals=(),
        beside=(),
        lack_of_fit=None,
        predictions=(),
        allocation=None,
        notes=tuple(notes),
    )


def _curve(
    family: str,
    runs: pl.DataFrame,
    columns: Columns,
    choice: Choice,
    verdict: Verdict | None,
    predict: Sequence[float | Sequence[float]],
    level: float,
) -> Curve:
    best = choice.best
    notes = list(best.dropped)
    if not best.identifiable:
        notes.append(
            f"not identifiable: {best.sizes} sizes, a {best.law.name} needs {best.law.size + 2} "
            "for an interval"
        )
    elif verdict is not None and best.law.name != verdict.law.name:
        notes.append(f"printed as {best.law.formula}: {best.sizes} sizes don't allow another law")
    if best.identifiable and runs[columns.seed].n_unique() < 2:
        notes.append("one seed only: the interval rests on the scatter about the law")
    if not best.converged:
        notes.append(f"the fit of {best.law.formula} did not converge: don't use its numbers")
    if best.boundary:
        notes.append(f"{' and '.join(best.boundary)} at the boundary, zero")
    width = best.parameters.get("f", np.inf)
    if width < STEP * float(np.diff(np.log(np.unique(best.x[0]))).max()):
        notes.append("its break is a step between two sizes: how wide it is the runs don't say")
    power = choice.of(POWER)
    beside = verdict is not None and not verdict.settled and power not in (None, best)
    split = best.law.name == TWO_AXES.name and not {"alpha", "beta"} & dict(best.law.pins).keys()
    return Curve(
        family=family,
        runs=runs,
        choice=choice,
        intervals=intervals(best, level=level),
        beside=intervals(power, level=level) if beside and power else (),
        lack_of_fit=lack_of_fit(best),
        predictions=tuple(prediction(best, at, level=level) for at in predict)
        if best.identifiable
        else (),
        allocation=allocation(best, level=level) if split else None,
        notes=tuple(notes),
    )


def _examples(
    runs: pl.DataFrame, columns: Columns, choice: Choice, examples: int | None
) -> list[str]:
    """What the finite test set adds to the scatter of the runs."""
    if examples is None:
        return []
    if examples < 1:
        raise ValueError(f"a test set has one example or more, got {examples}")
    best = choice.best
    within = len(best.score) - best.sizes
    y = np.log(best.score)
    means = np.bincount(best.place, y) / np.bincount(best.place)
    spread = float(np.sqrt(((y - means[best.place]) ** 2).sum() / within)) if within else np.nan
    return [noise_of_examples(best.score, spread, examples)]


def _law_notes(
    verdict: Verdict | None, tested: Shape, choices: Mapping[str, Choice], held: int
) -> list[str]:
    """What is to be said of the law of the study: not settled, questioned, extrapolating badly."""
    notes = []
    if verdict is not None and not verdict.settled:
        notes.append(
            f"Not settled: AICc prefers {verdict.preferred.formula} "
            f"({_over(verdict.sums[verdict.law.name])} for {verdict.law.formula}), but no runs "
            "show that E is zero. Both are printed; intervals, predictions and multipliers are of "
            f"{verdict.law.formula}, which has the other as E = 0."
        )
    if choices:
        notes.append(str(tested))
    errors = [error for choice in choices.values() for _, error in choice.held_out]
    if held > 1 and choices and not errors:
        notes.append(f"No hold-out: without its {held} largest sizes no family can be fitted.")
    if len(errors) > 3 and (all(e > 0 for e in errors) or all(e < 0 for e in errors)):
        side = "above" if errors[0] > 0 else "below"
        notes.append(
            f"All {len(errors)} hold-out errors have one sign: scores at the {held} largest sizes "
            f"lie {side} what the law says without them, by {np.mean(np.abs(errors)):.1%} on "
            "average. It should not be extrapolated."
        )
    return notes


def _over(difference: float) -> str:
    return "too few runs to afford it" if np.isinf(difference) else f"+{difference:.1f}"


def means(curve: Curve, columns: Columns) -> pl.DataFrame:
    """One line a size, and ``setting``: geometric mean of the score, lowest, highest, runs."""
    score = pl.col(columns.score).cast(pl.Float64)
    setting = [setting_of(columns.settings)] if columns.settings else []
    return (
        curve.runs.filter(score > 0)
        .group_by(pl.col(columns.size).alias("size"), *setting, maintain_order=True)
        .agg(
            score.log().mean().exp().alias("mean"),
            score.min().alias("lowest"),
            score.max().alias("highest"),
            pl.len().alias("runs"),
        )
        .sort("size", maintain_order=True)
    )


def setting_of(names: Sequence[str]) -> pl.Expr:
    """What rows have in the columns ``names``, as text: ``rate=0.1, depth=2``."""
    values = [pl.format("{}={}", pl.lit(name), pl.col(name)) for name in names]
    said = pl.concat_str(values, separator=", ", ignore_nulls=True) if values else pl.lit("")
    return said.alias("setting")

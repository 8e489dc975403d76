"""From a table of runs to a curve for each family, with everything that a reader must be told."""

from dataclasses import dataclass, replace

import polars as pl

from smallnets.analysis.choose import Choice, choose
from smallnets.analysis.columns import SETTING, Columns, prepared
from smallnets.analysis.intervals import Interval, intervals
from smallnets.analysis.laws import IN_SIZE, Law
from smallnets.analysis.select import DIVERGED, Selection, best_rate


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One family: its runs, its law with intervals, or the ``notes`` that say why there is none."""

    family: str
    runs: pl.DataFrame
    choice: Choice | None
    intervals: tuple[Interval, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Study:
    """A whole study: ``runs`` are those that the curves rest on, ``table`` is everything read."""

    columns: Columns
    table: pl.DataFrame
    runs: pl.DataFrame
    selection: Selection | None
    curves: tuple[Curve, ...]
    delta: float
    level: float
    notes: tuple[str, ...]


def analyse(
    table: object,
    *,
    size: str = "parameters",
    score: str = "test_error",
    family: str = "family",
    seed: str = "seed",
    task: str | None = None,
    where: str | None = None,
    cost: str | None = None,
    setting: str = SETTING,
    validation: str = "validation_error",
    laws: tuple[Law, ...] = IN_SIZE,
    delta: float = float("inf"),
    level: float = 0.95,
) -> Study:
    """Select, check and fit: one curve of ``score`` over ``size`` for each family.

    ``table`` is a polars or pandas frame, a line a run (see ``columns.prepared``, also for
    ``where``, which keeps a part of it).

    Where the column ``setting`` varies, its value is chosen for each (family, size) by the mean of
    ``validation`` over seeds. ``validation_error`` is the default because a study of errors should
    choose by errors: the validation loss of a small network keeps rising, from overconfidence,
    while its error still falls, and would choose rates that are too small.

    Scores are better the lower they are; of a metric of which rows say that it is not, the distance
    from its best value is taken (:func:`smallnets.analysis.table.lower_is_better`).

    ``cost`` names another axis to draw and compare along (FLOPs, milliseconds, joules): each family
    and size is placed at its median over runs, because a clock differs between seeds.

    Raises:
        ValueError: in one line, if columns or values are missing, negative, infinite or
            duplicated, if there are several tasks and none is named, or fewer than two sizes.
    """
    given = prepared(
        table,
        Columns(size=size, score=score, family=family, seed=seed),
        task=task,
        cost=cost,
        setting=setting,
        validation=validation,
        where=where,
    )
    table, columns, validation = given.table, given.columns, given.validation
    families = table[family].unique(maintain_order=True).to_list()
    selection, runs, notes = None, table, list(given.notes)
    if setting in table.columns and table[setting].n_unique() > 1:
        selection = best_rate(table, setting=setting, score=validation, size=size, family=family)
        runs = selection.runs
        notes += _selection_notes(selection, family, size)
    check(runs, columns)
    if cost is not None:
        runs, columns = _priced(runs, columns, cost)
    curves = [
        _curve(name, runs.filter(pl.col(family) == name), columns, laws, delta, level)
        for name in families
    ]
    if all(curve.choice is None for curve in curves):
        notes.append("no family has enough sizes for a curve: at least two are needed")
    return Study(
        columns=columns,
        table=table,
        runs=runs,
        selection=selection,
        curves=tuple(curves),
        delta=delta,
        level=level,
        notes=tuple(notes),
    )


def _priced(runs: pl.DataFrame, columns: Columns, cost: str) -> tuple[pl.DataFrame, Columns]:
    """The runs with ``cost`` as its median at each (family, size), and that as the axis."""
    if cost not in runs.columns:
        raise ValueError(f"no column {cost} to use as a cost; there are {', '.join(runs.columns)}")
    if not runs[cost].dtype.is_numeric() or not (runs[cost] > 0).all():
        raise ValueError(f"column {cost} must hold a positive number for every run")
    median = pl.col(cost).cast(pl.Float64).median().over(columns.family, columns.size)
    return runs.with_columns(median.alias(cost)), replace(columns, size=cost)


def check(table: pl.DataFrame, columns: Columns) -> None:
    """Raise one line if the runs can't carry a curve; runs marked as diverged are passed over."""
    runs = finished(table)
    if runs.is_empty():
        raise ValueError(
            f"all {len(table)} runs diverged, so that there is no curve: lower the learning rate"
        )
    for name in (columns.size, columns.score):
        if not runs[name].dtype.is_numeric():
            raise ValueError(f"column {name} must hold numbers, it holds {runs[name].dtype}")
        values = runs[name].cast(pl.Float64)
        rules = {
            "missing": values.is_null() | values.is_nan(),
            "infinite": values.is_infinite(),
            "negative": values < 0,
        }
        for what, wrong in rules.items():
            if count := int(wrong.fill_null(False).sum()):
                raise ValueError(
                    f"column {name} is {what} in {count} of {len(runs)} runs: correct or remove "
                    f"them, or mark runs that failed by status = {DIVERGED}"
                )
    if (runs[columns.size] == 0).any():
        raise ValueError(f"column {columns.size} is zero in places: sizes must be positive")
    keys = [columns.family, columns.size, columns.seed]
    if twice := int(runs.select(keys).is_duplicated().sum()):
        raise ValueError(
            f"{twice} runs share their {', '.join(keys)} with another: keep one line a run, or "
            "name the setting that tells them apart and the validation score to choose it by"
        )
    if (
        len(runs)
        and runs.group_by(columns.family).agg(pl.col(columns.size).n_unique())[columns.size].max()
        == 1
    ):
        raise ValueError(
            f"every {columns.family} has a single {columns.size}: a curve needs at least two, an "
            "interval two more than the law has parameters (4 for a power law)"
        )


def finished(runs: pl.DataFrame) -> pl.DataFrame:
    """The runs that are not marked as diverged."""
    if "status" not in runs.columns:
        return runs
    return runs.filter(pl.col("status").ne_missing(DIVERGED))


def _selection_notes(selection: Selection, family: str, size: str) -> list[str]:
    name = selection.setting.removeprefix("config.")
    notes = []
    edge = selection.at_edge
    if len(edge):
        where = [
            f"{line[family]} at {line[size]:,} ({line['edge']})"
            for line in edge.iter_rows(named=True)
        ]
        notes.append(
            f"The best {name} is at the edge of its grid for {len(edge)} of "
            f"{int(selection.sweep['chosen'].sum())} (family, size): {_some(where)}. "
            "A better one may lie outside: widen the grid there."
        )
    if selection.failed:
        notes.append(
            f"No {name} was chosen where each had a diverged run: {_some(selection.failed)}."
        )
    return notes


def _some(names: list[str] | tuple[str, ...], shown: int = 8) -> str:
    rest = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {rest} more" if rest > 0 else "")


def _curve(
    family: str,
    runs: pl.DataFrame,
    columns: Columns,
    laws: tuple[Law, ...],
    delta: float,
    level: float,
) -> Curve:
    usable = finished(runs)
    notes = []
    if diverged := len(runs) - len(usable):
        notes.append(f"{diverged} of {len(runs)} runs diverged and are left out")
    x = usable[columns.size].cast(pl.Float64).to_numpy()
    score = usable[columns.score].cast(pl.Float64).to_numpy()
    sizes = usable.filter(pl.col(columns.score) > 0)[columns.size].n_unique()
    if sizes < 2:
        notes.append(
            "no curve: every run diverged"
            if sizes == 0
            else "no curve: a single size with a positive score, at least two are needed"
        )
        return Curve(family=family, runs=usable, choice=None, intervals=(), notes=tuple(notes))
    choice = choose(x, score, laws=laws, delta=delta)
    best = choice.best
    notes += best.dropped
    if not best.identifiable:
        notes.append(
            f"not identifiable: {best.sizes} sizes, a {best.law.name} needs {best.law.size + 2} "
            "for an interval"
        )
    if best.identifiable and usable[columns.seed].n_unique() < 2:
        notes.append("one seed only: the interval rests on the scatter about the law")
    if best.boundary:
        notes.append(f"{' and '.join(best.boundary)} at the boundary, zero")
    return Curve(
        family=family,
        runs=usable,
        choice=choice,
        intervals=intervals(best, level=level),
        notes=tuple(notes),
    )


def means(curve: Curve, columns: Columns) -> pl.DataFrame:
    """One line a size: geometric mean of the score (what is fitted), lowest, highest, runs."""
    score = pl.col(columns.score).cast(pl.Float64)
    return (
        curve.runs.filter(score > 0)
        .group_by(pl.col(columns.size).alias("size"))
        .agg(
            score.log().mean().exp().alias("mean"),
            score.min().alias("lowest"),
            score.max().alias("highest"),
            pl.len().alias("runs"),
        )
        .sort("size")
    )

"""From a table of runs to a curve for each family, with everything that a reader must be told."""

from dataclasses import dataclass, replace

import polars as pl

from smallnets.analysis.choose import Choice, choose
from smallnets.analysis.intervals import Interval, intervals
from smallnets.analysis.laws import IN_SIZE, Law
from smallnets.analysis.select import DIVERGED, Selection, best_rate
from smallnets.analysis.table import lower_is_better


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The names of the columns that a study is read from."""

    size: str
    score: str
    family: str
    seed: str


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
    table: pl.DataFrame,
    *,
    size: str = "parameters",
    score: str = "test_error",
    family: str = "family",
    seed: str = "seed",
    task: str | None = None,
    cost: str | None = None,
    setting: str = "config.optimizer.learning_rate",
    validation: str = "validation_error",
    laws: tuple[Law, ...] = IN_SIZE,
    delta: float = float("inf"),
    level: float = 0.95,
) -> Study:
    """Select, check and fit: one curve of ``score`` over ``size`` for each family.

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
    table, score = lower_is_better(table, score)
    table, validation = lower_is_better(table, validation)
    columns = Columns(size=size, score=score, family=family, seed=seed)
    table = _one_task(_present(table, columns), task)
    families = table[family].unique(maintain_order=True).to_list()
    selection, runs, notes = None, table, []
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


def _present(table: pl.DataFrame, columns: Columns) -> pl.DataFrame:
    wanted = (columns.size, columns.score, columns.family, columns.seed)
    missing = [name for name in wanted if name not in table.columns]
    if missing:
        raise ValueError(
            f"no column {', '.join(missing)}; there are {', '.join(table.columns[:20])}"
        )
    for name in (columns.family, columns.seed):
        if count := table[name].null_count():
            raise ValueError(f"column {name} is missing in {count} of {len(table)} runs: name it")
    table = table.with_columns(pl.col(columns.family).cast(pl.String))
    return table.sort(columns.family, columns.size, columns.seed, maintain_order=True)


def _one_task(table: pl.DataFrame, task: str | None) -> pl.DataFrame:
    if "task" not in table.columns:
        return table
    tasks = table["task"].unique(maintain_order=True).to_list()
    if task is None and len(tasks) > 1:
        raise ValueError(f"a curve is of one task, there are {', '.join(tasks)}: name one")
    if task is not None and task not in tasks:
        raise ValueError(f"no task {task}, there are {', '.join(tasks)}")
    return table if task is None else table.filter(pl.col("task") == task)


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

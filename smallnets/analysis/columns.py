"""The columns that a study is read from: found, checked, and their cells as numbers.

What can be told from the data is not asked for: without a column of families all runs are one,
without one of seeds each row is a run of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches

import polars as pl

from smallnets.analysis.cells import numbers
from smallnets.analysis.select import DIVERGED
from smallnets.analysis.table import frame, lower_is_better, natural

FAMILY, SEED = "family", "seed"
ROW = "row of the input"


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The names of the columns that a study is read from; ``data`` and ``weights`` may be empty.

    ``data`` is the second variable of a law in two, such as the tokens seen.
    """

    size: str
    score: str
    family: str
    seed: str
    data: str = ""
    weights: str = ""

    @property
    def variables(self) -> list[str]:
        """The columns that the law is of."""
        return [self.size, self.data] if self.data else [self.size]


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A table that can be analysed, sorted; ``notes`` say what was assumed or left out."""

    table: pl.DataFrame
    columns: Columns
    validation: str
    notes: tuple[str, ...]


def prepared(
    table: object,
    columns: Columns,
    *,
    task: str | None = None,
    cost: str | None = None,
    settings: Sequence[str] = (),
    validation: str = "validation_error",
    where: str | None = None,
) -> Prepared:
    """The table (polars or pandas) with the columns found and their cells as numbers.

    ``where`` is a condition in SQL on its columns, as ``params > 1e6 and arch <> 'cnn'``.

    Raises:
        ValueError: in one line, naming the column, row and cell that is wrong.
    """
    given = frame(table)
    if given.is_empty():
        raise ValueError("there are no runs: one line a run is needed")
    given = given.with_row_index(ROW, offset=1)
    notes = []
    given, found = _present(given, columns, notes)
    for name in filter(None, (cost, columns.data, columns.weights, *settings)):
        if name not in given.columns:
            raise ValueError(_absent(given, name))
    # Of scores that a study names by itself the losses stand in.
    _, score = lower_is_better(given, found.score)
    if score not in given.columns and score == found.score:
        raise ValueError(_absent(given, score))
    asked = [*found.variables, found.score, validation, cost, found.weights]
    for name in dict.fromkeys(name for name in asked if name in given.columns):
        given = given.with_columns(numbers(given[name], given[ROW]))
    texts = {name: pl.String for name in (found.family, "task", "status") if name in given.columns}
    given = given.cast(texts)  # type: ignore[arg-type]
    if where:
        given = _where(given, where)
    given = _one_task(given, task)
    given, score = lower_is_better(given, found.score)
    given, validation = lower_is_better(given, validation)
    found = replace(found, score=score)
    given = _complete(given, found, cost, notes)
    order = {name: i for i, name in enumerate(sorted(set(given[found.family]), key=natural))}
    rank = pl.col(found.family).replace_strict(order, return_dtype=pl.Int64)
    given = given.sort(rank, found.size, found.seed, maintain_order=True).drop(ROW)
    return Prepared(table=given, columns=found, validation=validation, notes=tuple(notes))


def _present(
    table: pl.DataFrame, columns: Columns, notes: list[str]
) -> tuple[pl.DataFrame, Columns]:
    names = table.columns
    if columns.family not in names:
        if columns.family != FAMILY:
            raise ValueError(_absent(table, columns.family))
        notes.append("No column family: all runs are taken as one family.")
        table = table.with_columns(pl.lit("all runs").alias(FAMILY))
    if columns.seed not in names:
        if columns.seed != SEED:
            raise ValueError(_absent(table, columns.seed))
        notes.append("No column seed: each row is taken as a run of its own.")
        table = table.with_columns(pl.col(ROW).cast(pl.Int64).alias(SEED))
    if columns.size not in names:
        raise ValueError(_absent(table, columns.size))
    return table, columns


def _absent(table: pl.DataFrame, name: str) -> str:
    """That there is no such column, and which may be meant."""
    names = [each for each in table.columns if each != ROW]
    lower = {each.lower(): each for each in names[::-1]}
    near = get_close_matches(name.lower(), lower, n=1, cutoff=0.4)
    inside = [each for each in names if name.lower() in each.lower()]
    meant = [lower[near[0]]] if near else inside[:1]
    hint = f": is {meant[0]} meant?" if meant else ";"
    rest = f" and {len(names) - 20} more" if len(names) > 20 else ""
    return f"no column {name}{hint} there are {', '.join(names[:20])}{rest}"


def _where(table: pl.DataFrame, condition: str) -> pl.DataFrame:
    try:
        kept = table.filter(pl.sql_expr(condition))
    except pl.exceptions.PolarsError as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"the condition {condition!r} can't be applied: {reason}; it is SQL on the columns, "
            "as params > 1000 and arch <> 'cnn', names with dots in double quotes"
        ) from None
    if kept.is_empty():
        raise ValueError(f"no run fulfils the condition {condition!r}")
    return kept


def _one_task(table: pl.DataFrame, task: str | None) -> pl.DataFrame:
    if "task" not in table.columns:
        return table
    tasks = table["task"].drop_nulls().unique(maintain_order=True).to_list()
    if task is None and len(tasks) > 1:
        raise ValueError(f"a curve is of one task, there are {', '.join(tasks)}: name one")
    if task is not None and task not in tasks:
        raise ValueError(f"no task {task}, there are {', '.join(tasks)}")
    return table if task is None else table.filter(pl.col("task") == task)


def _complete(
    table: pl.DataFrame, columns: Columns, cost: str | None, notes: list[str]
) -> pl.DataFrame:
    """The rows that have all that is needed; a missing score or cost drops a row with a note."""
    for name in (columns.family, *columns.variables, columns.seed):
        empty = table.filter(_empty(table, name))
        if len(empty):
            raise ValueError(
                f"column {name} is missing in {len(empty)} of {len(table)} runs: fill it in "
                f"{_rows(empty)}"
            )
    diverged = pl.lit(False)
    if "status" in table.columns:
        diverged = pl.col("status").eq_missing(DIVERGED)
    for name in filter(None, (columns.score, cost)):
        without = table.filter(_empty(table, name) & ~diverged)
        if len(without) == len(table):
            raise ValueError(f"column {name} is missing in all {len(table)} runs: name another")
        if len(without):
            notes.append(f"Left out, without {name}: {_rows(without)}.")
            table = table.filter(~(_empty(table, name) & ~diverged))
    return table


def _empty(table: pl.DataFrame, name: str) -> pl.Expr:
    empty = pl.col(name).is_null()
    return empty | pl.col(name).is_nan() if table[name].dtype.is_float() else empty


def _rows(table: pl.DataFrame, most: int = 6) -> str:
    places = [str(place) for place in table[ROW][:most]]
    rest = f" and {len(table) - most} more" if len(table) > most else ""
    return f"row {', '.join(places)}{rest}"

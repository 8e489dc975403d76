"""The runs that a study is read from: columns found, cells as numbers, checks, the axis.

What can be told from the data is not asked for: without a column of families all runs are one,
without one of seeds each row is a run of its own.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches

import polars as pl

from smallnets.analysis.select import DIVERGED
from smallnets.analysis.table import frame, lower_is_better, natural, numbers

FAMILY, SEED, VALIDATION = "family", "seed", "validation_error"
ROW = "row of the input"
APART = 1e100  # times the lowest score, beyond what single precision can hold
PATTERN = re.compile(r"\^.*\$|\*", re.S)


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The names of the columns that a study is read from; ``data`` and ``weights`` may be empty.

    ``data`` is the second variable of a law in two, such as the tokens seen. Runs that differ in
    one of ``settings``, which were named where no law was asked for, are no seeds of one point.
    """

    size: str
    score: str
    family: str
    seed: str
    data: str = ""
    weights: str = ""
    settings: tuple[str, ...] = ()

    @property
    def variables(self) -> list[str]:
        """The columns that the law is of."""
        return [self.size, self.data] if self.data else [self.size]


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A table that can be analysed, sorted; ``notes`` say what was assumed or left out.

    It has the number of each row of the input in a column ``ROW``, so that checks can name it.
    """

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
    validation: str = VALIDATION,
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
    for name in given.columns:
        if PATTERN.fullmatch(name):  # polars would take it for the columns that it describes
            raise ValueError(f"a column can't be named {name!r}, which is a pattern: rename it")
    given = given.with_row_index(ROW, offset=1)
    notes = []
    _named(given, columns, cost, settings, task, validation)
    given, found = _filled(given, columns, notes), columns
    asked = [*found.variables, found.score, validation, cost, found.weights]
    for name in dict.fromkeys(name for name in asked if name in given.columns):
        given = given.with_columns(numbers(given[name], given[ROW]))
    texts = {name: pl.String for name in (found.family, "task", "status") if name in given.columns}
    given = given.cast(texts)  # type: ignore[arg-type]
    if where is not None:
        given = _where(given, where)
    given = given if found.family == "task" else _one_task(given, task)
    given, score = lower_is_better(given, found.score)
    given, validation = lower_is_better(given, validation)
    found = replace(found, score=score)
    given = _complete(given, found, cost, notes)
    order = {name: i for i, name in enumerate(sorted(set(given[found.family]), key=natural))}
    rank = pl.col(found.family).replace_strict(order, return_dtype=pl.Int64)
    given = given.sort(rank, found.size, found.seed, maintain_order=True)
    return Prepared(table=given, columns=found, validation=validation, notes=tuple(notes))


def _named(
    table: pl.DataFrame,
    columns: Columns,
    cost: str | None,
    settings: Sequence[str],
    task: str | None,
    validation: str,
) -> None:
    """Raise one line if a column that was named is not there, or is to be two things at once."""
    names = table.columns
    own = [columns.family] * (columns.family != FAMILY) + [columns.seed] * (columns.seed != SEED)
    own += ["task"] * (task is not None)
    further = [name for name in (cost, columns.data, columns.weights) if name]
    for name in (columns.size, *own, *further, *settings):
        if name not in names:
            raise ValueError(_absent(table, name))
    # Of scores that a study names by itself the losses stand in.
    for name in (columns.score, *[validation] * (validation != VALIDATION)):
        _, score = lower_is_better(table, name)
        if score not in names and score == name:
            raise ValueError(_absent(table, name))
    parts: dict[str, str] = {}
    for part in ("size", "data", "score", "family", "seed"):
        name = getattr(columns, part)
        if name and name in parts:
            raise ValueError(
                f"column {name} can't be {parts[name]} and {part} at once: name another for one"
            )
        parts[name] = part
    if cost is not None and parts.get(cost, "size") != "size":
        raise ValueError(f"column {cost} can't be {parts[cost]} and cost at once: name another")


def _filled(table: pl.DataFrame, columns: Columns, notes: list[str]) -> pl.DataFrame:
    """The table with a family and a seed where it has none."""
    if columns.family not in table.columns:
        notes.append("No column family: all runs are taken as one family.")
        table = table.with_columns(pl.lit("all runs").alias(FAMILY))
    if columns.seed not in table.columns:
        notes.append("No column seed: each row is taken as a run of its own.")
        table = table.with_columns(pl.col(ROW).cast(pl.Int64).alias(SEED))
    return table


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
    except pl.exceptions.ColumnNotFoundError as error:
        unknown = re.search(r'"(.+?)"', str(error))
        raise ValueError(
            f"the condition {condition!r}: {_absent(table, unknown[1] if unknown else '')}"
        ) from None
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


def grown(table: pl.DataFrame, columns: Columns, grow: str) -> tuple[pl.DataFrame, list[str]]:
    """The table with a word of the labels left out by which the families grow.

    Without ``grow`` this is done only where every family has a single size, so that there would be
    no curve, and one word tells the sizes apart; not where a model was made small, whose stages are
    no sizes.
    """
    family = pl.col(columns.family)
    if grow:
        words = [grow]
    elif _has_routes(table):
        return table, []
    else:
        single = table.group_by(columns.family).agg(pl.col(columns.size).n_unique())
        if single[columns.size].max() != 1 or len(single) < 2:
            return table, []
        labels = table[columns.family].unique().to_list()
        found = {part.partition("=")[0] for text in labels for part in text.split() if "=" in part}
        words = sorted(found)
    for word in words:
        name = family.str.replace_all(rf"(^| )(\S*\.)?{re.escape(word)}=\S+", "").str.strip_chars()
        merged = table.with_columns(
            pl.when(name == "").then(pl.lit("all")).otherwise(name).alias(columns.family)
        )
        if merged[columns.family].n_unique() < table[columns.family].n_unique():
            return merged, [f"Families grow by {word}: its values are sizes of one family."]
    if grow:
        raise ValueError(f"no families differ in a word {grow}=... of their labels to grow by")
    return table, []


def priced(runs: pl.DataFrame, columns: Columns, cost: str) -> tuple[pl.DataFrame, Columns]:
    """The runs with ``cost`` as its median at each (family, size), and that as the axis."""
    if cost not in runs.columns:
        raise ValueError(f"no column {cost} to use as a cost; there are {', '.join(runs.columns)}")
    if not runs[cost].dtype.is_numeric():
        raise ValueError(f"column {cost} must hold numbers, it holds {runs[cost].dtype}")
    wrong = ~(runs[cost].cast(pl.Float64) > 0).fill_null(False)
    if wrong.any():
        raise ValueError(
            f"column {cost} must hold a positive number for every run; {int(wrong.sum())} of "
            f"{len(runs)} have none, the first in row {_first(runs, wrong)}"
        )
    median = pl.col(cost).cast(pl.Float64).median().over(columns.family, columns.size)
    return runs.with_columns(median.alias(cost)), replace(columns, size=cost)


def chained(runs: pl.DataFrame, columns: Columns, notes: list[str]) -> bool:
    """Whether all that runs differ in is how a trained model was made small, at one size each."""
    if not _has_routes(runs):
        return False
    sizes = runs.group_by(columns.family).agg(pl.col(columns.size).n_unique())
    single = sizes[columns.size].max() == 1
    if single:
        notes.append("Each family has a single size: no curves are fitted, see the paths.")
    return single


def _has_routes(runs: pl.DataFrame) -> bool:
    return "route" in runs.columns and bool((runs["route"].fill_null("") != "").any())


def check(table: pl.DataFrame, columns: Columns, *, curves: bool = True) -> None:
    """Raise one line if the runs can't carry ``curves``; diverged runs are passed over."""
    runs = finished(table)
    if runs.is_empty():
        raise ValueError(
            f"all {len(table)} runs diverged, so that there is no curve: lower the learning rate"
        )
    names = [*columns.variables, columns.score, *filter(None, [columns.weights])]
    for name in names:
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
                    f"column {name} is {what} in {count} of {len(runs)} runs, the first in row "
                    f"{_first(runs, wrong)}: correct or remove them, or mark runs that failed by "
                    f"status = {DIVERGED}"
                )
    for name in (*columns.variables, *filter(None, [columns.weights])):
        if (zero := runs[name] == 0).any():
            raise ValueError(
                f"column {name} is zero, the first time in row {_first(runs, zero)}: it must be "
                "positive"
            )
    if not curves:
        return
    scores = runs[columns.score].cast(pl.Float64)
    low, high = (float(end or 1.0) for end in (scores.filter(scores > 0).min(), scores.max()))  # type: ignore[arg-type]
    if high > APART * low:
        raise ValueError(
            f"column {columns.score} goes from {low:.3g}, the first in row "
            f"{_first(runs, scores == low)}, to {high:.3g}, the first in row "
            f"{_first(runs, scores == high)}: no law spans this, correct or remove the runs"
        )
    keys = [columns.family, *columns.variables, columns.seed]
    if twice := int(runs.select(keys).is_duplicated().sum()):
        raise ValueError(
            f"{twice} runs share their {', '.join(keys)} with another: keep one line a run, or "
            "name the settings that tell them apart and the validation score to choose them by"
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


def _first(runs: pl.DataFrame, wrong: pl.Series) -> int:
    """The first row of the input that is ``wrong``, wherever it was sorted to."""
    return int(runs.filter(wrong.fill_null(False))[ROW].min())  # type: ignore[arg-type]


def finished(runs: pl.DataFrame) -> pl.DataFrame:
    """The runs that are not marked as diverged."""
    if "status" not in runs.columns:
        return runs
    return runs.filter(pl.col("status").cast(pl.String).ne_missing(DIVERGED))

"""The runs that a study is read from: columns found, cells as numbers, scores, checks, the axis.

What can be told from the data is not asked for: without a column of families all runs are one,
without one of seeds each row is a run of its own.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches

import numpy as np
import polars as pl
from scipy import stats

from smallnets.analysis.select import DIVERGED
from smallnets.analysis.table import frame, lower_is_better, natural, numbers

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


RISES = 0.6  # rank correlation of score and size from which a family's score is said to rise


def distance(table: pl.DataFrame, score: str, perfect: float | None) -> tuple[pl.DataFrame, str]:
    """The table with the distance of a higher-is-better ``score`` from ``perfect``, and its name.

    Without ``perfect`` it is 1 for scores up to 1 and 100 for scores up to 100.

    Raises:
        ValueError: if a score is above the perfect one, or that can't be guessed.
    """
    highest = float(table[score].cast(pl.Float64).fill_nan(None).max() or 0.0)  # type: ignore[arg-type]
    if perfect is None:
        perfect = next((each for each in (1.0, 100.0) if highest <= each), None)
    if perfect is None:
        raise ValueError(
            f"{score} goes up to {highest:g}: say which score is perfect (--perfect), since a law "
            "is of the distance from it"
        )
    if highest > perfect:
        raise ValueError(f"{score} goes up to {highest:g}, above the perfect score {perfect:g}")
    name = f"{perfect:g} - {score}"
    return table.with_columns((perfect - pl.col(score).cast(pl.Float64)).alias(name)), name


def refuse_rising(runs: pl.DataFrame, size: str, score: str, family: str) -> None:
    """Raise one line if the score rises with size in most families: higher is better, it seems."""
    rising, judged = [], 0
    for (name,), line in runs.group_by(family, maintain_order=True):
        values = line.select(pl.col(size).cast(pl.Float64), pl.col(score).cast(pl.Float64))
        values = values.filter(pl.all_horizontal(pl.all().is_finite())).to_numpy()
        if len(np.unique(values[:, 0])) < 3 or np.ptp(values[:, 1]) == 0:
            continue
        judged += 1
        ranks = stats.rankdata(values, axis=0)
        if np.corrcoef(ranks.T)[0, 1] > RISES:
            rising.append(str(name))
    if judged and 2 * len(rising) > judged:
        raise ValueError(
            f"{score} rises with {size} in {len(rising)} of {judged} families ({rising[0]} among "
            "them), and lower is taken as better: if higher is better, say --higher-is-better"
        )


def above_chance(
    runs: pl.DataFrame, chance: float, *, size: str, score: str, family: str
) -> tuple[pl.DataFrame, list[str]]:
    """The runs of sizes that have begun to learn, and notes on those left out.

    A size counts as learning where its mean score is better than ``chance`` by twice its standard
    error over seeds: below that no law of learning can be told.
    """
    value = pl.col(score).cast(pl.Float64)
    group = [family, size]
    error = (value.std().over(group) / value.count().over(group).sqrt()).fill_null(0.0)
    learning = value.mean().over(group) + 2 * error.fill_nan(0.0) < chance
    out = runs.filter(~learning).select(group).unique(maintain_order=True)
    notes = [
        f"{name}: {len(sizes)} sizes don't differ from chance ({chance:g}) and are left out: "
        + ", ".join(f"{each:,}" for each in sizes[size])
        + "."
        for (name,), sizes in out.group_by(family, maintain_order=True)
    ]
    return runs.filter(learning), notes


def noise_of_examples(score: np.ndarray, spread: float, examples: int) -> str:
    """What ``examples`` test examples add to the scatter of an error rate, in a sentence.

    The binomial standard deviation of an error p is sqrt(p (1 - p) / n), of its logarithm
    sqrt((1 - p) / (p n)). ``spread`` is the standard deviation of the log score over seeds.

    Raises:
        ValueError: if the scores aren't shares between 0 and 1.
    """
    score = score[np.isfinite(score) & (score > 0)]
    if not len(score) or score.max() >= 1:
        raise ValueError(
            "the noise of a number of test examples is that of a share between 0 and 1, as an "
            "error is: leave --test-examples out for other scores"
        )
    drawn = float(np.sqrt(np.mean((1 - score) / (score * examples))))
    if not np.isfinite(spread):
        return f"{examples:,} test examples alone scatter a score by {drawn:.1%}"
    rest = float(np.sqrt(max(spread**2 - drawn**2, 0)))
    return (
        f"runs of a size scatter by {spread:.1%}, of which {examples:,} test examples alone give "
        f"{drawn:.1%}, and training {rest:.1%}"
        + ("" if drawn < spread else ": more seeds don't help, more test examples do")
    )


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
            f"{len(runs)} have none"
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
                    f"column {name} is {what} in {count} of {len(runs)} runs: correct or remove "
                    f"them, or mark runs that failed by status = {DIVERGED}"
                )
    for name in (*columns.variables, *filter(None, [columns.weights])):
        if (runs[name] == 0).any():
            raise ValueError(f"column {name} is zero in places: it must be positive")
    if not curves:
        return
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


def finished(runs: pl.DataFrame) -> pl.DataFrame:
    """The runs that are not marked as diverged."""
    if "status" not in runs.columns:
        return runs
    return runs.filter(pl.col("status").cast(pl.String).ne_missing(DIVERGED))

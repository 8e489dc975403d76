"""The runs that a curve rests on: grown, checked, finished, and priced along another axis."""

import re
from dataclasses import replace

import polars as pl

from smallnets.analysis.columns import Columns
from smallnets.analysis.select import DIVERGED


def grown(table: pl.DataFrame, columns: Columns, grow: str) -> tuple[pl.DataFrame, list[str]]:
    """The table with a word of the labels left out by which the families grow.

    Without ``grow`` this is done only where every family has a single size, so that there would be
    no curve, and one word tells the sizes apart.
    """
    family = pl.col(columns.family)
    if grow:
        words = [grow]
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

"""Tables: CSV and Parquet files, whose columns become numbers or one-hot categories."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from smallnets.tasks.examples import SPLITS, Examples

log = logging.getLogger(__name__)

NULLS = ["", "NA", "N/A", "NaN", "nan", "null", "?"]  # what a CSV file writes for a missing value
LIMIT = 1000  # categories of a column; more are names or numbers of rows, which teach nothing


def read(path: Path, separator: str) -> pl.DataFrame:
    """The table in a ``.csv`` or ``.parquet`` file; raises ValueError where it can't be read."""
    try:
        if path.suffix == ".parquet":
            table = pl.read_parquet(path)
        else:
            table = pl.read_csv(
                path, separator=separator, null_values=NULLS, infer_schema_length=None
            )
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error).strip().splitlines()[0]
        raise ValueError(
            f"{path}: a whole {path.suffix} file is needed, whose separator is task.separator="
            f"{separator!r}, but {reason}: mend it, or set another separator"
        ) from None
    if not len(table):
        raise ValueError(f"{path}: holds no row: give examples")
    return table.with_columns(pl.selectors.float().fill_nan(None))


def examples(
    path: Path,
    table: pl.DataFrame,
    *,
    inputs: Sequence[str] | None,
    target: str | Sequence[str] | None,
    split: str | None,
) -> tuple[dict[str, Examples], list[str]]:
    """The examples of a table by split, and the names of the target's columns.

    The inputs of each are a table still, of the columns ``inputs``, or of all that are neither
    ``target`` nor ``split``. Raises ValueError for columns that are not there, and for a split that
    is named otherwise than train, validation or test.
    """
    targets = [target] if isinstance(target, str) else list(target or ())
    if not targets:
        raise ValueError(
            f"{path}: target must name the column to be predicted: set task.target to one of "
            f"{', '.join(table.columns)}"
        )
    others = [split] if split else []
    chosen = list(inputs or [n for n in table.columns if n not in (*targets, *others)])
    for option, names in (("target", targets), ("split", others), ("inputs", chosen)):
        for name in names:
            if name not in table.columns:
                raise ValueError(
                    f"{path}: {option} names a column {name!r}, but there are "
                    f"{', '.join(table.columns)}: choose one (another separator than a comma is "
                    "set by task.separator)"
                )
    if not chosen or set(chosen) & {*targets, *others}:
        raise ValueError(
            f"{path}: a column beside target and split is needed for the inputs, which are "
            f"{', '.join(chosen) or 'none'}: name others"
        )
    parts = {"train": table}
    if split:
        words = table[split].cast(pl.String).fill_null("a missing value")
        if strange := sorted({*words} - {*SPLITS}):
            raise ValueError(
                f"{path}: the column {split} must name {', '.join(SPLITS)}, but has "
                f"{', '.join(strange[:5])}: rename them"
            )
        parts = {name: table.filter(words == name) for name in SPLITS if name in {*words}}
    found = {
        name: Examples(part[chosen], _labels(path, part, targets)) for name, part in parts.items()
    }
    return found, targets


def _labels(path: Path, table: pl.DataFrame, targets: list[str]) -> np.ndarray:
    for name in targets:
        if count := table[name].null_count():
            raise ValueError(
                f"{path}: every row needs its target, but {count} in {name} are missing: leave out "
                "those rows"
            )
    if len(targets) == 1:
        return table[targets[0]].to_numpy()
    return table[targets].to_numpy()


def gaps(part: Examples) -> dict[str, np.ndarray]:
    """Which rows miss a value, for each column that misses any."""
    return {
        column.name: column.is_null().to_numpy()
        for column in part.inputs.get_columns()
        if column.null_count()
    }


def encoded(path: Path, parts: Mapping[str, Examples]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Float32 ``[n, inputs]`` of each split, and which of the inputs are numbers.

    Numbers and truth values are one input each. Words are one for each category of the train split:
    1 where a row has it, 0 elsewhere, so all zeros for a category that the train split has not.
    Missing values are NaN. Raises ValueError for columns that are neither, and for more than
    ``LIMIT`` categories.
    """
    blocks: dict[str, list[np.ndarray]] = {name: [] for name in parts}
    numbers = []
    for column in parts["train"].inputs.columns:
        kind = parts["train"].inputs[column].dtype
        series = {name: part.inputs[column] for name, part in parts.items()}
        if kind.is_numeric() or kind in (pl.Boolean, pl.Null):
            for name, each in series.items():
                values = each.cast(pl.Float64).to_numpy().astype(np.float32)
                blocks[name].append(values[:, None])
            numbers.append(True)
        elif kind in (pl.String, pl.Categorical, pl.Enum):
            categories = _categories(path, series["train"])
            for name, each in series.items():
                blocks[name].append(_one_hot(path, name, each, categories))
            numbers += [False] * len(categories)
        else:
            raise ValueError(
                f"{path}: a column is of numbers or words, but {column} is {kind}: convert it, or "
                "leave it out of task.inputs"
            )
    matrices = {name: np.concatenate(block, axis=1) for name, block in blocks.items()}
    return matrices, np.asarray(numbers)


def _categories(path: Path, column: Any) -> np.ndarray:
    found = np.unique(column.drop_nulls().cast(pl.String).to_numpy().astype(str))
    if not len(found):
        raise ValueError(
            f"{path}: {column.name} has no value at all in the train split: leave it out of "
            "task.inputs"
        )
    if len(found) > LIMIT:
        raise ValueError(
            f"{path}: {column.name} has {len(found)} categories in {len(column)} train rows, at "
            f"most {LIMIT} are taken: leave it out of task.inputs, or convert it"
        )
    return found


def _one_hot(path: Path, split: str, column: Any, categories: np.ndarray) -> np.ndarray:
    missing = column.is_null().to_numpy()
    words = column.cast(pl.String).fill_null("").to_numpy().astype(str)
    ones = (words[:, None] == categories[None]).astype(np.float32)
    if unseen := int((~ones.any(axis=1) & ~missing).sum()):
        log.warning(
            "%s: %d %s rows have a category of %s that no train row has: all zeros",
            path,
            unseen,
            split,
            column.name,
        )
    ones[missing] = np.nan
    return ones

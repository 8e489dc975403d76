"""The table that every analysis reads: one line a run, from rows of ours or anyone's file."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import polars as pl

from smallnets import rows

FAMILY = "001"  # the place of a label's family, the last word to be left out
NESTED = ("metrics", "costs", "energy", "curves", "versions", "config", "perfect")


def read(path: Path) -> pl.DataFrame:
    """The runs in ``path``: a folder of rows, a CSV or a Parquet file.

    Raises:
        ValueError: if there is nothing there, nothing in it, or it can't be read.
    """
    path = Path(path)
    if path.is_dir():
        return from_rows(path)
    if not path.exists():
        raise ValueError(f"{path} is not there: give a folder of rows, a .csv or a .parquet file")
    readers = {".csv": pl.read_csv, ".parquet": pl.read_parquet}
    if path.suffix.lower() not in readers:
        raise ValueError(f"{path.name}: only folders of rows, .csv and .parquet can be read")
    try:
        table = readers[path.suffix.lower()](path)
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else "no reason given"
        raise ValueError(f"{path} can't be read as {path.suffix[1:]}: {reason}") from error
    if table.is_empty():
        raise ValueError(f"{path} holds no runs: one line a run is needed")
    return table


def from_rows(folder: Path) -> pl.DataFrame:
    """One line a run of every row below ``folder``.

    Metrics become columns under their own names; costs, energy, the resolved configuration and
    versions become columns such as ``costs.flops``, ``energy.joules``,
    ``config.optimizer.learning_rate`` and ``versions.jax``. Curves over training are left in the
    rows. Damaged rows are passed over, with a warning that counts them.

    Raises:
        ValueError: if there is no row that is sound.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder of rows")
    found = list(rows.load(folder))
    if not found:
        raise ValueError(
            f"{folder} holds no {rows.NAME} that is sound: give the folder of a finished study"
        )
    plain = [field.name for field in fields(rows.Row) if field.name not in NESTED]
    lines = []
    shown = short_labels([row.family for row in found])
    for row in found:
        line: dict[str, Any] = {name: getattr(row, name) for name in plain}
        line["family"] = shown[row.family]
        line |= row.metrics
        line |= _flat("costs", row.costs) | _flat("energy", row.energy)
        line |= _flat("versions", row.versions)
        line |= _flat("config", row.config) | _flat("perfect", row.perfect)
        lines.append(line)
    return pl.DataFrame(lines, infer_schema_length=None, strict=False)


def lower_is_better(table: pl.DataFrame, score: str) -> tuple[pl.DataFrame, str]:
    """The table with a column of scores of which the lowest is best, and that column's name.

    Of a metric whose best value is not 0, as rows say in ``perfect``, it is the distance from it,
    such as ``1 - test_auc``. Where runs have a loss and no error, as of targets, the loss is meant.
    """
    split, _, metric = score.removeprefix("best_").partition("_")
    if metric == "error" and score not in table.columns:
        loss = f"{score.removesuffix('error')}loss"
        return table, loss if loss in table.columns else score
    best = table.get_column(f"perfect.{metric}", default=None)
    if split not in ("validation", "test") or score not in table.columns or best is None:
        return table, score
    name = f"{best.drop_nulls().unique().item():g} - {score}"
    return table.with_columns((best - pl.col(score)).alias(name)), name


def short_labels(families: list[str]) -> dict[str, str]:
    """Each family's label without the words that all of the study have.

    A row's label is its network, its family and every value that differs, ``path=value``. The
    labels stay distinct, and none becomes empty: of a single one its family is left.
    """
    labels = {label: _words(label) for label in families}
    first = next(iter(labels.values()), {})
    common = [
        kind
        for kind, word in first.items()
        if all(words.get(kind) == word for words in labels.values())
    ]
    for kind in sorted(common, key=lambda kind: (kind == FAMILY, kind)):
        fewer = {
            label: {other: word for other, word in words.items() if other != kind}
            for label, words in labels.items()
        }
        texts = {" ".join(words.values()) for words in fewer.values()}
        if len(texts) == len(labels) and all(fewer.values()):
            labels = fewer
    return {label: " ".join(words.values()) for label, words in labels.items()}


def _words(label: str) -> dict[str, str]:
    """The words of a label by their kind."""
    named = {}
    for place, word in enumerate(label.split(" ")):
        path, equals, _ = word.partition("=")
        named[path if equals else f"{place:03}"] = word
    return named


def _flat(name: str, value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return {
            k: v for key, item in value.items() for k, v in _flat(f"{name}.{key}", item).items()
        }
    return {name: json.dumps(value) if isinstance(value, list) else value}

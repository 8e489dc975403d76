"""The table that every analysis reads: one line a run, from rows of ours or anyone's file."""

import codecs
import gzip
import hashlib
import json
import re
import shlex
import zlib
from pathlib import Path
from typing import Any

import polars as pl

from smallnets import rows
from smallnets.analysis import compact
from smallnets.analysis.cells import delimited, typed

FAMILY = "001"  # the place of a label's family, the last word to be left out


def read(path: Path) -> pl.DataFrame:
    """The runs in ``path``: a folder of rows, or a file of one line a run.

    Files are ``.csv``, ``.tsv`` or ``.txt`` (commas, semicolons, tabs or bars, UTF-8 with or
    without a byte-order mark), ``.jsonl``, each also with ``.gz``, and ``.parquet``.

    Raises:
        ValueError: if there is nothing there, nothing in it, or it can't be read.
    """
    path = Path(path)
    if path.is_dir():
        return from_rows(path)
    if not path.exists():
        raise ValueError(f"{path} is not there: give a folder of rows, a .csv or a .parquet file")
    suffixes = [suffix.lower() for suffix in path.suffixes]
    packed = suffixes[-1:] == [".gz"]
    kind = (suffixes[:-1] if packed else suffixes)[-1:]
    readers = {".csv": delimited, ".tsv": delimited, ".txt": delimited, ".parquet": _parquet}
    readers |= {".jsonl": _lines, ".ndjson": _lines}
    if not kind or kind[0] not in readers:
        raise ValueError(
            f"{path.name}: only folders of rows, .csv, .tsv, .txt, .jsonl (also .gz) and .parquet "
            "can be read"
        )
    data = path.read_bytes()
    try:
        data = gzip.decompress(data) if packed else data
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} can't be unpacked: {error}") from None
    reader = readers[kind[0]]
    table = reader(data, path.name) if reader is _parquet else reader(_text(data, path), path.name)
    if table.is_empty():
        raise ValueError(f"{path} holds no runs: one line a run is needed")
    return table


def frame(table: object) -> pl.DataFrame:
    """A polars frame of one, or of a pandas one.

    Raises:
        ValueError: if it is neither.
    """
    if isinstance(table, pl.LazyFrame):
        found = table.collect()
    elif isinstance(table, pl.DataFrame):
        found = table
    elif type(table).__module__.startswith("pandas"):
        found = pl.DataFrame(pl.from_pandas(table))  # pyright: ignore[reportArgumentType, reportCallIssue]
    else:
        raise ValueError(f"a table is a polars or pandas frame, not {type(table).__name__}")
    exact = [name for name, kind in found.schema.items() if kind.is_decimal()]
    return found.with_columns(pl.col(exact).cast(pl.Float64))


def digest(path: Path) -> dict[str, str]:
    """What was read: the name of ``path`` and the SHA-256 of its bytes.

    Of a folder it is that of all its rows one after another, in the order of their paths.
    """
    path = Path(path)
    found = hashlib.sha256()
    for each in compact.files(path) if path.is_dir() else [path]:
        found.update(each.read_bytes())
    return {"name": path.resolve().name, "sha256": found.hexdigest()}


def natural(name: str) -> list[tuple[int, float, str]]:
    """A key that sorts names as people count: f2 before f10."""
    parts = re.split(r"(\d+(?:\.\d+)?)", name)
    return [(0, float(part), "") if i % 2 else (1, 0.0, part) for i, part in enumerate(parts)]


def _text(data: bytes, path: Path) -> str:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"line {line} of {path} is not UTF-8: save the file as UTF-8") from None


def _parquet(data: bytes, name: str) -> pl.DataFrame:
    try:
        return pl.read_parquet(data)
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = (str(error).strip().splitlines() or ["no reason given"])[0]
        raise ValueError(f"{name} can't be read as parquet: {reason}") from None


def _lines(text: str, name: str) -> pl.DataFrame:
    """JSON, one object a line; what is nested becomes columns with dots."""
    found = []
    for place, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            run = json.loads(line)
        except (ValueError, RecursionError):
            run = None
        if not isinstance(run, dict):
            raise ValueError(f"line {place} of {name} is no JSON object: mend or remove it")
        found.append(
            {k: v for key, value in run.items() for k, v in compact.flat(key, value).items()}
        )
    if not found:
        return pl.DataFrame()
    columns = {key: [line.get(key) for line in found] for line in found for key in line}
    return pl.DataFrame([_column(key, cells) for key, cells in columns.items()])


def _column(name: str, cells: list[Any]) -> pl.Series:
    """Whole numbers, numbers, or text where a cell is neither; from 2^63 on numbers are floats."""
    kinds = {type(cell) for cell in cells if cell is not None}
    if kinds <= {int} and all(cell is None or abs(cell) < 2**63 for cell in cells):
        return pl.Series(name, cells, pl.Int64)
    if kinds <= {int, float}:
        return pl.Series(name, [None if c is None else float(c) for c in cells], pl.Float64)
    return typed(pl.Series(name, [None if c is None else str(c) for c in cells], pl.String))


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
    table = compact.read(folder)
    if table.is_empty():
        raise ValueError(
            f"{folder} holds no {rows.NAME} that is sound: give the folder of a finished study"
        )
    shown = short_labels(table["family"].unique(maintain_order=True).to_list())
    commands = _commands(folder)
    return table.with_columns(
        pl.col("family").replace_strict(shown, return_dtype=pl.String),
        pl.col("key")
        .replace_strict(commands, default=None, return_dtype=pl.String)
        .alias("command"),
    )


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


def _commands(folder: Path) -> dict[str, str]:
    """The command that makes each run again, by its key, from the study's list of jobs."""
    path = folder / "jobs.jsonl"
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            job = json.loads(line)
            found[job["key"]] = f"smallnets {shlex.join(job['words'])}"
        except (ValueError, KeyError, TypeError):
            continue  # half a line, of a sweep that was killed
    return found

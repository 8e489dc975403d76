"""The table that every analysis reads: one line a run, from rows of ours or anyone's file."""

import codecs
import csv
import gzip
import hashlib
import io
import json
import re
import shlex
import zlib
from pathlib import Path
from typing import Any

import polars as pl

from smallnets import rows
from smallnets.analysis import compact

FAMILY = "001"  # the place of a label's family, the last word to be left out


def read(path: Path, *, partial: bool = False) -> pl.DataFrame:
    """The runs in ``path``: a folder of rows, or a file of one line a run.

    Of a sweep that is not complete nothing is read unless ``partial``: what a sweep has not run yet
    is not missing by chance.

    Files are ``.csv``, ``.tsv`` or ``.txt`` (commas, semicolons, tabs or bars, UTF-8 with or
    without a byte-order mark), ``.jsonl``, each also with ``.gz``, and ``.parquet``.

    Raises:
        ValueError: if there is nothing there, nothing in it, or it can't be read.
    """
    path = Path(path)
    if path.is_dir():
        table = from_rows(path)
        if not partial and (left := incomplete(path, table)):
            raise ValueError(
                f"{left}: give its command again, which runs only these, or say --partial"
            )
        return table
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


def incomplete(folder: Path, table: pl.DataFrame) -> str:
    """What the plan of a sweep has and its ``table`` has not, counted; empty where it has all."""
    jobs = {tuple(line["words"]): line["key"] for line in rows.jobs(folder)}
    planned = set(jobs.values())
    if plans := sorted(folder.glob("plan-*.jsonl"), key=lambda path: path.stat().st_mtime):
        lines = plans[-1].read_text(encoding="utf-8").splitlines()
        planned |= {key for line in lines for key in json.loads(line).get("keys", ())}
    left = sorted(planned - set(table["key"]))
    errors = [error for key in left if (error := _error(folder / key))]
    if not left:
        return ""
    absent = len(left) - len(errors)
    parts = [f"{absent:,} {'is' if absent == 1 else 'are'} missing"] if absent else []
    parts += [f"{len(errors):,} failed (the first by {errors[0]})"] if errors else []
    return f"of the {len(planned):,} runs that {folder} plans {' and '.join(parts)}"


def _error(folder: Path) -> str:
    """Why the run of a folder failed, empty where it is not known to have."""
    try:
        row = rows.read(folder)
    except ValueError:
        return ""
    return (row.error or "no reason given") if row.status == "failed" else ""


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


def some(names: list[str] | tuple[str, ...], *, most: int = 6) -> str:
    """The first ``most`` names, and how many more there are."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def _text(data: bytes, path: Path) -> str:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        name, codec = "UTF-16", "utf-16"
    else:
        name, codec = "UTF-8", "utf-8-sig"
    try:
        return data.decode(codec)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"line {line} of {path} is not {name}: save the file as UTF-8") from None


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
    rows. Runs that compression began with are read where they lie. Damaged rows are passed over,
    with a warning that counts them.

    Raises:
        ValueError: if there is no row that is sound.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder of rows")
    table = compact.with_parents(compact.read(folder))
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


MISSING = ("", "na", "n/a", "nan", "null", "none", "-", "#n/a")
SEPARATORS = ",;\t|"
SUFFIXES = {"k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "t": 1e12}
PLAIN = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?inf(inity)?", re.I)
THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d+)?")
TWICE = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")  # 1,014 is either 1014 or 1.014


def delimited(text: str, name: str) -> pl.DataFrame:
    """The lines of a text whose cells are separated by commas, semicolons, tabs or bars.

    A column is of numbers where every cell of it is one, looked at from first to last.

    Raises:
        ValueError: if a line has another number of cells than the header, or two columns one name.
    """
    first = io.StringIO(text, newline="").readline().rstrip("\r\n")
    separator = max(SEPARATORS, key=lambda mark: (len(_split(first, mark)), mark == ","))
    try:
        lines = [
            (reader.line_num, cells)
            for reader in [csv.reader(io.StringIO(text, newline=""), delimiter=separator)]
            for cells in reader
            if any(cell.strip() for cell in cells)
        ]
    except csv.Error as error:
        raise ValueError(f"{name} can't be read as a table: {error}") from None
    if not lines:
        return pl.DataFrame()
    header = [cell.strip() or f"column {i + 1}" for i, cell in enumerate(lines[0][1])]
    if twice := {each for each in header if header.count(each) > 1}:
        raise ValueError(f"{name} has several columns named {min(twice)}: rename all but one")
    for line, cells in lines[1:]:
        if len(cells) != len(header):
            raise ValueError(
                f"line {line} of {name} has {len(cells)} cells, the header {len(header)}: quote "
                f"cells that hold {separator!r}, or mend the line"
            )
    columns = zip(*(cells for _, cells in lines[1:]), strict=True) if lines[1:] else ()
    return pl.DataFrame(
        [
            typed(pl.Series(title, cells, pl.String))
            for title, cells in zip(header, columns, strict=False)
        ]
    )


def typed(column: pl.Series) -> pl.Series:
    """A column of text as whole or other numbers where every cell is one; else text as it was."""
    cells = column.str.strip_chars()
    known = cells.set(cells.str.to_lowercase().is_in(MISSING), None)
    if known.null_count() == len(known):
        return known
    # A leading zero is a name's, such as 007.
    if not known.str.contains(r"^[+-]?0\d").any():
        for kind in (pl.Int64, pl.Float64):
            numbers = known.cast(kind, strict=False)
            if numbers.null_count() == known.null_count():
                return numbers
    return cells.set(cells == "", None)


def numbers(column: pl.Series, rows: pl.Series) -> pl.Series:
    """A column as numbers: also of 1,014.45, 1.5M and 70B; ``rows`` counts its cells for messages.

    Raises:
        ValueError: naming row, column and cell, where one is no number or could be two.
    """
    if column.dtype.is_numeric() or column.dtype == pl.Null:
        return column.cast(pl.Float64) if not column.dtype.is_integer() else column
    if column.dtype != pl.String:
        raise ValueError(f"column {column.name} must hold numbers, it holds {column.dtype}")
    distinct = {cell for cell in column if cell is not None}
    clear = any(THOUSANDS.fullmatch(cell) and not TWICE.fullmatch(cell) for cell in distinct)
    found: dict[str, float | None] = {}
    for row, cell in zip(rows, column, strict=True):
        if cell is None or cell in found:
            continue
        text = cell.replace("\N{NO-BREAK SPACE}", " ").replace("\N{MINUS SIGN}", "-").strip()
        where = f"row {row}, column {column.name}: {cell!r}"
        if TWICE.fullmatch(text) and not clear:
            plain, point = text.replace(",", ""), text.replace(",", ".")
            raise ValueError(f"{where} is {plain} or {point}: write it without the comma")
        found[cell] = value = as_number(text)
        if value is None and text.lower() not in MISSING:
            raise ValueError(f"{where} is no number: correct it, or leave the cell empty")
    return pl.Series(
        column.name, [found.get(cell) if cell else None for cell in column], pl.Float64
    )


def as_number(text: str) -> float | None:
    """One cell as a number, None where it is none."""
    factor = SUFFIXES.get(text[-1:].lower(), 1.0)
    digits = text[:-1].strip() if factor > 1 else text
    if THOUSANDS.fullmatch(digits):
        digits = digits.replace(",", "")
    # 70B to the digit: 0.07 times 10^12 would round.
    return float(digits) * factor if PLAIN.fullmatch(digits) else None


def _split(line: str, separator: str) -> list[str]:
    return next(csv.reader([line], delimiter=separator), [])

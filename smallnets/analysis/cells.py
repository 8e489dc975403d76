"""Text as people and spreadsheets write it, as numbers; what could mean two things is refused."""

import csv
import io
import re

import polars as pl

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
    first = text.split("\n", 1)[0]
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
        found[cell] = value = _number(text)
        if value is None and text.lower() not in MISSING:
            raise ValueError(f"{where} is no number: correct it, or leave the cell empty")
    return pl.Series(
        column.name, [found.get(cell) if cell else None for cell in column], pl.Float64
    )


def _number(text: str) -> float | None:
    """One cell as a number, None where it is none."""
    factor = SUFFIXES.get(text[-1:].lower(), 1.0)
    digits = text[:-1].strip() if factor > 1 else text
    if THOUSANDS.fullmatch(digits):
        digits = digits.replace(",", "")
    # 70B to the digit: 0.07 times 10^12 would round.
    return float(digits) * factor if PLAIN.fullmatch(digits) else None


def _split(line: str, separator: str) -> list[str]:
    return next(csv.reader([line], delimiter=separator), [])

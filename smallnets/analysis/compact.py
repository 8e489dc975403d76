"""The runs of a study as tables: of one program, and of all, compacted into two files.

Up to some ten thousand runs each has a folder with its row. Above that the rows of a program are
one file, ``programs/NAME.parquet``, with a line a run: what an analysis reads as columns, each
curve as a list, and under ``row`` the row itself without its curves, as JSON. ``smallnets collect``
writes what there is of both into ``runs.parquet``, without curves, and ``curves.parquet``; the
analysis reads the first while no run came after it.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import polars as pl

from smallnets import rows
from smallnets.files import replacing
from smallnets.rows import Row

PROGRAMS, RUNS, CURVES = "programs", "runs.parquet", "curves.parquet"
NESTED = ("metrics", "costs", "energy", "curves", "versions", "config", "perfect")
PLAIN = [field.name for field in fields(Row) if field.name not in NESTED]
LARGE = 100_000  # runs, from which on columns that say the same of all are left out


def table(found: Iterable[tuple[str | None, Row]]) -> pl.DataFrame:
    """One line a run, of each run's folder and row: metrics under their own names, what is nested
    under names with dots. Curves are left out."""
    lines = []
    for folder, row in found:
        line: dict[str, Any] = {name: getattr(row, name) for name in PLAIN}
        line |= {"folder": folder, **row.metrics}
        for name in ("costs", "energy", "versions", "config", "perfect"):
            line |= flat(name, getattr(row, name))
        lines.append(line)
    return pl.DataFrame(lines, infer_schema_length=None, strict=False)


def curves(found: Iterable[Row]) -> pl.DataFrame:
    """One line a run: its key, and each curve as a list."""
    lines = [{"key": row.key, **row.curves} for row in found]
    return pl.DataFrame(lines, infer_schema_length=None, strict=False)


def flat(name: str, value: Any) -> dict[str, Any]:
    """What is nested as one level, under names with dots; a list as JSON."""
    if isinstance(value, dict):
        return {k: v for key, item in value.items() for k, v in flat(f"{name}.{key}", item).items()}
    return {name: json.dumps(value) if isinstance(value, list) else value}


def program(found: Sequence[Row]) -> pl.DataFrame:
    """The table of a program's file."""
    whole = pl.Series("row", [rows.to_json(row, without=("curves",)) for row in found])
    lists = curves(found).drop("key")
    lists = lists.rename({name: f"curves.{name}" for name in lists.columns})
    return pl.concat([table((None, row) for row in found), lists], how="horizontal").with_columns(
        whole
    )


def rows_of(path: Path) -> Iterator[Row]:
    """The rows in a program's file; raises ValueError where it is damaged."""
    try:
        found = pl.read_parquet(path)
        lists = [name for name in found.columns if name.startswith("curves.")]
        lines = found.select("row", *lists).iter_rows(named=True)
    except (pl.exceptions.PolarsError, OSError):
        raise ValueError(f"{path} is damaged: remove it, and run the sweep again") from None
    for line in lines:
        kept = {name.removeprefix("curves."): line[name] for name in lists if line[name]}
        yield rows.from_json(line["row"], path, curves=kept)


def compact(folder: Path) -> int:
    """Write ``runs.parquet`` and ``curves.parquet`` of a study, and say how many runs they hold.

    It takes memory for some programs at a time, not for all.
    """
    folder, stamp = Path(folder), sources(folder)
    written = 0
    for name in (CURVES, RUNS):
        frames = _frames(folder, of_curves=name == CURVES)
        if not frames:
            continue
        with replacing(folder / name) as draft:
            whole = pl.concat(frames, how="diagonal_relaxed")
            whole.sink_parquet(draft, metadata={"sources": stamp})
            written = pl.scan_parquet(draft).select(pl.len()).collect().item()
    return written


def sources(folder: Path) -> str:
    """A digest of the names, sizes and times of all files that hold rows."""
    digest = hashlib.sha256()
    for path in files(folder):
        found = path.stat()
        said = f"{path.relative_to(folder)} {found.st_size} {found.st_mtime_ns}\n"
        digest.update(said.encode())
    return digest.hexdigest()


def is_compacted(folder: Path) -> bool:
    """Whether ``runs.parquet`` is there, and no run came after it."""
    try:
        said = pl.read_parquet_metadata(Path(folder) / RUNS)
    except (pl.exceptions.PolarsError, OSError):
        return False
    return said.get("sources") == sources(Path(folder))


def read(folder: Path) -> pl.DataFrame:
    """The table of all runs of a study, sound and not failed; empty where there is none.

    Of very many runs, what the config and the versions say of all alike is left out.
    """
    folder = Path(folder)
    if not is_compacted(folder):
        frames = _frames(folder, of_curves=False)
        return pl.concat(frames, how="diagonal_relaxed").collect() if frames else pl.DataFrame()
    found = pl.scan_parquet(folder / RUNS)
    names = found.collect_schema().names()
    if found.select(pl.len()).collect().item() > LARGE:
        often = [name for name in names if name.startswith(("config.", "versions."))]
        counts = found.select(
            (pl.col(often).min() != pl.col(often).max()) | pl.col(often).has_nulls()
        ).collect(engine="streaming")
        alike = [name for name in often if not counts[name].fill_null(False).item()]
        names = [name for name in names if name not in alike]
    return found.select(names).collect()


def with_parents(found: pl.DataFrame) -> pl.DataFrame:
    """The table with the runs that its compressed ones began with, where these lie elsewhere.

    They are looked for where the runs' configs say; what is no longer there is left out.
    """
    if not {"key", "parent", "route", "config.start"} <= {*found.columns}:
        return found
    known = {*found["key"]}
    begun = found.filter(pl.col("route") != "").select("parent", "config.start").unique()
    wanted = sorted(begun.drop_nulls().iter_rows())
    parents = []
    while wanted:
        parent, start = wanted.pop()
        if (key := parent.rpartition("-")[0]) in known:
            continue
        known.add(key)
        try:
            row = rows.read(Path(start))
        except ValueError:
            continue
        if row.key == key and row.status != "failed":
            parents.append((start, row))
            if row.route and row.config.get("start"):
                wanted.append((row.parent, row.config["start"]))
    if not parents:
        return found
    return pl.concat([found, table(parents)], how="diagonal_relaxed")


def _frames(folder: Path, *, of_curves: bool) -> list[pl.LazyFrame]:
    frames = []
    if found := rows.found(folder):
        own = (
            curves(row for _, row in found)
            if of_curves
            else table((place.relative_to(folder).as_posix(), row) for place, row in found)
        )
        frames.append(own.lazy())
    for path in sorted((folder / PROGRAMS).glob("*.parquet")):
        scanned = pl.scan_parquet(path)
        names = scanned.collect_schema().names()
        lists = [name for name in names if name.startswith("curves.")]
        if of_curves:
            kept = [pl.col(name).alias(name.removeprefix("curves.")) for name in lists]
            frames.append(scanned.select("key", *kept))
        else:
            frames.append(scanned.drop("row", *lists))
    return frames


def files(folder: Path) -> list[Path]:
    return sorted([*folder.rglob(rows.NAME), *(folder / PROGRAMS).glob("*.parquet")])

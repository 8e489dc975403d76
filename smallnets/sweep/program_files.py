"""Rows of very many runs: one Parquet a program instead of a folder a run.

``programs/NAME.parquet`` is there once all runs of a program are, and is put there by a link, which
overwrites nothing: the first process that has them all counts. Until then each process keeps the
rows that it has finished in a file of its own, ``NAME.PROCESS.jsonl``, a line a row, so that a kill
loses none of them.
"""

import errno
import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import polars as pl

from smallnets import rows
from smallnets.analysis import compact
from smallnets.files import process
from smallnets.rows import Row

UNLINKED = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)  # a file system without links


def program_name(keys: Sequence[str]) -> str:
    """A digest of the keys of a program's runs."""
    return hashlib.sha256(" ".join(keys).encode()).hexdigest()[:16]


class ProgramFiles:
    """Those of programs, each given by the keys of its runs, in a study's folder."""

    def __init__(self, study: Path, programs: Iterable[Sequence[str]]):
        self.folder = study / compact.PROGRAMS
        self._keys = {program_name(keys): list(dict.fromkeys(keys)) for keys in programs}
        self._name = {key: name for name, keys in self._keys.items() for key in keys}
        self._kept: dict[str, dict[str, Row]] = {}

    def path(self, name: str) -> Path:
        """Where a program's rows are, once they all are there."""
        return self.folder / f"{name}.parquet"

    def kept(self, name: str) -> dict[str, Row]:
        """The rows of a program that are there, by their keys; those of failed runs too."""
        if name not in self._kept:
            found: dict[str, Row] = {}
            if self.path(name).exists():
                found = {row.key: row for row in compact.rows_of(self.path(name))}
            for journal in sorted(self.folder.glob(f"{name}.*.jsonl")):
                for line in journal.read_text(encoding="utf-8").splitlines():
                    try:
                        row = rows.from_json(line, journal)
                    except ValueError:
                        continue  # half a line, of a process that was killed
                    if row.key not in found or found[row.key].status == "failed":
                        found[row.key] = row
            self._kept[name] = found
        return self._kept[name]

    def found(self, key: str) -> Row | None:
        """The row of a run; None where it is not there, or failed."""
        row = self.kept(self._name[key]).get(key)
        return None if row is None or row.status == "failed" else row

    def statuses(self, name: str) -> list[str]:
        """The status of each run of a program whose file is there."""
        return pl.read_parquet(self.path(name), columns=["status"])["status"].to_list()

    def add(self, row: Row) -> bool:
        """Keep a run's row; False where another process published its program before.

        Once it was the program's last, its file is published.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        name = self._name[row.key]
        kept = self.kept(name)
        journal = self.folder / f"{name}.{process()}.jsonl"
        with journal.open("a", encoding="utf-8") as file:
            file.write(f"{rows.to_json(row)}\n")
        kept[row.key] = row
        ordered = [kept[key] for key in self._keys[name] if key in kept]
        if len(ordered) < len(self._keys[name]) or any(r.status == "failed" for r in ordered):
            return True
        first = self._publish(name, ordered)
        for each in self.folder.glob(f"{name}.*.jsonl"):
            each.unlink(missing_ok=True)
        del self._kept[name]  # of many programs there is no room for all
        return first

    def _publish(self, name: str, found: list[Row]) -> bool:
        draft = self.folder / f".{name}.{process()}"
        try:
            compact.program(found).write_parquet(draft)
            try:
                os.link(draft, self.path(name))
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno not in UNLINKED:
                    raise
                draft.rename(self.path(name))
            return True
        finally:
            draft.unlink(missing_ok=True)

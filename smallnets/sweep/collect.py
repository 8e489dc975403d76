"""``smallnets collect PLAN``: what of a plan is done, what is missing, and what to submit again.

Ends with status 1 while something is missing or failed.
"""

import argparse
import re
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from smallnets import rows
from smallnets.analysis import compact
from smallnets.sweep.checkpoint import FOLDER
from smallnets.sweep.plan_file import Line, PlanFile, read
from smallnets.sweep.program_files import ProgramFiles
from smallnets.sweep.publish import DRAFTS, failed_run, found_run
from smallnets.sweep.work import CLAIMS

STATES = ("finished", "diverged", "failed", "missing")
SHOWN = 20  # programs that are listed


class Collected(NamedTuple):
    """A program of a plan, its place there, and how many of its runs are in each state."""

    place: int
    line: Line
    states: Counter[str]
    errors: Counter[str]

    @property
    def is_done(self) -> bool:
        return not self.states["missing"] and not self.states["failed"]


def collect(file: PlanFile) -> Iterator[Collected]:
    """The state of each program of a plan.

    A run is missing where there is no sound row for it, or not the model that was asked for.
    """
    for place, line in enumerate(file.lines()):
        found = _in_folders(file, line) if file.has_folders else _in_files(file, line)
        states = Counter(status for status, _ in found)
        states["missing"] = len(line.keys) - len(found)
        yield Collected(place, line, states, Counter(error for _, error in found if error))


def _in_folders(file: PlanFile, line: Line) -> list[tuple[str, str]]:
    """The status and error of each run of a program that has a folder."""
    found = []
    for key, save in zip(line.keys, line.saves, strict=True):
        row = found_run(file.folder / key, save)
        if row is None and failed_run(file.folder / key):
            row = rows.read(file.folder / key)
        if row is not None:
            found.append((row.status, row.error))
    return found


def _in_files(file: PlanFile, line: Line) -> list[tuple[str, str]]:
    files = ProgramFiles(file.folder, [line.keys])
    if files.path(line.name).exists():
        return [(status, "") for status in files.statuses(line.name)]
    return [(row.status, row.error) for row in files.kept(line.name).values()]


def main(arguments: list[str]) -> None:
    """The verb."""
    parser = argparse.ArgumentParser("smallnets collect", description=__doc__)
    parser.add_argument("plan", help="what smallnets plan wrote, or the folder that holds it")
    file = read(parser.parse_args(arguments).plan)
    states, open_ = Counter(), []
    table = Table("program", "of", "parameters", *STATES, "why")
    for each in collect(file):
        states += each.states
        if not each.is_done:
            open_.append(each.place)
            if len(open_) <= SHOWN:
                table.add_row(
                    str(each.place),
                    each.line.label,
                    f"{each.line.parameters:,}",
                    *(str(each.states[state]) for state in STATES),
                    "; ".join(each.errors),
                )
    out = Console(markup=False, emoji=False)
    counts = ", ".join(f"{states[state]} {state}" for state in STATES)
    out.print(f"{file.runs} runs in {file.programs} programs: {counts}", soft_wrap=True)
    written = compact.compact(file.folder)
    out.print(f"{file.folder / compact.RUNS} holds {written} runs", soft_wrap=True)
    if not open_:
        for name in (CLAIMS, DRAFTS, FOLDER):  # of workers that were killed
            shutil.rmtree(file.folder / name, ignore_errors=True)
        out.print(f"smallnets analyse {file.folder}  writes the report", soft_wrap=True)
        return
    out.print(table)
    if len(open_) > SHOWN:
        out.print(f"and {len(open_) - SHOWN} programs more")
    out.print(f"to resubmit: {again(file, open_)}", soft_wrap=True)
    sys.exit(1)


def again(file: PlanFile, programs: list[int]) -> str:
    """The command that trains these programs: of the script for Slurm, if there is one."""
    script = script_of(file)
    array = (
        re.search(r"^#SBATCH --array=0-(\d+)", script.read_text(), re.M)
        if script.is_file()
        else None
    )
    if array is None:
        return f"smallnets work {file.path}, with any number of workers"
    tasks = sorted({place % (int(array[1]) + 1) for place in programs})
    return f"sbatch --array={','.join(map(str, tasks))} {script}"


def script_of(file: PlanFile) -> Path:
    """Where ``smallnets submit`` writes a plan's script."""
    return file.path.with_suffix(".sbatch")

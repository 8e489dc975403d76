"""The folder of a study: whose it is, who writes in it now, and what each sweep left there.

A run's folder is named by its key. Beside the runs lie ``study.json``, which says what the folder
is of, and ``jobs.jsonl``, the plan, which is there before the first run: a line for each job of
each sweep with its number, words and key. In the folder above lies ``ledger.jsonl``, a line for
each sweep.
"""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
from filelock import FileLock, Timeout

from smallnets import rows
from smallnets.files import replacing
from smallnets.measure import machine
from smallnets.measure.energy import Energy
from smallnets.rows import Row
from smallnets.sweep import StoppedError
from smallnets.sweep.compilations import Compilations
from smallnets.sweep.plan import Plan

STUDY, LEDGER = "study.json", "ledger.jsonl"
ENOUGH_SIZES = 5  # from which on the intervals of laws are calibrated


@dataclass
class Account:
    """What a sweep took and gave, for the ledger."""

    trained: int = 0
    found: int = 0
    failed: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what the user must be told
    energies: list[Energy] = field(default_factory=list)
    compiled: Compilations = field(default_factory=Compilations)


@contextmanager
def opened(plan: Plan, commit: str, *, listed: bool) -> Iterator[Account]:
    """The folder of a plan, for this sweep alone; at the end, however it comes, the ledger's line.

    Its jobs are ``listed`` where each has a folder. Raises ValueError where the folder is of
    another study, and where another sweep is writing.
    """
    with claimed(plan, listed=listed) as notes, noted(plan.folder, plan.runs, commit) as account:
        account.notes += notes
        yield account


@contextmanager
def claimed(plan: Plan, *, listed: bool) -> Iterator[list[str]]:
    """The folder of a plan, for this sweep alone, with what it is of and its jobs written down.

    Gives what the user must be told. Raises ValueError as :func:`opened` does.
    """
    plan.folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(plan.folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ValueError(
            f"{plan.folder}: another sweep is writing there: wait for it, or name another folder "
            "with hydra.sweep.dir=..."
        ) from None
    try:
        notes = _claim(plan)
        if listed:
            _list_jobs(plan)
        yield notes
    finally:
        lock.release()


def few_sizes(plan: Plan) -> str:
    """Which families a plan gives too few sizes for a law, to be said before it is trained.

    Empty where none has too few, and of a sweep that has one size of each, which compares there.
    """
    sizes: dict[str, set[int]] = {}
    for program in plan.programs:
        if program.group.jobs[0].parent is None:
            sizes.setdefault(program.label, set()).add(program.parameters)
    few = [f"{name} has {len(n)}" for name, n in sizes.items() if len(n) < ENOUGH_SIZES]
    if not few or max(map(len, sizes.values())) == 1:
        return ""
    return f"a scaling law needs {ENOUGH_SIZES} sizes of a family or more: {', '.join(few)}"


@contextmanager
def noted(folder: Path, runs: int, commit: str) -> Iterator[Account]:
    """An account that makes a line of the ledger at the end, however it comes."""
    account, started, status = Account(), time.time(), "failed"
    try:
        yield account
        status = "finished"
    except (KeyboardInterrupt, StoppedError):
        status = "stopped"
        raise
    finally:
        _note(folder, runs, account, started, status, commit)


def _claim(plan: Plan) -> list[str]:
    """Say in the folder what it is of; raise ValueError where it is of something else.

    Where its runs come to differ in how they are trained, which a report does not tell apart, this
    is to be told.
    """
    experiment = plan.config.hydra.runtime.choices.get("experiment")
    tasks = {program.task for program in plan.programs}
    ways = _ways(plan)
    path = plan.folder / STUDY
    if path.exists():
        known = _known(path)
        if known["experiment"] != experiment or not tasks & {*known["tasks"]}:
            raise ValueError(
                f"{plan.folder} holds the study of experiment={known['experiment']} on "
                f"{', '.join(known['tasks'])}, and this one is of experiment={experiment} on "
                f"{', '.join(sorted(tasks))}: name another folder with hydra.sweep.dir=..."
            )
        tasks |= {*known["tasks"]}
        before = known.get("ways", {})
        ways = {name: values | {*before.get(name, ())} for name, values in ways.items()}
    elif next(plan.folder.glob(f"*/{rows.NAME}"), None):
        raise ValueError(
            f"{plan.folder} holds runs that are of no known study: name another folder with "
            "hydra.sweep.dir=..."
        )
    several = [
        f"{name}={','.join(map(str, sorted(values)))}"
        for name, values in ways.items()
        if len(values) > 1
    ]
    notes = []
    if several:
        notes.append(
            f"{plan.folder} holds runs of {' and '.join(several)}, which one report draws "
            "together: for a study of their own name another folder with hydra.sweep.dir=..."
        )
    said = {
        "experiment": experiment,
        "tasks": sorted(tasks),
        "ways": {name: sorted(values) for name, values in ways.items()},
    }
    with replacing(path) as draft:
        draft.write_text(json.dumps(said, indent=1))
    return notes


def _ways(plan: Plan) -> dict[str, set[Any]]:
    """How a plan's runs are trained, by what a label does not say."""
    jobs = [program.group.jobs[0] for program in plan.programs]
    jobs = [job for job in jobs if not job.route]  # a label says what a chain did
    jobs += [each.job for each in plan.refused]
    ways = {
        name: {job.resolved[name] for job in jobs} for name in ("steps", "batch_size", "precision")
    }
    for name in ("optimizer", "objective", "augmentation"):
        ways[name] = {str(job.choices.get(name)) for job in jobs}
    return ways


def _known(path: Path) -> dict[str, Any]:
    """What a folder is of; raises ValueError where the file that says so is damaged."""
    try:
        known = json.loads(path.read_text())
        _ = known["experiment"], known["tasks"]
    except (ValueError, KeyError, TypeError):
        raise ValueError(
            f"{path} is damaged, so that what its folder is of is not known: remove it together "
            "with the folder, or name another with hydra.sweep.dir=..."
        ) from None
    return known


def _list_jobs(plan: Plan) -> None:
    """Write the plan down; lines of a sweep that is run again move to the end."""
    lines = [
        {"number": job.number, "key": key, "words": list(job.words)} for job, key in plan.jobs()
    ]
    lines.sort(key=lambda line: line["number"])
    unique = {json.dumps(line): None for line in lines}
    before = [json.dumps(line) for line in rows.jobs(plan.folder)]
    with replacing(plan.folder / rows.JOBS) as draft:
        kept = [line for line in before if line not in unique]
        draft.write_text("".join(f"{line}\n" for line in [*kept, *unique]))


def _note(
    folder: Path, runs: int, account: Account, started: float, status: str, commit: str
) -> None:
    joules = [energy.joules for energy in account.energies]
    known = [each for each in joules if each is not None]
    program = Path(sys.argv[0])
    line = {
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(started)),
        "folder": folder.name,
        "status": status,
        "runs": runs,
        "trained": account.trained,
        "found": account.found,
        "failed": len(account.failed),
        "seconds": round(time.time() - started, 1),
        "joules": sum(known) if len(known) == len(joules) else None,
        "machine": machine.device_name(jax.devices()[0]),
        "commit": commit,
        "command": [
            program.name if program.is_absolute() else program.as_posix(),
            *sys.argv[1:],
        ],
    }
    with (folder.absolute().parent / LEDGER).open("a") as file:
        file.write(f"{json.dumps(line)}\n")

"""``smallnets work PLAN``: train a plan, or the share of one worker of many.

Which worker it is, its engine says in the environment (Slurm, SkyPilot, Kubernetes), or
``--shard 3/40``, counted from 0. What is done is left as it is, and it may be run again, with any
number of workers. The first to publish a run counts, which no lock decides; locks only save two
workers the same work where the file system has them.
"""

import argparse
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout

from smallnets.sweep.build import one_line
from smallnets.sweep.checks import check_here
from smallnets.sweep.execute import Run, finish, stop_asked, train_missing
from smallnets.sweep.hosts import ADDRESS
from smallnets.sweep.plan import Plan, Refused, hydra_of, plan_jobs
from smallnets.sweep.plan_file import Line, PlanFile, read
from smallnets.sweep.program_files import ProgramFiles
from smallnets.sweep.publish import found_run, remove_drafts
from smallnets.sweep.result import origin
from smallnets.sweep.settings import settings_of
from smallnets.sweep.study import Account, noted

CLAIMS = ".claims"
AT_ONCE = 16  # programs that are composed and claimed together
OWN = re.compile(
    r"\+?(hydra\.launcher\.\w+|cache|mesh\.\w+)=.*"
)  # words by which no number changes


class Shard(NamedTuple):
    """Worker ``index`` of ``count``, from 0."""

    index: int
    count: int


def work(path: str | Path, shard: Shard | None = None, words: Sequence[str] = ()) -> list[Run]:
    """Train those programs of a plan that are a worker's, by default all; give its runs.

    ``words`` may set what belongs to a machine, ``hydra.launcher.*``, ``mesh.*`` and ``cache``.
    Raises ValueError for other words, for a plan that is none, and where what the plan says are
    other runs today; FailedRunsError and StoppedError as :func:`smallnets.train`.
    """
    for word in words:
        if not OWN.fullmatch(word):
            raise ValueError(
                f"a worker may set hydra.launcher.*, mesh.* and cache, but not {word}: say it to "
                "smallnets plan"
            )
    if ADDRESS in os.environ:
        raise ValueError(
            f"processes that train together ({ADDRESS}) share a sweep, and workers a plan: start "
            f"smallnets -m in each, or unset {ADDRESS}"
        )
    file = read(path)
    lines = file.lines(*(shard or Shard(0, 1)))
    here, runs, planned = origin(), [], 0
    with (
        hydra_of([*file.words, *words], file.config_dir) as (context, config),
        noted(file.folder, file.runs, here.commit) as account,
        stop_asked(settings_of(config).time_limit) as stopping,
    ):
        remove_drafts(file.folder)
        loaded = {}
        while batch := list(islice(lines, AT_ONCE)):
            planned += sum(len(line.keys) for line in batch)
            files = (
                None
                if file.has_folders
                else ProgramFiles(file.folder, [each.keys for each in batch])
            )
            batch = [line for line in batch if not _is_done(file.folder, line, files, account)]
            with _claimed(file.folder, batch, account) as batch:
                if not batch:
                    continue
                task_words = [word for word in words if not word.lstrip("+").startswith("hydra.")]
                jobs = [job for line in batch for job in line.jobs]
                with one_line():
                    plan = plan_jobs(
                        context,
                        config,
                        [[*said, *task_words] for said, _ in jobs],
                        numbers=[number for _, number in jobs],
                        loaded=loaded,
                    )
                plan = _as_planned(plan, file, batch)
                check_here(plan.programs, settings_of(config))
                runs += train_missing(plan, account, here, stopping, files).values()
        remove_drafts(file.folder)
    finish(account, file.folder, planned, runs, carbon=settings_of(config).carbon)
    return runs


def shard_of(said: str | None, workers: int | None, environment: Mapping[str, str]) -> Shard | None:
    """The share that ``--shard`` names, or the engine's environment; None where neither does.

    Raises ValueError for what is none, and where the environment says which worker it is and not
    of how many, which ``--workers`` may.
    """
    if said is not None:
        found = re.fullmatch(r"(\d+)/(\d+)", said)
        if not found:
            raise ValueError(f"--shard must be INDEX/WORKERS, such as 3/40, but is {said!r}")
        return _shard(int(found[1]), int(found[2]), f"--shard {said}")
    task, step = _array(environment), _step(environment)
    if task and step:  # each task of an array may start several processes
        return Shard(task.index * step.count + step.index, task.count * step.count)
    if task or step:
        return task or step
    for index, count in (
        ("SKYPILOT_JOB_RANK", "SKYPILOT_NUM_JOBS"),
        ("JOB_COMPLETION_INDEX", None),
    ):
        if index in environment:
            number = workers if count is None else int(environment[count])
            if number is None:
                raise ValueError(
                    f"{index}={environment[index]} says which worker this is, but not of how many: "
                    "add --workers COUNT"
                )
            return _shard(int(environment[index]), number, f"{index}={environment[index]}")
    return None


def main(arguments: list[str]) -> None:
    """The verb: ends with 1 where runs failed, with 75 where it was asked to stop."""
    parser = argparse.ArgumentParser("smallnets work", description=__doc__, allow_abbrev=False)
    parser.add_argument("plan", help="what smallnets plan wrote, or the folder that holds it")
    parser.add_argument("--shard", metavar="INDEX/WORKERS", help="which share, from 0, as 3/40")
    parser.add_argument("--workers", type=int, help="of how many, where only the index is known")
    parser.add_argument("words", nargs="*", help="hydra.launcher.*=..., mesh.*=..., cache=...")
    said = parser.parse_intermixed_args(arguments)
    work(said.plan, shard_of(said.shard, said.workers, os.environ), said.words)


def _shard(index: int, count: int, said: str) -> Shard:
    if index >= count:
        raise ValueError(
            f"{said} is beyond the workers: they are counted from 0 to {count - 1}, so name one of "
            "them"
        )
    return Shard(index, count)


def _array(environment: Mapping[str, str]) -> Shard | None:
    """A task of a Slurm array without holes."""
    if "SLURM_ARRAY_TASK_ID" not in environment:
        return None
    names = ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", "SLURM_ARRAY_TASK_MIN")
    task, count, first = (int(environment[name]) for name in names)
    if int(environment.get("SLURM_ARRAY_TASK_MAX", first + count - 1)) != first + count - 1:
        raise ValueError(
            "the array of this Slurm job has holes, so that its shares are not known: say "
            "--shard INDEX/WORKERS, as the script of smallnets submit does"
        )
    return _shard(task - first, count, f"SLURM_ARRAY_TASK_ID={task}")


def _step(environment: Mapping[str, str]) -> Shard | None:
    """A process of several that srun started; a batch script itself is none."""
    count = int(environment.get("SLURM_STEP_NUM_TASKS", "1"))
    if count == 1 or "SLURM_PROCID" not in environment:
        return None
    return _shard(int(environment["SLURM_PROCID"]), count, "SLURM_PROCID")


def _is_done(folder: Path, line: Line, files: ProgramFiles | None, account: Account) -> bool:
    if files:
        done = files.path(line.name).exists()
    else:
        pairs = zip(line.keys, line.saves, strict=True)
        done = all(found_run(folder / key, save) is not None for key, save in pairs)
    account.found += len(line.keys) if done else 0
    return done


@contextmanager
def _claimed(folder: Path, lines: list[Line], account: Account) -> Iterator[list[Line]]:
    """Those programs that no other worker has under way, as far as locks are to be had."""
    (folder / CLAIMS).mkdir(exist_ok=True)
    with ExitStack() as locks:
        mine = []
        for line in lines:
            lock = FileLock(folder / CLAIMS / line.name)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                account.notes.append(
                    f"{line.label}, {line.parameters:,} parameters: another worker has it under "
                    "way, so it is left to that"
                )
                continue
            except (OSError, NotImplementedError):
                pass  # a file system without locks: at worst a run is trained twice, and kept once
            else:
                locks.callback(lock.release)
            mine.append(line)
        yield mine


def _as_planned(plan: Plan, file: PlanFile, lines: list[Line]) -> Plan:
    """The plan in the file's folder, its runs under the keys that the file has for them.

    Raises ValueError where they are others.
    """
    known = {key for line in lines for key in line.keys}
    of_job = {
        number: key
        for line in lines
        if not line.is_chain
        for (_, number), key in zip(line.jobs, line.keys, strict=True)
    }
    for program in plan.programs:
        for job, key in zip(program.group.jobs, program.keys, strict=True):
            if key != of_job.get(job.number, key) or key not in known:
                raise ValueError(
                    f"{file.path}: what it says of {program.label} ({' '.join(job.words)}) are "
                    "other runs today: its data, a parent or smallnets changed, so write it again "
                    "with smallnets plan"
                )
    refused = [
        Refused(each.job, of_job.get(each.job.number, each.key), each.error)
        for each in plan.refused
    ]
    return replace(plan, folder=file.folder, refused=refused)

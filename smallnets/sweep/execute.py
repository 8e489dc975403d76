"""A plan, trained: programs compiled and run on a few threads, and each run's row written."""

import shutil
import signal
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import NamedTuple

from rich.console import Console

from smallnets import models, rows
from smallnets.measure import machine
from smallnets.measure.energy import SharedClock, format_energy, measure
from smallnets.measure.meter import find_meter
from smallnets.models import Model
from smallnets.rows import Row
from smallnets.sweep import FailedRunsError, StoppedError
from smallnets.sweep.chains import summary
from smallnets.sweep.checkpoint import FOLDER, Checkpoints, remove_done
from smallnets.sweep.checks import check_here, check_saved
from smallnets.sweep.compilations import counting_compilations
from smallnets.sweep.hosts import agreed, check_same, leads
from smallnets.sweep.jobs import Job, isolated_hydra
from smallnets.sweep.parents import begun
from smallnets.sweep.plan import Plan, Program, refused_key
from smallnets.sweep.plan_file import write_own
from smallnets.sweep.portion import Desk, Took, on_device, train_program, where
from smallnets.sweep.program_files import ProgramFiles
from smallnets.sweep.progress import Training, View, progress_bars
from smallnets.sweep.publish import failed_run, found_run, hears, publish, remove_drafts, tell
from smallnets.sweep.result import (
    Origin,
    Result,
    failed_row,
    failures,
    origin,
    runs_of,
    score,
    timed,
    waves,
    with_teaching,
)
from smallnets.sweep.settings import Chosen, settings_of
from smallnets.sweep.study import Account, few_sizes, opened
from smallnets.sweep.teachers import teaching
from smallnets.training.batch import Execution


class Run(NamedTuple):
    """A run that is finished: its folder, which :func:`smallnets.load` takes, and its row."""

    folder: Path
    row: Row


Place = tuple[int, int]  # the number of a job, and the stage of its chain


def train(plan: Plan) -> list[Run]:
    """Train every run of a plan that is not there yet, and give each its folder, row and model.

    A run's folder is named by its key; a run whose key is there, with the model that is asked for,
    is kept as it is. On a CPU several programs are under way at once: while one trains, the next
    compiles. A run's folder is there at once, when it is done, so what has one is finished; of long
    runs under way checkpoints are kept, from which the same call goes on. How programs are run is
    the launcher's config.

    Raises ValueError where the folder is of another study, another sweep is writing into it, or a
    network is too large for the memory. Where runs raised, each has a row with its error, and once
    all others are trained FailedRunsError is raised; StoppedError where SIGTERM, SIGUSR1 or the
    time limit ended the sweep, once checkpoints are written.
    """
    here, said = origin(), settings_of(plan.config)
    check_here(plan.programs, said)
    has_folders = said.has_folders(plan.runs)
    check_saved(plan, has_folders)
    if not has_folders and not plan.refused and leads():
        console().print(
            f"smallnets collect {write_own(plan)}  says what of it is done", soft_wrap=True
        )
    if ahead := few_sizes(plan):
        console().print(f"note: {ahead}", highlight=False)
    with (
        isolated_hydra(),
        opened(plan, here.commit, listed=has_folders)
        if leads()
        else nullcontext(Account()) as account,
        stop_asked(said.time_limit) as stopping,
    ):
        files = None if has_folders else ProgramFiles(plan.folder, keys_of(plan))
        if leads():
            remove_drafts(plan.folder)
        runs = train_missing(plan, account, here, stopping, files)
        if leads():
            remove_drafts(plan.folder)
        with suppress(OSError):  # there is none, or it holds those of other runs
            (plan.folder / FOLDER).rmdir()
    ends = {(job.number, job.stage): job for job, _ in plan.jobs() if not job.chain}
    ends = {place: ends[place] for place in sorted(ends) if place in runs}
    found = [runs[place] for place in ends]
    table = summary([(job, runs[at].folder, runs[at].row) for at, job in ends.items()])
    if table:
        console().print(table)
    finish(account, plan.folder, plan.runs, found, carbon=said.carbon)
    return found


def train_missing(
    plan: Plan,
    account: Account,
    here: Origin,
    stopping: Callable[[], str],
    files: ProgramFiles | None,
) -> dict[Place, Run]:
    """Train those runs of a plan that are not there; give all that are, by their jobs' places.

    Each has a folder, or their rows go into ``files``.
    """
    runs, missing = _split(plan, account, files)
    check_same(zlib.crc32("".join(k for each in missing for k in each.keys).encode()) >> 1, "runs")
    devices = max((each.trainer.mesh().devices for each in missing), default=1)
    settings = settings_of(plan.config).here(programs=max(len(missing), 1), devices=devices)
    sweep = Sweep(plan, settings, account, here, runs, files)
    for job, key, error in plan.refused:
        sweep.fail(job, failed_row(job, key, error, here))
    for wave in waves(missing):
        cache = Path(plan.programs[0].trainer.cache).expanduser()
        with progress_bars(console()) as progress, counting_compilations(cache, account.compiled):
            sweep.train(sweep.begun(wave), progress, stopping)
    if leads():
        remove_done(plan.folder, {run.row.key for run in runs.values()})
    return runs


def finish(account: Account, folder: Path, planned: int, found: list[Run], *, carbon: bool) -> None:
    """Say what came of ``planned`` runs; raises FailedRunsError where some raised."""
    message = f"{planned} runs in {folder}"
    if account.found:
        message += f", {account.found} of them there before"
    if account.compiled.programs:
        message += f": {account.compiled}; training took "
        message += format_energy(account.energies, carbon=carbon)
    out = console()
    out.print(message)
    for note in account.notes:
        out.print(f"note: {note}")
    if account.failed:
        out.print(failures(account.failed))
        raise FailedRunsError(f"{len(account.failed)} of {planned} runs failed: see above", found)


def console() -> Console:
    # Labels and paths may hold brackets and colons.
    return Console(markup=False, emoji=False, quiet=not leads())


def _split(
    plan: Plan, account: Account, files: ProgramFiles | None
) -> tuple[dict[Place, Run], list[Program]]:
    """The runs that are there, by their jobs' places, and the programs of those that are not."""
    for job, key in plan.jobs():
        if job.template.resolved["allow"]:
            before = plan.folder / refused_key(job)
            if before.name != key and failed_run(before) and leads():
                shutil.rmtree(before)  # what it failed by is mended
    runs: dict[Place, Run] = {}
    missing, keys = [], set()
    for program in plan.programs:
        places = []
        for place, (job, key) in enumerate(zip(program.group.jobs, program.keys, strict=True)):
            folder = plan.folder / key
            row = files.found(key) if files else found_run(folder, program.trainer.save)
            if row is not None:
                runs[job.number, job.stage] = Run(folder, row)
            elif key not in keys:  # a job that repeats another is one run
                places.append(place)
                keys.add(key)
        if places:
            missing.append(program.only(places))
    account.found += len(runs)
    folders = [plan.folder / key for key in keys]
    again = sum((each / rows.NAME).exists() and not failed_run(each) for each in folders)
    if again:
        account.notes.append(
            f"{again} runs were there damaged, or without the model that save=... asks for: "
            "they are trained again, and what was kept of them is replaced"
        )
    return runs, missing


@contextmanager
def stop_asked(time_limit: float | None) -> Iterator[Callable[[], str]]:
    """Inside, a function that says what asks for the end: a signal, the time limit, or nothing.

    The signals are SIGTERM and SIGUSR1, which Slurm sends before it kills; those that come in
    another thread than the main one are not heard.
    """
    asked: list[str] = []
    end = None if time_limit is None else time.monotonic() + time_limit
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGUSR1):
            before[number] = signal.signal(
                number, lambda number, frame: asked.append(signal.Signals(number).name)
            )

    def stopping() -> str:
        if not asked and end is not None and time.monotonic() > end:
            asked.append(f"the time limit of {time_limit:g} s")
        return asked[0] if asked else ""

    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass
class Sweep:
    """A plan while it is trained: ``runs`` are those that are finished, by their jobs' places."""

    plan: Plan
    settings: Chosen
    account: Account
    here: Origin
    runs: dict[Place, Run]
    files: ProgramFiles | None

    def train(self, programs: list[Program], progress: View, stopping: Callable[[], str]) -> None:
        """Train programs on a few threads; each run is written here as soon as it is done.

        What the threads want written or said waits in a queue: neither Hydra nor the terminal is
        made for several. Raises StoppedError where ``stopping`` says so, once all have stopped.
        """
        seen = Training(progress, [(each.work, len(each.group.jobs)) for each in programs])
        arrays = {where(each): on_device(each) for each in {where(p): p for p in programs}.values()}
        clock = SharedClock()  # a meter sees all programs, so it is asked only where there is one
        meter = find_meter() if self.settings.workers == 1 else None
        queue: SimpleQueue[Callable[[], None]] = SimpleQueue()
        over = threading.Event()

        def say(line: str) -> None:
            queue.put(partial(progress.console.print, line, highlight=False))

        def work(place: int, program: Program) -> Took:
            seen.begin(place)
            execution = self.settings.execution_of(program.trainer, len(program.group.jobs))
            desk = Desk(
                execution=execution,
                memory_limit=self.settings.memory_limit,
                interval=self.settings.checkpoint_seconds,
                publish=lambda *outcome: queue.put(
                    partial(self.publish, seen, execution, *outcome)
                ),
                heard=partial(seen.hear, place),
                say=say,
                stopping=lambda: bool(agreed(over.is_set() or bool(stopping()))),
                checkpoints=lambda portion: self.checkpoints_of(execution, portion, say),
                measure=partial(measure, meter=meter, cpu_clock=clock),
            )
            with clock.at_work():
                return train_program(program, arrays[where(program)], desk)

        def ended(place: int, future: Future[Took]) -> None:
            under_way.remove(place)
            with suppress(StoppedError):
                took = future.result()
                seen.finish(place)
                progress.console.print(_message(programs[place], took), highlight=False)

        pool = ThreadPoolExecutor(self.settings.workers)
        under_way = set(range(len(programs)))
        try:
            # The largest first, so that no thread is left alone with it at the end.
            for place in sorted(range(len(programs)), key=lambda place: -programs[place].work):
                future = pool.submit(work, place, programs[place])
                future.add_done_callback(
                    lambda future, place=place: queue.put(partial(ended, place, future))
                )
            while under_way:
                seen.show()
                with suppress(Empty):
                    queue.get(timeout=0.5)()
            if why := stopping():
                raise StoppedError(
                    f"{why}: what is under way is kept, so run the same command again"
                )
        except BaseException:
            total = self.plan.runs
            progress.console.print(
                f"stopped: {len(self.runs)} of {total} runs are finished, and stay"
            )
            raise
        finally:  # programs under way are not waited for: they stop at their next cut
            over.set()
            pool.shutdown(wait=False, cancel_futures=True)

    def publish(
        self,
        seen: Training,
        execution: Execution,
        portion: Program,
        outcome: Result | Exception,
    ) -> None:
        """Write the rows and models of runs that were trained together, or that failed together."""
        if isinstance(outcome, Exception):
            error = " ".join(f"{type(outcome).__name__}: {outcome}".split())
            for job, key in zip(portion.group.jobs, portion.keys, strict=True):
                self.fail(job, failed_row(job, key, error, self.here, portion))
            seen.fail(len(portion.keys))
            return
        outcome = with_teaching(portion, outcome)
        self.account.energies.append(outcome.energy)
        portion = timed(portion, outcome)
        for job, row, model in runs_of(portion, outcome, execution, self.here):
            if self._write(job, row, model):
                self.runs[job.number, job.stage] = Run(self.plan.folder / row.key, row)
                self.account.trained += 1
                seen.publish(row.family, [score(row)])
        if leads():
            self.checkpoints_of(execution, portion, print).remove()

    def begun(self, programs: list[Program]) -> list[Program]:
        """The programs of a wave with what runs start and learn from; without it they fail."""
        found = []
        for program in programs:
            ready = []
            for place, (job, key) in enumerate(zip(program.group.jobs, program.keys, strict=True)):
                parent = job.parent
                if parent and parent.planned and not (Path(parent.folder) / models.NAME).is_file():
                    error = f"the run {parent.run}, whose model it starts from, failed"
                    self.fail(job, failed_row(job, key, error, self.here, program))
                else:
                    ready.append(place)
            if ready:
                found.append(begun(program.only(ready)))
        limit = settings_of(self.plan.config).memory_limit or machine.memory()
        return teaching(found, limit)

    def fail(self, job: Job, row: Row) -> None:
        """Write the row of a job that raised, unless an earlier one, with numbers, is there."""
        self.account.failed.append(row)
        folder = self.plan.folder / row.key
        if self.files or not (folder / rows.NAME).exists() or failed_run(folder):
            self._write(job, row, None)

    def checkpoints_of(
        self, execution: Execution, portion: Program, say: Callable[[str], None]
    ) -> Checkpoints:
        """The checkpoints of a portion, which hold on the machine and versions that made them.

        The mesh may be another one: its devices give the same numbers to rounding.
        """
        identity = {
            "keys": portion.keys,
            "execution": execution,
            "device": self.here.device,
            "versions": self.here.versions,
        }
        return Checkpoints(self.plan.folder, identity, say)

    def _write(self, job: Job, row: Row, model: Model | None) -> bool:
        """Publish the run; False, and a line, where another process was first."""
        if not leads():
            return True
        study = self.plan.folder
        first = self.files.add(row) if self.files else publish(study, job, row, model)
        if not first:
            self.account.notes.append(
                f"{study / row.key}: another process was first, so what was trained here is "
                "discarded"
            )
            return False
        if hears(self.plan.context):
            tell(self.plan.context, study, job, row, score(row))
        return True


def keys_of(plan: Plan) -> list[list[str]]:
    """The keys of each program's runs, and of each job that was refused."""
    return [*(program.keys for program in plan.programs), *([each.key] for each in plan.refused)]


def _message(program: Program, took: Took) -> str:
    runs = len(program.group.jobs)
    return (
        f"{program.label}, {program.parameters:,} parameters: {runs} runs, compiled in "
        f"{took.compiling:.1f} s, trained in {took.training:.1f} s"
    )

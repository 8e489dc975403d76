"""A plan, trained: programs compiled and run on a few threads, and each run's row written."""

import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import NamedTuple

import jax
from hydra.core.utils import run_job
from omegaconf import DictConfig, read_write
from rich.console import Console
from rich.progress import Progress

from smallnets import models, rows
from smallnets.measure import machine
from smallnets.measure.energy import SharedClock, format_energy, measure
from smallnets.measure.latency import latencies
from smallnets.measure.meter import find_meter
from smallnets.models import Model
from smallnets.rows import Row
from smallnets.sweep import FailedRunsError, StoppedError
from smallnets.sweep.chains import summary
from smallnets.sweep.checkpoint import FOLDER, Checkpoints
from smallnets.sweep.compilations import counting_compilations
from smallnets.sweep.jobs import Job, isolated_hydra
from smallnets.sweep.plan import Plan, Program, notes_of, refused_key
from smallnets.sweep.portion import Desk, Took, train_program
from smallnets.sweep.progress import Training, progress_bars
from smallnets.sweep.result import Origin, Result, failed_row, failures, origin, runs_of, score
from smallnets.sweep.settings import Chosen, settings_of
from smallnets.sweep.study import Account, failed_run, found_run, opened
from smallnets.tasks.data import Data
from smallnets.training.fit import Arrays
from smallnets.training.trainer import splits


class Run(NamedTuple):
    """A run that is finished: its folder, which :func:`smallnets.load` takes, and its row."""

    folder: Path
    row: Row


Place = tuple[int, int]  # the number of a job, and the stage of its chain


def train(plan: Plan) -> list[Run]:
    """Train every run of a plan that is not there yet, and give each its folder, row and model.

    A run's folder is named by its key; a run whose key is there, with the model that is asked for,
    is kept as it is. On a CPU several programs are under way at once: while one trains, the next
    compiles. A folder's row is written last, once its run is done, so what has a row is finished;
    of long runs under way checkpoints are kept, from which the same call goes on. How programs are
    run is the launcher's config.

    Raises ValueError where the folder is of another study, another sweep is writing into it, or a
    network is too large for the memory. Where runs raised, each has a row with its error, and once
    all others are trained FailedRunsError is raised; StoppedError where SIGTERM, SIGUSR1 or the
    time limit ended the sweep, once checkpoints are written.
    """
    here, said = origin(), settings_of(plan.config)
    for program in plan.programs:
        check_memory(program, said.memory_limit or machine.memory())
    console = Console(markup=False, emoji=False)  # labels and paths may hold brackets and colons
    with isolated_hydra(), opened(plan, here.commit) as account:
        runs, missing = _split(plan, account)
        settings = said.here(programs=max(len(missing), 1))
        sweep = Sweep(plan, settings, account, here, runs)
        for job, key, error in plan.refused:
            sweep.fail(job, failed_row(job, key, error, here))
        cache = Path(plan.programs[0].trainer.cache).expanduser()
        for wave in _waves(missing):
            with (
                progress_bars(console) as progress,
                counting_compilations(cache) as compilations,
                stop_asked(said.time_limit) as stopping,
            ):
                sweep.train(sweep.begun(wave), progress, stopping)
        with suppress(OSError):  # there is none, or it holds those of other runs
            (plan.folder / FOLDER).rmdir()
    message = f"{plan.runs} runs in {plan.folder}"
    if account.found:
        message += f", {account.found} of them there before"
    if missing:
        message += f": {compilations}; training took "
        message += format_energy(account.energies, carbon=said.carbon)
    console.print(message)
    for note in account.notes:
        console.print(f"note: {note}")
    ends = {(job.number, job.stage): job for job, _ in plan.jobs() if not job.chain}
    found = [runs[place] for place in sorted(ends) if place in runs]
    table = summary(
        [(ends[each], runs[each].folder, runs[each].row) for each in ends if each in runs]
    )
    if table:
        console.print(table)
    if account.failed:
        console.print(failures(account.failed))
        raise FailedRunsError(f"{len(account.failed)} of {plan.runs} runs failed: see above", found)
    return found


def _split(plan: Plan, account: Account) -> tuple[dict[Place, Run], list[Program]]:
    """The runs that are there, by their jobs' places, and the programs of those that are not."""
    for job, key in plan.jobs():
        before = plan.folder / refused_key(job)
        if before.name != key and failed_run(before):
            shutil.rmtree(before)  # what it failed by is mended
    runs: dict[Place, Run] = {}
    missing, keys = [], set()
    for program in plan.programs:
        places = []
        for place, (job, key) in enumerate(zip(program.group.jobs, program.keys, strict=True)):
            row = found_run(plan.folder, key, program.trainer.save)
            if row is not None:
                runs[job.number, job.stage] = Run(plan.folder / key, row)
            elif key not in keys:  # a job that repeats another is one run
                places.append(place)
                keys.add(key)
        if places:
            missing.append(program.only(places))
    account.found = len(runs)
    folders = [plan.folder / key for key in keys]
    again = sum((each / rows.NAME).exists() and not failed_run(each) for each in folders)
    if again:
        account.notes.append(
            f"{again} runs were there damaged, or without the model that save=... asks for: "
            "they are trained again, and what was kept of them is replaced"
        )
    return runs, missing


def _waves(programs: list[Program]) -> Iterator[list[Program]]:
    """Programs of one stage of their chains together: the next stage starts from their models."""
    for stage in sorted({job.stage for program in programs for job in program.group.jobs}):
        yield [each for each in programs if each.group.jobs[0].stage == stage]


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

    def train(
        self, programs: list[Program], progress: Progress, stopping: Callable[[], str]
    ) -> None:
        """Train programs on a few threads; each run is written here as soon as it is done.

        What the threads want written or said waits in a queue: neither Hydra nor the terminal is
        made for several. Raises StoppedError where ``stopping`` says so, once all have stopped.
        """
        seen = Training(progress, [(each.work, len(each.group.jobs)) for each in programs])
        data = {id(each.data): each.data for each in programs}
        arrays = {key: on_device(each) for key, each in data.items()}
        clock = SharedClock()  # a meter sees all programs, so it is asked only where there is one
        meter = find_meter() if self.settings.workers == 1 else None
        queue: SimpleQueue[Callable[[], None]] = SimpleQueue()
        over = threading.Event()

        def say(line: str) -> None:
            queue.put(partial(progress.console.print, line, highlight=False))

        def work(place: int, program: Program) -> Took:
            desk = Desk(
                execution=self.settings.execution,
                memory_limit=self.settings.memory_limit,
                interval=self.settings.checkpoint_seconds,
                publish=lambda *outcome: queue.put(partial(self.publish, *outcome)),
                heard=partial(seen.hear, place),
                say=say,
                stopping=lambda: over.is_set() or bool(stopping()),
                checkpoints=lambda portion: self.checkpoints_of(portion, say),
                measure=partial(measure, meter=meter, cpu_clock=clock),
            )
            with clock.at_work():
                return train_program(program, arrays[id(program.data)], desk)

        def ended(place: int, future: Future[Took]) -> None:
            under_way.remove(place)
            with suppress(StoppedError):
                took = future.result()
                seen.finish(place)
                progress.console.print(_message(programs[place], took), highlight=False)

        pool = ThreadPoolExecutor(self.settings.workers)
        under_way = set(range(len(programs)))
        try:
            for place, program in enumerate(programs):
                future = pool.submit(work, place, program)
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

    def publish(self, portion: Program, outcome: Result | Exception) -> None:
        """Write the rows and models of runs that were trained together, or that failed together."""
        if isinstance(outcome, Exception):
            error = " ".join(f"{type(outcome).__name__}: {outcome}".split())
            for job, key in zip(portion.group.jobs, portion.keys, strict=True):
                self.fail(job, failed_row(job, key, error, self.here, portion))
            return
        self.account.energies.append(outcome.energy)
        portion = self.timed(portion, outcome)
        for job, row, model in runs_of(portion, outcome, self.settings.execution, self.here):
            self.runs[job.number, job.stage] = self._write(job, row, model)
            self.account.trained += 1
        self.checkpoints_of(portion, print).remove()

    def begun(self, programs: list[Program]) -> list[Program]:
        """The programs of a wave with what their runs start from; without it a run fails."""
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
                found.append(program.only(ready).begun())
        return found

    def timed(self, portion: Program, outcome: Result) -> Program:
        """The portion of a chain with the milliseconds of its model and of its parent's.

        They are taken in turns, of one example; other programs may be at work beside them.
        """
        if not portion.group.jobs[0].route:
            return portion
        after, before = (
            jax.tree.map(lambda leaf: jax.numpy.asarray(leaf[0]), tree)
            for tree in (outcome.models, portion.start)
        )
        data = portion.data
        example = jax.numpy.asarray(data.train.inputs[:1])
        example = data.preparation(example) if data.raw else example
        forms = {"parent_latency_ms": before, "latency_ms": after}
        times = latencies(forms, example, batch_sizes=(1,))
        found = {each.form: 1e3 * each.median_seconds for each in times}
        return replace(portion, costs={**portion.costs, **found})

    def fail(self, job: Job, row: Row) -> None:
        """Write the row of a job that raised, unless an earlier one, with numbers, is there."""
        self.account.failed.append(row)
        folder = self.plan.folder / row.key
        if not (folder / rows.NAME).exists() or failed_run(folder):
            self._write(job, row, None)

    def checkpoints_of(self, portion: Program, say: Callable[[str], None]) -> Checkpoints:
        """The checkpoints of a portion, which hold on the machine and versions that made them."""
        identity = {
            "keys": portion.keys,
            "execution": self.settings.execution,
            "device": self.here.device,
            "versions": self.here.versions,
        }
        return Checkpoints(self.plan.folder, identity, say)

    def _write(self, job: Job, row: Row, model: Model | None) -> Run:
        """The run's folder, Hydra's files, the model and at last the row, by Hydra's own means."""
        with read_write(job.config.hydra):
            job.config.hydra.sweep.subdir = row.key

        def write(config: DictConfig) -> float:
            del config
            folder = Path(job.config.hydra.runtime.output_dir)
            if model is not None:
                said = notes_of(row.key, row.saved, row.family, row.task)
                models.save(model, folder / models.NAME, notes=said)
            rows.write(row, folder)
            return score(row)

        returned = run_job(
            hydra_context=self.plan.context,
            task_function=write,
            config=job.config,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
            configure_logging=False,
        )
        _ = returned.return_value  # raises what kept the row from being written
        return Run(self.plan.folder / row.key, row)


def check_memory(program: Program, limit: int) -> None:
    """Raise ValueError where a run's parameters and their gradient alone exceed the memory.

    What else a run takes XLA knows once the program is compiled.
    """
    needed = 2 * int(program.costs["bytes"])
    if needed > limit:
        raise ValueError(
            f"{program.label}: one run must fit into memory, but its parameters and their gradient "
            f"alone take {needed:,} bytes of {limit:,}: use a smaller model"
        )


def on_device(data: Data) -> dict[str, Arrays]:
    """The splits of the data, on the device."""
    return jax.device_put(splits(data))


def _message(program: Program, took: Took) -> str:
    runs = len(program.group.jobs)
    return (
        f"{program.label}, {program.parameters:,} parameters: {runs} runs, compiled in "
        f"{took.compiling:.1f} s, trained in {took.training:.1f} s"
    )

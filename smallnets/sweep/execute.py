"""A plan, trained: programs compiled and run on a few threads, and each run's row written."""

import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
from hydra.core.utils import run_job
from omegaconf import DictConfig, OmegaConf, read_write
from rich.console import Console
from rich.progress import Progress

from smallnets import models, rows
from smallnets.measure import machine
from smallnets.measure.energy import Energy, SharedClock, format_energy, measure
from smallnets.measure.meter import find_meter
from smallnets.models import Model
from smallnets.rows import Row
from smallnets.sweep.compilations import counting_compilations
from smallnets.sweep.jobs import Job, isolated_hydra
from smallnets.sweep.plan import Plan, Program
from smallnets.sweep.progress import Training, progress_bars
from smallnets.sweep.result import Result, runs_of, score
from smallnets.sweep.study import Account, found_run, opened
from smallnets.tasks.data import Data
from smallnets.training.batch import EXECUTIONS, Execution, compile_runs, fastest_execution
from smallnets.training.fit import Arrays
from smallnets.training.trainer import splits

MeasureEnergy = Callable[[Callable[[], Any]], tuple[Any, Energy]]  # work -> its result, its energy


class Chosen(NamedTuple):
    """What programs are run with; see :class:`Settings`."""

    execution: Execution
    memory_limit: int
    workers: int


@dataclass(frozen=True)
class Settings:
    """How programs are run: what the launcher's config sets.

    ``execution`` is vmap, map or auto (what is faster on the device); ``memory_limit`` the bytes
    that a program may take (None: its share of half of what the device has, so that it does not
    change from run to run); ``workers`` the programs under way at once (None: one a core on a CPU,
    else one); ``carbon`` whether the end says CO2 and money beside joules. Raises ValueError for
    another execution and for numbers below 1.
    """

    execution: Execution | Literal["auto"] = "auto"
    memory_limit: int | None = None
    workers: int | None = None
    carbon: bool = False

    def __post_init__(self):
        known = ("auto", *EXECUTIONS)
        if self.execution not in known:
            raise ValueError(f"execution must be one of {', '.join(known)}, not {self.execution}")
        for name in ("memory_limit", "workers"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, but is {value}: or leave it null")

    def here(self, *, programs: int) -> "Chosen":
        """What they are on this machine for so many programs, with nothing left open."""
        platform = jax.default_backend()
        workers = self.workers or (machine.cores() if platform == "cpu" else 1)
        workers = min(workers, programs)
        return Chosen(
            execution=fastest_execution(platform) if self.execution == "auto" else self.execution,
            memory_limit=self.memory_limit or machine.memory() // 2 // workers,
            workers=workers,
        )


def settings_of(config: DictConfig) -> Settings:
    """What a config's launcher says; the defaults where it is another launcher."""
    said = OmegaConf.select(config, "hydra.launcher") or {}
    names = [each.name for each in fields(Settings)]
    return Settings(**{name: said[name] for name in names if name in said})


class Run(NamedTuple):
    """A run that is finished: its folder, which :func:`smallnets.load` takes, and its row."""

    folder: Path
    row: Row


def train(plan: Plan) -> list[Run]:
    """Train every run of a plan that is not there yet, and give each its folder, row and model.

    A run's folder is named by its key; a run whose key is there, with the model that is asked for,
    is kept as it is. On a CPU several programs are under way at once: while one trains, the next
    compiles. A folder's row is written last, once its program is done, so what has a row is
    finished. On Ctrl-C what is finished stays. How programs are run is the launcher's config.

    Raises ValueError where the folder is of another study, another sweep is writing into it, or a
    network is too large for the memory.
    """
    commit, said = machine.commit(), settings_of(plan.config)
    for program in plan.programs:
        check_memory(program, said.memory_limit or machine.memory())
    console = Console(markup=False, emoji=False)  # labels and paths may hold brackets and colons
    with isolated_hydra(), opened(plan, commit) as account:
        runs, missing = _split(plan, account)
        settings = said.here(programs=max(len(missing), 1))
        cache = Path(plan.programs[0].trainer.cache).expanduser()
        if missing:
            with (
                progress_bars(console) as progress,
                counting_compilations(cache) as compilations,
            ):
                runs |= _train_all(plan, missing, settings, progress, account, commit)
    message = f"{plan.runs} runs in {plan.folder}"
    if account.found:
        message += f", {account.found} of them there before"
    if missing:
        message += f": {compilations}; training took "
        message += format_energy(account.energies, carbon=said.carbon)
    console.print(message)
    for note in account.notes:
        console.print(f"note: {note}")
    return [runs[number] for number in sorted(runs)]


def _split(plan: Plan, account: Account) -> tuple[dict[int, Run], list[Program]]:
    """The runs that are there, by their jobs' numbers, and the programs of those that are not."""
    runs: dict[int, Run] = {}
    missing, keys = [], set()
    for program in plan.programs:
        places = []
        for place, (job, key) in enumerate(zip(program.group.jobs, program.keys, strict=True)):
            row = found_run(plan.folder, key, program.trainer.save)
            if row is not None:
                runs[job.number] = Run(plan.folder / key, row)
            elif key not in keys:  # a job that repeats another is one run
                places.append(place)
                keys.add(key)
        if places:
            missing.append(program.only(places))
    account.found = len(runs)
    again = sum((plan.folder / key / rows.NAME).exists() for key in keys)
    if again:
        account.notes.append(
            f"{again} runs were there damaged, or without the model that save=... asks for: they "
            "are trained again, and what was kept of them is replaced"
        )
    return runs, missing


def _train_all(
    plan: Plan,
    programs: list[Program],
    settings: Chosen,
    progress: Progress,
    account: Account,
    commit: str,
) -> dict[int, Run]:
    """Train programs on a few threads; write each one's runs here as soon as it is done."""
    training = Training(progress, [each.work for each in programs])
    data = {id(each.data): each.data for each in programs}
    arrays = {key: on_device(each) for key, each in data.items()}
    clock = SharedClock()  # a meter sees all programs, so it is asked only where there is one
    meter = find_meter() if settings.workers == 1 else None
    measure_energy = partial(measure, meter=meter, cpu_clock=clock)

    def work(place: int, program: Program) -> Result:
        training.start(place)
        with clock.at_work():
            return train_program(program, arrays[id(program.data)], settings, measure_energy)

    runs: dict[str, Run] = {}
    pool = ThreadPoolExecutor(settings.workers)
    waiting = {pool.submit(work, *each): each for each in enumerate(programs)}
    try:
        while waiting:
            training.show()
            done, _ = wait(waiting, timeout=0.5, return_when=FIRST_COMPLETED)
            for future in done:
                (place, program), result = waiting.pop(future), future.result()
                account.energies.append(result.energy)
                for job, row, model in runs_of(program, result, settings.execution, commit):
                    runs[row.key] = _write(plan, job, row, model)
                    account.trained += 1
                training.finish(place)
                progress.console.print(_message(program, result), highlight=False)
    except BaseException:
        total = sum(len(program.group.jobs) for program in programs)
        progress.console.print(f"stopped: {len(runs)} of {total} runs are finished, and stay")
        raise
    finally:  # without waiting for programs under way, whose runs are lost in any case
        pool.shutdown(wait=False, cancel_futures=True)
    return {
        job.number: runs[key]
        for program in plan.programs
        for job, key in zip(program.group.jobs, program.keys, strict=True)
        if key in runs
    }


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


def train_program(
    program: Program,
    arrays: dict[str, Arrays],
    settings: Chosen,
    measure_energy: MeasureEnergy,
) -> Result:
    """Train a program's runs together; ``arrays`` are its splits on the device.

    ``measure_energy(work)`` runs the compiled program and says what energy that took.
    Raises ValueError where not even one run fits into memory.
    """
    keep = program.trainer.save != "none"

    def one(inputs: Any, arrays: dict[str, Arrays]) -> tuple[Any, dict[str, jax.Array]]:
        values, start = inputs
        model, curves = program.train_one(values, arrays, start)
        return model if keep else None, curves

    try:
        compiled = compile_runs(
            one,
            (program.group.values, program.start),
            arrays,
            execution=settings.execution,
            memory_limit=settings.memory_limit,
        )
    except ValueError as error:
        raise ValueError(f"{program.label}: {error}") from error
    started = time.perf_counter()
    (trained, curves), energy = measure_energy(compiled.run)
    seconds = time.perf_counter() - started
    return Result(trained, curves, compiled.chunk, compiled.compile_seconds, seconds, energy)


def _write(plan: Plan, job: Job, row: Row, model: Model | None) -> Run:
    """The run's folder, Hydra's files, the model and at last the row, by Hydra's own means."""
    with read_write(job.config.hydra):
        job.config.hydra.sweep.subdir = row.key

    def write(config: DictConfig) -> float:
        del config
        folder = Path(job.config.hydra.runtime.output_dir)
        if model is not None:
            said = {"key": row.key, "saved": row.saved, "family": row.family, "task": row.task}
            models.save(model, folder / models.NAME, notes=said)
        rows.write(row, folder)
        return score(row)

    returned = run_job(
        hydra_context=plan.context,
        task_function=write,
        config=job.config,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
        configure_logging=False,
    )
    _ = returned.return_value  # raises what kept the row from being written
    return Run(plan.folder / row.key, row)


def _message(program: Program, result: Result) -> str:
    runs = len(program.group.jobs)
    return (
        f"{program.label}, {program.parameters:,} parameters: {runs} runs, compiled in "
        f"{result.compile_seconds:.1f} s, trained in {result.run_seconds:.1f} s"
    )

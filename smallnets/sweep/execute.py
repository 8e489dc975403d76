"""A plan, trained: programs compiled and run on a few threads, and each run's row written."""

import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import jax.monitoring
import numpy as np
from hydra.core.utils import JobReturn, run_job
from hydra.types import HydraContext
from omegaconf import DictConfig
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from smallnets import rows
from smallnets.measure import machine
from smallnets.measure.energy import Energy, SharedClock, format_energy, measure
from smallnets.measure.meter import find_meter
from smallnets.rows import Row
from smallnets.sweep.jobs import Job
from smallnets.sweep.plan import Plan, Program
from smallnets.tasks.data import Data
from smallnets.traced import assign
from smallnets.training.batch import EXECUTIONS, Execution, compile_runs, fastest_execution
from smallnets.training.fit import Arrays
from smallnets.training.trainer import splits

MeasureEnergy = Callable[[Callable[[], Any]], tuple[Any, Energy]]  # work -> its result, its energy


@dataclass(frozen=True)
class Settings:
    """How programs are run: what the launcher's config sets.

    ``execution`` is vmap, map or auto (what is faster on the device); ``memory_limit`` the bytes
    that a program may take (None: its share of half of what the device has, so that it does not
    change from run to run); ``workers`` the programs under way at once (None: one a core on a CPU,
    else one). Raises ValueError for another execution and for numbers below 1.
    """

    execution: Execution | Literal["auto"] = "auto"
    memory_limit: int | None = None
    workers: int | None = None

    def __post_init__(self):
        known = ("auto", *EXECUTIONS)
        if self.execution not in known:
            raise ValueError(f"execution must be one of {', '.join(known)}, not {self.execution}")
        for name in ("memory_limit", "workers"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, but is {value}: or leave it null")

    def here(self, *, programs: int) -> "Settings":
        """The same for this machine and so many programs, with nothing left open."""
        platform = jax.default_backend()
        workers = self.workers or (machine.cores() if platform == "cpu" else 1)
        workers = min(workers, programs)
        return Settings(
            execution=fastest_execution(platform) if self.execution == "auto" else self.execution,
            memory_limit=self.memory_limit or machine.memory() // 2 // workers,
            workers=workers,
        )


@dataclass(frozen=True)
class Result:
    """What training a program gave: ``curves`` with a leading axis of runs, times, energy."""

    curves: dict[str, np.ndarray]
    chunk: int
    compile_seconds: float
    run_seconds: float
    energy: Energy


def train(plan: Plan, settings: Settings | None = None) -> list[JobReturn]:
    """Train every run of a plan; give each its folder, its ``.hydra`` files and its row.

    On a CPU several programs are under way at once: while one trains, the next compiles. A run's
    folder is made by Hydra's own ``run_job`` once its program is done, so what is there is
    finished. On Ctrl-C what is finished stays.
    """
    settings = (settings or Settings()).here(programs=len(plan.programs))
    console = Console()
    cache = Path(plan.programs[0].trainer.cache).expanduser()
    with progress_bars(console) as progress, counting_compilations(cache) as compilations:
        returns, energies = _train_all(plan, settings, progress)
    console.print(
        f"{len(returns)} runs in {plan.folder}: {compilations}; "
        f"training took {format_energy(energies)}"
    )
    return [returns[number] for number in sorted(returns)]


def _train_all(
    plan: Plan, settings: Settings, progress: Progress
) -> tuple[dict[int, JobReturn], list[Energy]]:
    """Train the programs on a few threads; write each one's rows here as soon as it is done.

    Returns what each job gave, by its number, and the energy of each program.
    """
    commit = machine.commit()
    training = progress.add_task("training", total=sum(each.work for each in plan.programs))
    data = {id(each.data): each.data for each in plan.programs}
    arrays = {key: on_device(each) for key, each in data.items()}
    clock = SharedClock()  # a meter sees all programs, so it is asked only where there is one
    meter = find_meter() if settings.workers == 1 else None
    measure_energy = partial(measure, meter=meter, cpu_clock=clock)

    def work(program: Program) -> Result:
        with clock.at_work():
            return train_program(program, arrays[id(program.data)], settings, measure_energy)

    returns: dict[int, JobReturn] = {}
    energies: list[Energy] = []
    pool = ThreadPoolExecutor(settings.workers)
    waiting = {pool.submit(work, program): program for program in plan.programs}
    try:
        while waiting:
            progress.refresh()
            done, _ = wait(waiting, timeout=0.5, return_when=FIRST_COMPLETED)
            for future in done:
                program, result = waiting.pop(future), future.result()
                energies.append(result.energy)
                written = rows_of(program, result, settings.execution, commit)
                for job, row in zip(program.group.jobs, written, strict=True):
                    returns[job.number] = _write(plan.context, job, row)
                progress.advance(training, program.work)
                progress.console.print(_message(program, result), highlight=False)
    except BaseException:
        progress.console.print(
            f"stopped: {len(returns)} of {plan.runs} runs are finished, and their rows stay"
        )
        raise
    finally:  # without waiting for programs under way, whose runs are lost in any case
        pool.shutdown(wait=False, cancel_futures=True)
    return returns, energies


def on_device(data: Data) -> dict[str, Arrays]:
    """The splits of the data, on the device."""
    return jax.device_put(splits(data))


def train_program(
    program: Program,
    arrays: dict[str, Arrays],
    settings: Settings,
    measure_energy: MeasureEnergy,
) -> Result:
    """Train a program's runs together; ``arrays`` are its splits on the device.

    ``measure_energy(work)`` runs the compiled program and says what energy that took.
    Raises ValueError where not even one run fits into memory.
    """

    def run(values: dict[str, jax.Array], arrays: dict[str, Arrays]) -> dict[str, jax.Array]:
        tree = program.tree
        for path, value in values.items():
            tree = assign(tree, path, value)
        return tree().fit(program.data, arrays)[1]

    try:
        compiled = compile_runs(
            run,
            program.group.values,
            arrays,
            execution=settings.execution,
            memory_limit=settings.memory_limit,
        )
    except ValueError as error:
        raise ValueError(f"{program.label}: {error}") from error
    started = time.perf_counter()
    curves, energy = measure_energy(compiled.run)
    seconds = time.perf_counter() - started
    return Result(curves, compiled.chunk, compiled.compile_seconds, seconds, energy)


def rows_of(program: Program, result: Result, execution: str, commit: str) -> Iterator[Row]:
    """The row of each run, in the order of the program's jobs."""
    trainer, jobs = program.trainer, program.group.jobs
    stride = trainer.steps // trainer.evaluations
    steps = [float(stride * (index + 1)) for index in range(trainer.evaluations)]
    device, versions = machine.device_name(jax.devices()[0]), machine.versions()
    energy = asdict(result.energy.times(1 / len(jobs)))
    for index, job in enumerate(jobs):
        curves = {name: array[index].tolist() for name, array in result.curves.items()}
        curves |= _bits_per_byte(program.data, curves)
        diverged = not all(map(math.isfinite, curves["train_loss"]))
        metrics = {name: curve[-1] for name, curve in curves.items()}
        yield Row(
            family=program.families[index],
            task=program.task,
            seed=int(program.group.values["seed"][index]),
            parameters=program.parameters,
            costs=program.costs,
            status="diverged" if diverged else "finished",
            metrics={**metrics, **_best(curves, steps)},
            curves={"step": steps, **curves},
            seconds=result.run_seconds / len(jobs),
            energy=energy,
            compile_seconds=result.compile_seconds,
            execution=execution,
            members=result.chunk,
            device=device,
            commit=commit,
            versions=versions,
            config={**job.resolved, "model": {**job.resolved["model"], **program.sizes}},
        )


def score(row: Row) -> float:
    """What a sweeper may minimise: the validation error at the last step, never a test score."""
    return row.metrics.get("validation_error", math.nan)


def _bits_per_byte(data: Data, curves: dict[str, list[float]]) -> dict[str, list[float]]:
    """The loss of each held-out split of text in bits per byte, as ``<split>_bits_per_byte``."""
    return {
        f"{name}_bits_per_byte": [split.bits_per_byte(nats) for nats in curves[f"{name}_loss"]]
        for name, split in (("validation", data.validation), ("test", data.test))
        if split.bytes and len(split)
    }


def _best(curves: dict[str, list[float]], steps: list[float]) -> dict[str, float]:
    """The metrics at the lowest validation loss, as ``best_...``; none without validation."""
    if "validation_loss" not in curves:
        return {}
    finite = [value if math.isfinite(value) else math.inf for value in curves["validation_loss"]]
    index = finite.index(min(finite))
    best = {f"best_{name}": curve[index] for name, curve in curves.items()}
    return {"best_step": steps[index], **best}


def _write(context: HydraContext, job: Job, row: Row) -> JobReturn:
    """The run's folder, Hydra's files and the row, by Hydra's own means."""

    def write(config: DictConfig) -> float:
        del config
        rows.write(row, Path(job.config.hydra.runtime.output_dir))
        return score(row)

    returned = run_job(
        hydra_context=context,
        task_function=write,
        config=job.config,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
        configure_logging=False,
    )
    _ = returned.return_value  # raises what kept the row from being written
    return returned


def _message(program: Program, result: Result) -> str:
    runs = len(program.group.jobs)
    return (
        f"{program.label}, {program.parameters:,} parameters: {runs} runs, compiled in "
        f"{result.compile_seconds:.1f} s, trained in {result.run_seconds:.1f} s"
    )


def progress_bars(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("left:"),
        TimeRemainingColumn(),
        console=console,
        auto_refresh=False,  # a thread of its own would import while TFDS replaces __import__
    )


_REQUEST = "/jax/compilation_cache/compile_requests_use_cache"
_HIT = "/jax/compilation_cache/cache_hits"


@dataclass
class Compilations:
    """``programs`` that were asked for, and how many of them came ``from_cache``."""

    programs: int = 0
    from_cache: int = 0

    def __str__(self) -> str:
        compiled = self.programs - self.from_cache
        return f"{self.programs} programs: {compiled} compiled, {self.from_cache} from the cache"


@contextmanager
def counting_compilations(cache: Path) -> Iterator[Compilations]:
    """Keep every compiled program in ``cache`` and take it from there; count them meanwhile."""
    settings = {
        "jax_compilation_cache_dir": str(cache / "programs"),
        "jax_persistent_cache_min_compile_time_secs": 0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in settings}
    for name, value in settings.items():
        jax.config.update(name, value)
    count = Compilations()

    def listen(event: str, **details: str | int) -> None:
        del details
        count.programs += event == _REQUEST
        count.from_cache += event == _HIT

    jax.monitoring.register_event_listener(listen)
    try:
        yield count
    finally:
        jax.monitoring.unregister_event_listener(listen)
        for name, value in before.items():
            jax.config.update(name, value)

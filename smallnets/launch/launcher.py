"""A multirun: jobs into groups, groups into programs, programs into rows."""

from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path

from hydra.core.utils import JobReturn, configure_log, run_job
from hydra.types import HydraContext
from omegaconf import DictConfig
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from smallnets import records
from smallnets.launch import environment
from smallnets.launch.compilations import counted
from smallnets.launch.compose import Job, compose
from smallnets.launch.group import group
from smallnets.launch.settings import Settings
from smallnets.launch.train import Outcome, Ready, prepare, put, rows, score, train
from smallnets.launch.usage import UsageError
from smallnets.measure.energy import Energy, measure
from smallnets.measure.footprint import spelled
from smallnets.measure.meter import find_meter
from smallnets.measure.shared_clock import SharedClock
from smallnets.records import Row


def launch(
    context: HydraContext,
    config: DictConfig,
    job_overrides: Sequence[Sequence[str]],
    first: int,
    settings: Settings,
) -> list[JobReturn]:
    """Train all jobs; give each its folder, its ``.hydra`` files and its row.

    Every job is composed, grouped, built and checked before the first is compiled. On a CPU
    several programs are under way at once: while one trains, the next compiles. A job's folder is
    made by Hydra's own ``run_job`` once its program is done, so what is there is finished.

    Raises UsageError for what the user can mend. On Ctrl-C what is finished stays.
    """
    folder = Path(config.hydra.sweep.dir)
    console = Console()
    with _progress(console) as progress:
        composing = progress.add_task("composing", total=len(job_overrides))
        jobs = compose(context, config, job_overrides, first)
        groups = group(progress.track(jobs, task_id=composing))
        if not groups:
            raise UsageError(
                "a sweep needs at least one run, but an empty list leaves none: fill it"
            )
        checking = progress.add_task("checking", total=len(groups))
        ready = [prepare(each) for each in progress.track(groups, task_id=checking)]
        with counted(Path(ready[0].run.cache).expanduser()) as compilations:
            returns, energies = _train_all(context, ready, settings, progress)
    configure_log(config.hydra.hydra_logging, config.hydra.verbose)
    console.print(
        f"{len(returns)} runs in {folder}: {compilations}; training took {spelled(energies)}"
    )
    return [returns[number] for number in sorted(returns)]


def _train_all(
    context: HydraContext, ready: list[Ready], settings: Settings, progress: Progress
) -> tuple[dict[int, JobReturn], list[Energy]]:
    """Train the groups on a few threads; write each group's rows here as soon as it is done.

    Returns what each job gave, by its number, and the energy of each group.
    """
    means = settings.here(programs=len(ready))
    commit = environment.commit()
    training = progress.add_task("training", total=sum(each.work for each in ready))
    returns: dict[int, JobReturn] = {}
    data = {id(each.data): each.data for each in ready}
    arrays = {key: put(each) for key, each in data.items()}
    clock = SharedClock()  # a meter sees all programs, so it is asked only where there is one
    meter = find_meter() if means.workers == 1 else None
    gauge = partial(measure, meter=meter, cpu_clock=clock)

    def work(each: Ready) -> Outcome:
        with clock.at_work():
            return train(each, arrays[id(each.data)], means, gauge)

    energies: list[Energy] = []
    pool = ThreadPoolExecutor(means.workers)
    waiting = {pool.submit(work, each): each for each in ready}
    try:
        while waiting:
            progress.refresh()
            done, _ = wait(waiting, timeout=0.5, return_when=FIRST_COMPLETED)
            for future in done:
                each, outcome = waiting.pop(future), future.result()
                energies.append(outcome.energy)
                written = rows(each, outcome, means.execution, commit)
                for job, row in zip(each.group.jobs, written, strict=True):
                    returns[job.number] = _finish(context, job, row)
                progress.advance(training, each.work)
                progress.console.print(_said(each, outcome), highlight=False)
    except BaseException:
        total = sum(len(each.group.jobs) for each in ready)
        progress.console.print(
            f"stopped: {len(returns)} of {total} runs are finished, and their rows stay"
        )
        raise
    finally:  # without waiting for programs under way, whose runs are lost in any case
        pool.shutdown(wait=False, cancel_futures=True)
    return returns, energies


def _finish(context: HydraContext, job: Job, row: Row) -> JobReturn:
    """The job's folder, Hydra's files and the row, by Hydra's own means."""

    def write(config: DictConfig) -> float:
        del config
        records.write(row, Path(job.config.hydra.runtime.output_dir))
        return score(row)

    returned = run_job(
        hydra_context=context,
        task_function=write,
        config=job.config,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )
    _ = returned.return_value  # raises what kept the row from being written
    return returned


def _said(ready: Ready, outcome: Outcome) -> str:
    runs = len(ready.group.jobs)
    return (
        f"{ready.family}, {ready.parameters:,} parameters: {runs} runs, compiled in "
        f"{outcome.compile_seconds:.1f} s, trained in {outcome.run_seconds:.1f} s"
    )


def _progress(console: Console) -> Progress:
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

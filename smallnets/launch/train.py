"""A group of jobs, checked and trained: configs in, rows out."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import jax
import numpy as np

from smallnets.budget import Sizes, counted
from smallnets.launch import environment
from smallnets.launch.build import build, check, load
from smallnets.launch.compose import Job
from smallnets.launch.group import Group
from smallnets.launch.label import labels
from smallnets.launch.resize import resize
from smallnets.launch.settings import Means
from smallnets.launch.usage import UsageError
from smallnets.measure.device import device_name
from smallnets.measure.energy import Energy
from smallnets.records import Row
from smallnets.tasks.data import Data
from smallnets.train.fit import Arrays
from smallnets.train.program import compile_together
from smallnets.train.run import Run, splits
from smallnets.varying import assign

Gauge = Callable[[Callable[[], Any]], tuple[Any, Energy]]  # work -> its result, its energy


@dataclass(frozen=True)
class Ready:
    """A group that has passed every check: what it takes to train it and to write its rows."""

    group: Group
    tree: partial[Run]
    run: Run
    data: Data
    sizes: Sizes
    costs: dict[str, float]
    family: str

    @property
    def parameters(self) -> int:
        return int(self.costs["params"])

    @property
    def work(self) -> float:
        """What training costs, for the progress bar: parameters x examples, over all members."""
        return len(self.group.jobs) * self.parameters * self.run.steps * self.run.batch_size


@dataclass(frozen=True)
class Outcome:
    """What training a group gave: ``results`` with a leading axis of members, times, energy."""

    results: dict[str, np.ndarray]
    chunk: int
    compile_seconds: float
    run_seconds: float
    energy: Energy


def prepare(group: Group) -> Ready:
    """Build and check without computing; raises UsageError for what the user can mend."""
    tree = build(group.jobs[0].resolved)
    run, data = load(tree)
    family = labels(group.jobs[:1])[0]
    overrides = group.jobs[0].config.hydra.overrides.task
    tree, sizes = resize(tree, data, family, overrides)
    run = tree()
    network = check(run, data, family)
    return Ready(group, tree, run, data, sizes, counted(network, run.batch(data)), family)


def score(row: Row) -> float:
    """What a sweeper may minimise: the validation error at the last step, never a test score."""
    return row.metrics.get("validation_error", math.nan)


def put(data: Data) -> dict[str, Arrays]:
    """The splits of the data, on the device."""
    return jax.device_put(splits(data))


def train(ready: Ready, arrays: dict[str, Arrays], means: Means, gauge: Gauge) -> Outcome:
    """Train the group's members as one program; ``arrays`` are its splits on the device.

    ``gauge(work)`` runs the compiled program and says what energy that took.
    Raises UsageError where not even one member fits into memory.
    """

    def member(values: dict[str, jax.Array], arrays: dict[str, Arrays]) -> dict[str, jax.Array]:
        tree = ready.tree
        for path, value in values.items():
            tree = assign(tree, path, value)
        return tree().fit(ready.data, arrays)[1]

    try:
        program = compile_together(
            member,
            ready.group.values,
            arrays,
            execution=means.execution,
            memory_limit=means.memory_limit,
        )
    except ValueError as error:
        raise UsageError(f"{ready.family}: {error}") from error
    started = time.perf_counter()
    results, energy = gauge(program.run)
    seconds = time.perf_counter() - started
    return Outcome(results, program.chunk, program.compile_seconds, seconds, energy)


def rows(ready: Ready, outcome: Outcome, execution: str, commit: str) -> Iterator[Row]:
    """The row of each member, in the order of the group's jobs."""
    stride = ready.run.steps // ready.run.evaluations
    steps = [float(stride * (index + 1)) for index in range(ready.run.evaluations)]
    families, place = labels(ready.group.jobs), device_name(jax.devices()[0])
    versions = environment.versions()
    energy = asdict(outcome.energy.times(1 / len(ready.group.jobs)))
    for index, job in enumerate(ready.group.jobs):
        curves = {name: array[index].tolist() for name, array in outcome.results.items()}
        curves |= _bits_per_byte(ready.data, curves)
        diverged = not all(map(math.isfinite, curves["train_loss"]))
        metrics = {name: curve[-1] for name, curve in curves.items()}
        yield Row(
            family=families[index],
            task=_task(job),
            seed=int(ready.group.values["seed"][index]),
            parameters=ready.parameters,
            costs=ready.costs,
            status="diverged" if diverged else "finished",
            metrics={**metrics, **_best(curves, steps)},
            curves={"step": steps, **curves},
            seconds=outcome.run_seconds / len(ready.group.jobs),
            energy=energy,
            compile_seconds=outcome.compile_seconds,
            execution=execution,
            members=outcome.chunk,
            device=place,
            commit=commit,
            versions=versions,
            config={**job.resolved, "model": {**job.resolved["model"], **ready.sizes}},
        )


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


def _task(job: Job) -> str:
    """The chosen task, and what else of it was set on the command line."""
    hydra = job.config.hydra
    changed = sorted(
        override.lstrip("+~")
        for override in hydra.overrides.task
        if override.lstrip("+~").startswith("task.")
        and not override.lstrip("+~").startswith("task.cache=")
    )
    return " ".join([hydra.runtime.choices.task, *changed])

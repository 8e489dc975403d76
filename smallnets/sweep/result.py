"""What a trained program gave, and the row and the model of each of its runs."""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.table import Table

from smallnets import NUMERICS
from smallnets.measure import machine
from smallnets.measure.energy import Energy
from smallnets.measure.latency import latencies
from smallnets.models import Model, kept
from smallnets.nn.mixture import has_capacity
from smallnets.rows import Row
from smallnets.sweep.jobs import Job
from smallnets.sweep.plan import Program, resized
from smallnets.tasks.data import Data


@dataclass(frozen=True)
class Result:
    """What training runs together gave; models and curves have a leading axis of runs.

    ``seconds`` and ``energy`` are of all of them, ``members`` and ``compile_seconds`` of the
    program that they were trained by.
    """

    models: Any
    curves: dict[str, np.ndarray]
    members: int
    compile_seconds: float
    seconds: float
    energy: Energy


class Origin(NamedTuple):
    """What the rows of one process have in common."""

    commit: str
    device: str
    versions: dict[str, str]


def origin() -> Origin:
    versions = machine.versions() | {"numerics": str(NUMERICS)}
    return Origin(machine.commit(), machine.device_name(jax.devices()[0]), versions)


def failed_row(job: Job, key: str, error: str, here: Origin, program: Program | None = None) -> Row:
    """The row of a job that raised, before or while ``program`` trained it."""
    choices = job.choices
    return Row(
        family=program.label if program else f"{choices.get('model')} {choices.get('family')}",
        task=program.task if program else str(choices.get("task")),
        seed=job.resolved["seed"],
        parameters=program.parameters if program else 0,
        costs=program.costs if program else {},
        status="failed",
        metrics={},
        curves={},
        seconds=0.0,
        compile_seconds=0.0,
        execution="none",
        members=0,
        **here._asdict(),
        config=job.resolved,
        key=key,
        parent=job.parent.key if job.parent else "",
        error=error,
    )


def failures(failed: list[Row]) -> Table:
    """What failed and why, a line for each error of a network."""
    counts = Counter((row.family, row.parameters, row.error) for row in failed)
    table = Table("runs", "of", "parameters", "why", title="failed", title_justify="left")
    for (family, parameters, error), count in counts.items():
        table.add_row(str(count), family, f"{parameters:,}" if parameters else "", error)
    return table


def runs_of(
    program: Program, result: Result, execution: str, here: Origin
) -> Iterator[tuple[Job, Row, Model | None]]:
    """Each job of a program with its row and the model that is to be kept."""
    trainer, jobs, data = program.trainer, program.group.jobs, program.data
    stride = trainer.steps // trainer.evaluations
    steps = [float(stride * (index + 1)) for index in range(trainer.evaluations)]
    energy = asdict(result.energy.times(1 / len(jobs)))
    for index, job in enumerate(jobs):
        curves = {name: array[index].tolist() for name, array in result.curves.items()}
        curves |= _bits_per_byte(data, curves)
        # The last update is in no training loss. A metric alone may be no number in a sound run: an
        # AUC where a split has one class.
        ends = [curve[-1] for name, curve in curves.items() if name.endswith("_loss")]
        diverged = not all(map(math.isfinite, [*curves.get("train_loss", ()), *ends]))
        metrics = {name: curve[-1] for name, curve in curves.items()}
        row = Row(
            family=program.families[index],
            task=program.task,
            seed=int(program.group.values["seed"][index]),
            parameters=program.parameters,
            costs=program.costs,
            status="diverged" if diverged else "finished",
            metrics={**metrics, **best_metrics(curves, steps, trainer.patience)},
            curves={"step": steps, **curves},
            seconds=result.seconds / len(jobs),
            energy=energy,
            compile_seconds=result.compile_seconds,
            execution=execution,
            members=result.members,
            **here._asdict(),
            config=resized(job.resolved, program.sizes),
            key=program.keys[index],
            parent=job.parent.key if job.parent else "",
            route=job.route or (job.parent.route if job.parent else ""),
            teacher=job.teacher.key if job.teacher else "",
            saved=trainer.save,
            perfect={each.name: each.perfect for each in data.scores if each.perfect},
            dropless=has_capacity(program.network),
        )
        if trainer.save == "none":
            yield job, row, None
            continue
        network = jax.tree.map(lambda leaf, index=index: leaf[index], result.models)
        yield job, row, kept(network, data)


def with_teaching(portion: Program, outcome: Result) -> Result:
    """The outcome with its runs' share of the energy of what a teacher was asked beforehand."""
    if not portion.taught or not portion.taught.energy:
        return outcome
    asked = portion.taught.energy.times(len(portion.group.jobs))
    return replace(outcome, energy=outcome.energy.plus(asked))


def timed(portion: Program, outcome: Result) -> Program:
    """The portion of a chain with the milliseconds of its model and of its parent's.

    They are taken in turns, of one example; other programs may be at work beside them.
    """
    if not portion.group.jobs[0].route:
        return portion
    after, before = (
        jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), tree)
        for tree in (outcome.models, portion.start)
    )
    data = portion.data
    example = jnp.asarray(data.train.inputs[:1])
    example = data.preparation(example) if data.raw else example
    forms = {"parent_latency_ms": before, "latency_ms": after}
    times = latencies(forms, example, batch_sizes=(1,))
    found = {each.form: 1e3 * each.median_seconds for each in times}
    return replace(portion, costs={**portion.costs, **found})


def waves(programs: list[Program]) -> Iterator[list[Program]]:
    """Programs of one stage of their chains together: the next stage starts from their models."""
    for stage in sorted({each.group.jobs[0].stage for each in programs}):
        yield [each for each in programs if each.group.jobs[0].stage == stage]


def score(row: Row) -> float:
    """What a sweeper may minimise: the validation error at the last step, never a test score.

    Where there is no error it is the loss; of a run that diverged, infinite, so that a search goes
    on from it.
    """
    loss = row.metrics.get("validation_loss", math.nan)
    found = row.metrics.get("validation_error", loss)
    return math.inf if math.isnan(found) else found


def _bits_per_byte(data: Data, curves: dict[str, list[float]]) -> dict[str, list[float]]:
    """The loss of each held-out split of text in bits per byte, as ``<split>_bits_per_byte``."""
    return {
        f"{name}_bits_per_byte": [split.bits_per_byte(nats) for nats in curves[f"{name}_loss"]]
        for name, split in (("validation", data.validation), ("test", data.test))
        if split.bytes and len(split)
    }


def best_metrics(
    curves: dict[str, list[float]], steps: list[float], patience: int | None
) -> dict[str, float]:
    """The metrics at the lowest validation loss, as ``best_...``; none without validation.

    With ``patience`` what came after so many evaluations without a lower one does not count: it is
    the model that :class:`smallnets.training.fit.Fit` keeps.
    """
    if "validation_loss" not in curves:
        return {}
    finite = [value if math.isfinite(value) else math.inf for value in curves["validation_loss"]]
    index = 0
    for place, value in enumerate(finite):
        if patience is not None and place - index > patience:
            break
        if value < finite[index]:
            index = place
    found = {f"best_{name}": curve[index] for name, curve in curves.items()}
    return {"best_step": steps[index], **found}

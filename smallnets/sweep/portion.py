"""A program's runs, trained a portion at a time: cut to be heard of, kept, or stopped.

A portion is what the compiled program trains at once: one run under ``map``, as many as fit into
memory under ``vmap``. It is trained from cut to cut, about a second each; at a cut it is heard of,
and now and then a checkpoint is written, from which a later sweep goes on.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax

from smallnets.measure.energy import Energy
from smallnets.sweep import StoppedError
from smallnets.sweep.checkpoint import Checkpoints
from smallnets.sweep.hosts import agreed, check_same, gathered
from smallnets.sweep.plan import Program
from smallnets.sweep.result import Result
from smallnets.training.batch import Compiled, Cut, Execution, Stages, compile_runs
from smallnets.training.fit import Arrays
from smallnets.training.mesh import Layout, Mesh, placed
from smallnets.training.stream import stretches
from smallnets.training.trainer import splits

SECONDS_BETWEEN_CUTS = 1.0
LEAST_SECONDS, LARGEST_SHARE = 60.0, 0.02  # of checkpoints, where no interval is set


@dataclass(frozen=True, kw_only=True)
class Desk:
    """Whom a program under way tells what, and asks.

    ``publish(portion, outcome)`` takes what came of some of its runs, a :class:`Result` or the
    exception; ``heard(runs)`` how much is done, in runs, with the cut and its portion; ``say`` a
    line for people. ``stopping()`` is whether to write a checkpoint and stop; ``checkpoints`` are
    those of a portion, and ``interval`` the seconds between two, or None for what costs at most a
    fiftieth of the time.
    """

    execution: Execution
    memory_limit: int
    interval: float | None
    publish: Callable[[Program, Result | Exception], None]
    heard: Callable[[float, Program, Cut], None]
    say: Callable[[str], None]
    stopping: Callable[[], bool]
    checkpoints: Callable[[Program], Checkpoints]
    measure: Callable[[Callable[[], Any]], tuple[Any, Energy]]


class Took(NamedTuple):
    """The seconds that a program took."""

    compiling: float
    training: float


class _ProgramError(Exception):
    """A compiled program raised; the cause says what."""


@dataclass
class Pace:
    """How long an evaluation takes, as far as is known, and so how many make a cut."""

    between: float
    seconds: float = float("inf")

    def last(self, done: int, evaluations: int) -> int:
        return min(evaluations, done + max(1, int(self.between / self.seconds)))


def train_program(program: Program, arrays: dict[str, Arrays], desk: Desk) -> Took:
    """Train a program's runs, publish what comes of each, and say what it took.

    ``arrays`` are its splits on the device. What raises fails the runs of its portion alone, one
    that is out of memory once it was tried with half as many runs, down to one. Raises StoppedError
    where it was asked to stop, once a checkpoint is written.
    """
    count, at_most, done, shared = len(program.group.jobs), None, 0, program.shared(arrays)
    compiling = training = 0.0
    pace = Pace(min(SECONDS_BETWEEN_CUTS, desk.interval or SECONDS_BETWEEN_CUTS))
    while done < count:
        if desk.stopping():
            raise StoppedError
        rest = program.only(list(range(done, count)))
        try:
            compiled = _compiled(rest, shared, desk, at_most)
        except Exception as error:
            at_most = _half(error, at_most or len(rest.group.jobs), program, desk)
            if not at_most:
                desk.publish(rest, error)
                break
            continue
        compiling += compiled.compile_seconds
        while done < count:
            if desk.stopping():
                raise StoppedError
            portion = program.only(list(range(done, min(done + compiled.chunk, count))))
            try:
                outcome = _trained(portion, shared, compiled, desk, pace, done, count)
                training += outcome.seconds
            except _ProgramError as raised:
                outcome = raised.__cause__
                assert isinstance(outcome, Exception)
                at_most = _half(outcome, compiled.chunk, program, desk)
                if at_most:
                    break
            desk.publish(portion, outcome)
            done += len(portion.group.jobs)
    return Took(compiling, training)


def _half(error: BaseException, chunk: int, program: Program, desk: Desk) -> int:
    """Half of the runs that ran out of memory, said in a line; 0 for one run, or another error."""
    if "RESOURCE_EXHAUSTED" not in str(error) or chunk == 1:
        return 0
    desk.say(
        f"{named(program)}: out of memory with {chunk} runs at once, so {chunk // 2} are tried"
    )
    return chunk // 2


def named(program: Program) -> str:
    """The program's label, width and parameters."""
    width = program.sizes.get("width", program.group.jobs[0].resolved["model"].get("width"))
    of = f"width {width}, " if width is not None else ""
    return f"{program.label}, {of}{program.parameters:,} parameters"


def _compiled(program: Program, shared: Any, desk: Desk, at_most: int | None) -> Compiled:
    keep = program.trainer.save != "none"

    def stages(inputs: Any, shared: Any, spread: Any = None) -> Stages:
        found = program.stages(inputs, shared, spread)
        return found if keep else found._replace(finish=lambda state: None)

    return compile_runs(
        stages,
        program.inputs,
        shared,
        evaluations=program.trainer.evaluations,
        execution=desk.execution,
        memory_limit=desk.memory_limit,
        at_most=at_most,
        layout=layout_of(program),
    )


def layout_of(program: Program) -> Layout | None:
    """Where the arrays of a program lie; of a pass, which trains nothing, on one device."""
    if program.trainer.compress:
        return None
    return program.trainer.mesh().layout(program.network)


def where(program: Program) -> tuple[int, Mesh]:
    """What programs share whose data are the same arrays on the same devices."""
    return id(program.data), program.trainer.mesh()


def on_device(program: Program) -> dict[str, Arrays]:
    """The splits of a program's data, on each of its devices."""
    layout, arrays = layout_of(program), splits(program.data)
    return jax.device_put(arrays) if layout is None else placed(arrays, layout.everywhere(arrays))


def _trained(
    portion: Program,
    shared: Any,
    compiled: Compiled,
    desk: Desk,
    pace: Pace,
    before: int,
    count: int,
) -> Result:
    """Train a portion of ``count`` runs, ``before`` of which are done.

    It goes on from its newest sound checkpoint, if there is one.

    Raises _ProgramError for what the program raises, and StoppedError.
    """
    started, runs = time.perf_counter(), len(portion.group.jobs)
    evaluations, checkpoints = portion.trainer.evaluations, desk.checkpoints(portion)
    cut, spent = None, 0.0
    found = checkpoints.newest(compiled.blank)
    check_same(found[0] if found else 0, "checkpoints")
    if found is not None:
        done, carry, spent = found
        cut = Cut(done, carry, None)

    read = stretches(
        portion.trainer, portion.data, portion.group.values["seed"], cut.done if cut else 0
    )

    def train() -> Cut:
        nonlocal cut
        saved, cost = time.perf_counter(), 0.0
        while cut is None or cut.done < evaluations:
            begun, done = time.perf_counter(), cut.done if cut else 0
            try:
                batches = next(read)
                last = agreed(pace.last(done, evaluations)) if batches is None else done + 1
                inputs = (*portion.inputs[:-1], batches)
                cut = compiled.advance(inputs, shared, cut, last)
            except Exception as error:
                raise _ProgramError from error
            now = time.perf_counter()
            pace.seconds = max((now - begun) / (cut.done - done), 1e-9)
            desk.heard(before + runs * cut.done / evaluations, portion, cut)
            if cut.done == evaluations:
                break
            stopping = desk.stopping()
            due = desk.interval
            if due is None:
                due = max(LEAST_SECONDS, cost / LARGEST_SHARE)
            if stopping or agreed(now - saved >= due):
                checkpoints.save(cut.done, cut.carry, spent + now - started)
                saved = time.perf_counter()
                cost = saved - now
            if stopping:
                raise StoppedError
        return cut

    cut, energy = desk.measure(train)
    if found is not None:
        energy = replace(energy, covers=f"{energy.covers}, since a checkpoint")
    seconds = spent + time.perf_counter() - started
    members = count if desk.execution == "map" else compiled.chunk
    model, curves = jax.tree.map(lambda leaf: leaf[:runs], gathered((cut.model, cut.curves)))
    return Result(model, curves, members, compiled.compile_seconds, seconds, energy)

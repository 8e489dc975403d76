"""The teachers of distilled runs: what they must agree on, and what they answer once for all."""

import functools
import hashlib
import importlib
import inspect
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from smallnets.allowed import locate
from smallnets.distil import Logits
from smallnets.measure import flops
from smallnets.measure.energy import Energy, measure
from smallnets.measure.meter import find_meter
from smallnets.sweep.parent import Parent
from smallnets.tasks.data import Data
from smallnets.traced import declared
from smallnets.training.trainer import Trainer

BATCH = 256  # examples that a teacher is asked about at once
LOOKED_AT = 1024  # examples by which a teacher that is asked in steps is judged


class Taught(NamedTuple):
    """What the runs of a program learn from.

    ``index`` says which of the teachers is each run's. ``answers`` are what these said of the train
    split, arrays ``[teachers, examples, ...]``, and ``energy`` what one run's share of that took;
    both are None where teachers are asked in each step, and then ``networks`` are they, on a
    leading axis, or a function. No teacher is held once for each run.
    """

    index: np.ndarray
    networks: Any
    answers: Any
    energy: Energy | None

    @property
    def shared(self) -> tuple[Any, Any]:
        """What a compiled program is given of it, and all its runs see."""
        return self.networks, self.answers


def lesson(shared: tuple[Any, Any], index: Any) -> tuple[Any, Any]:
    """The teacher and the answers of the run with this index, one of which is None."""
    return jax.tree.map(lambda leaf: leaf[0 if len(leaf) == 1 else index], shared)


@jax.tree_util.register_static
class Function:
    """A user's function as a teacher: of prepared inputs[n, ...] to logits, of JAX or of NumPy."""

    def __init__(self, function: Callable[..., Any]):
        self.function = function

    def __call__(self, inputs: jax.Array) -> jax.Array:
        try:
            return jnp.asarray(self.function(inputs))
        except Exception:  # what is no code of JAX raises as it likes
            zeros = np.zeros(inputs.shape, inputs.dtype)
            shape = np.shape(self.function(zeros))  # and here too, if it is its own fault
        said = jax.ShapeDtypeStruct(shape, jnp.float32)
        return jax.pure_callback(self._on_host, said, inputs, vmap_method="sequential")

    def _on_host(self, inputs: jax.Array) -> np.ndarray:
        return np.asarray(self.function(np.asarray(inputs)), np.float32)


def is_name(teacher: str) -> bool:
    """Whether a teacher's name is that of a function, and of no folder."""
    return bool(re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)+", teacher)) and not Path(teacher).exists()


def function_teacher(call: Mapping[str, Any], allow: Sequence[str]) -> Parent:
    """The function of a ``_target_`` as a teacher; its key holds the source of its module.

    Raises ValueError where it is not allowed, or not there.
    """
    name = call["_target_"]
    fix = f"allow=[{','.join((*allow, '{}'))}]"
    function = locate(name, tuple(allow), said_by="distil.teacher", fix=fix)
    given = {key: value for key, value in call.items() if key not in ("_target_", "_partial_")}
    source = ""
    with suppress(OSError, TypeError):
        source = inspect.getsource(importlib.import_module(function.__module__))
    digest = hashlib.sha256(f"{name} {given} {source}".encode()).hexdigest()[:16]
    return Parent(
        run=f"{name}-{digest}",
        saved="function",
        family="",
        model=None,
        network=Function(partial(function, **given) if given else function),
        shape=f"{name} {given}",
        folder="",
    )


def described(inputs: Any, classes: Sequence[str]) -> str:
    """What a model reads and answers, in words that are equal where they are."""
    if inputs is None:
        return ""
    arrays = hashlib.sha256()
    for leaf in jax.tree.leaves(inputs):
        arrays.update(np.asarray(leaf).tobytes())
    return f"{inputs.dtype} {inputs.tokenizer} {arrays.hexdigest()} {list(classes)}"


def check_teacher(trainer: Trainer, data: Data, teacher: Parent) -> None:
    """Raise ValueError where a teacher reads or answers otherwise than its students."""
    if trainer.augmentation and trainer.distil and trainer.distil().kept == "always":
        raise ValueError(
            "what a teacher writes is kept with the examples as they are, but an augmentation "
            "changes them: leave one of both out"
        )
    if teacher.inputs is not None:
        _check_reads(data, teacher)
    batch, labels = trainer.batch(data), trainer.batch_labels(data)
    expected = (*labels.shape[: 1 + (data.kind == "classes")], data.outputs)
    found = jax.eval_shape(lambda network, inputs: network(inputs), teacher.network, batch)
    if found.shape != expected or found.dtype != jnp.float32:
        raise ValueError(
            f"a teacher must answer as the task asks, float32 {expected}, but gives {found.dtype} "
            f"{found.shape}: name a run of the same task"
        )


def _check_reads(data: Data, teacher: Parent) -> None:
    theirs, mine = teacher.inputs, data.preparation
    if theirs.tokenizer != mine.tokenizer:
        raise ValueError(
            f"a teacher must read the tokens of its student, but reads {_tokens(theirs.tokenizer)} "
            f"and the task gives {_tokens(mine.tokenizer)}: name a run of the same task"
        )
    if teacher.classes != data.names:
        raise ValueError(
            f"a teacher must know the task's classes, but knows {list(teacher.classes)} and the "
            f"task has {list(data.names)}: name a run of the same task"
        )
    if described(theirs, ()) != described(mine, ()):
        raise ValueError(
            "a teacher must read inputs that are prepared as its student's, but its own mean and "
            "scale are others: name a run of the same task and train split"
        )


def _tokens(tokenizer: str | None) -> str:
    if tokenizer is None or len(tokenizer) < 12:
        return tokenizer or "arrays"
    return f"a vocabulary of its own ({hashlib.sha256(tokenizer.encode()).hexdigest()[:6]})"


def teaching(programs: Sequence[Any], limit: int) -> list[Any]:
    """A plan's programs with what their runs learn from.

    What several programs ask of one teacher about the same examples is answered once, where that is
    no more work than to ask in their steps, and as long as all answers fit into the share of
    ``limit`` bytes that ``distil.memory`` names. Raises ValueError where they don't and can't be
    asked for in a step.
    """
    asking: dict[Any, list[int]] = {}
    for place, program in enumerate(programs):
        if program.group.jobs[0].teacher is not None and program.taught is None:
            asking.setdefault(_same(program), []).append(place)
    found, taken = [*programs], 0
    for places in asking.values():
        asked = [programs[place] for place in places]
        teachers = {job.teacher.key: job.teacher for each in asked for job in each.group.jobs}
        question = Question(asked[0], list(teachers.values()))
        kept, room = question.distil.kept, int(question.distil.memory * limit)
        in_steps = sum(len(each.group.jobs) * _seen(each.trainer) for each in asked)
        fits = taken + question.bytes <= room
        if kept == "always" and not fits:
            raise ValueError(
                f"{asked[0].label}: what a teacher writes is kept, but would take "
                f"{question.bytes:,} bytes of {room:,}: raise distil.memory"
            )
        less = len(question.data.train) * question.count <= in_steps
        may = kept == "where it fits" and less and not asked[0].trainer.augmentation
        networks, answers, energy = jax.device_put(question.networks), None, None
        runs = sum(len(each.group.jobs) for each in asked)
        if fits and (may or kept == "always"):
            taken += question.bytes
            _ = question.call
            answers, whole = measure(question.answers, meter=find_meter())
            networks, energy = None, whole.times(1 / runs)
        _warn(asked, question, answers)
        order = list(teachers)
        for place, program in zip(places, asked, strict=True):
            index = np.asarray([order.index(job.teacher.key) for job in program.group.jobs])
            taught = Taught(index.astype(np.int32), networks, answers, energy)
            asked_of = len(program.data.train) * len(order) / runs
            if answers is None:
                asked_of = _seen(program.trainer)
            costs = {**program.costs, **question.flops(asked_of)}
            found[place] = replace(program, taught=taught, costs=costs)
    return found


def _seen(trainer: Trainer) -> int:
    """Examples that a run sees, those of every epoch."""
    return trainer.steps * trainer.batch_size


def _same(program: Any) -> Any:
    """What programs have in common that ask the same of a teacher."""
    call, teacher = program.tree.keywords["distil"], program.group.jobs[0].teacher
    numbers = {*dict(declared(call)), "teacher"}
    said = {name: repr(value) for name, value in call.keywords.items() if name not in numbers}
    teachers = sorted({job.teacher.key for job in program.group.jobs})
    return id(program.data), call.func, tuple(sorted(said.items())), teacher.shape, tuple(teachers)


class Question:
    """What a program's distillation asks of some teachers of one shape about the train split."""

    def __init__(self, program: Any, teachers: list[Parent]):
        self.distil = program.trainer.distil()
        self.data, self.batch = program.data, program.trainer.batch(program.data)
        networks = [each.network for each in teachers]
        self.count = len(networks)
        self.networks = jax.tree.map(lambda *leaves: np.stack(leaves), *networks)

    def _asked(self, networks: Any, inputs: Any) -> Any:
        """Of all teachers about prepared inputs, [teachers, n, ...]."""
        if self.count == 1:
            found = self.distil.asked(_first(networks), inputs)
            return jax.tree.map(lambda leaf: leaf[None], found)
        return jax.lax.map(lambda network: self.distil.asked(network, inputs), networks)

    @property
    def bytes(self) -> int:
        """Of the answers about all examples."""
        found = jax.eval_shape(self._asked, self.networks, self.batch)
        one = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(found))
        return one * len(self.data.train) // self.batch.shape[0]

    @functools.cached_property
    def call(self) -> Callable[..., Any]:
        """``(networks, inputs) -> answers`` about as many raw inputs as are asked about at once.

        It is compiled here, so that what measures the asking sees none of it.
        """
        inputs, prepare = self.data.train.inputs[:BATCH], self.data.preparation

        def call(networks: Any, inputs: Any) -> Any:
            return self._asked(networks, prepare(inputs) if self.data.raw else inputs)

        # A function may be no code of JAX, which is called as it is.
        if isinstance(self.networks, Function):
            return call
        return jax.jit(call).lower(self.networks, jnp.asarray(inputs)).compile()

    def answers(self, first: int | None = None) -> Any:
        """About all train examples, or the first ones, on the device; asked a batch at a time."""
        inputs = self.data.train.inputs[:first]
        size = min(BATCH, len(inputs))
        found: Any = None
        for start in range(0, len(inputs), size):
            rows = slice(min(start, len(inputs) - size), min(start + size, len(inputs)))
            part = jax.device_get(self.call(self.networks, jnp.asarray(inputs[rows])))
            if found is None:
                found = jax.tree.map(
                    lambda leaf: np.zeros((self.count, len(inputs), *leaf.shape[2:]), leaf.dtype),
                    part,
                )
            for whole, new in zip(jax.tree.leaves(found), jax.tree.leaves(part), strict=True):
                whole[:, rows] = new
        return jax.device_put(found)

    def flops(self, examples: float) -> dict[str, float]:
        """``teacher_flops`` of asking one teacher about so many; {} where they have no rule."""
        try:
            one = flops.count(self.distil.asked, _first(self.networks), self.batch)
        except ValueError:
            return {}
        return {"teacher_flops": one.per(self.batch.shape[0]).products * examples}


def _first(networks: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf[0], networks)


def _warn(programs: Sequence[Any], question: Question, answers: Any) -> None:
    """Say it where distilling can't teach: by a teacher that is never wrong, at temperature 1.

    Where answers are not kept the first examples are asked about.
    """
    for program in programs:
        distil, labels = program.trainer.distil(), program.data.train.labels
        if type(distil) is not Logits or program.data.kind != "classes":
            continue
        if not np.any(program.group.values.get("distil.temperature", distil.temperature) == 1):
            continue
        answers = question.answers(LOOKED_AT) if answers is None else answers
        found = np.asarray(answers).argmax(axis=-1)
        labels = labels[: found.shape[1]]
        if not all(((each != labels) & (labels >= 0)).any() for each in found):
            print(
                f"smallnets: warning: {program.label}: a teacher that makes no error on the train "
                "split says at distil.temperature=1 hardly more than its labels: raise it, 4 is "
                "usual",
                file=sys.stderr,
            )

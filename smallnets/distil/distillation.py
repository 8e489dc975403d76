"""What all ways to learn from a teacher have in common, and the plainest: to learn its answers."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp

from smallnets.traced import Traced, TracedFraction
from smallnets.training.fit import Arrays, Step
from smallnets.training.objective import Objective

# axes: n examples of a batch, T positions


@dataclass(frozen=True, kw_only=True)
class Distillation:
    """A way to learn from a teacher:

        share distance(student, teacher) + (1 - share) objective(student, labels)

    ``teacher`` names a run, or a folder of runs by seed, or is a function that answers a batch of
    prepared inputs with logits; a list of runs, or of folders of them, teaches as one ensemble; and
    ``parent`` is the run that ``start`` names. What is asked of it about the train split is
    answered once and kept where that takes at most ``memory``, a share of the device's, and is no
    more work than to answer in each step, as is done elsewhere: the same numbers, to rounding.

    Raises ValueError for a ``memory`` outside [0, 1].
    """

    teacher: str | list[str] | Callable[..., Any]
    memory: float = 0.1
    share: TracedFraction = 0.9

    # Whether answers may be kept; "always" where a step can't ask, "never" where what is asked
    # about is made in a step.
    kept: ClassVar[Literal["where it fits", "always", "never"]] = "where it fits"

    def __post_init__(self):
        if not 0 <= self.memory <= 1:
            raise ValueError(
                f"distil.memory must lie in [0, 1], but is {self.memory}: it is the share of the "
                "memory that a teacher's answers may take, 0 asks it in each step"
            )

    def asked(self, teacher: Any, inputs: jax.Array) -> Any:
        """What is asked of a teacher about inputs[n, ...]: arrays [n, ...]."""
        return teacher(inputs)

    def student(self, network: Any, *, inputs: Any, taught: Any, rngs: Any) -> Any:
        """The network, or with it what has to be trained beside it to compare it to ``taught``.

        ``inputs`` and ``taught`` are shapes of a batch and of what a teacher says about it, as many
        or more examples.
        """
        del inputs, taught, rngs
        return network

    def seen(self, student: Any, inputs: jax.Array) -> tuple[jax.Array, Any]:
        """The student's logits, and what of it is compared; of one forward pass."""
        logits = student(inputs)
        return logits, logits

    def distance(self, own: Any, taught: Any, batch: Arrays) -> jax.Array:
        """What the student differs from the teacher by: one number."""
        raise NotImplementedError

    def __call__(self, step: Step, objective: Objective) -> jax.Array:
        """What a step of training minimises."""
        batch = self.taught(step)
        logits, own = step.see(self.seen)(batch.inputs)
        distance = self.distance(own, batch.more["teacher"], batch)

        def known(inputs: jax.Array) -> jax.Array:  # what the objective asks was just computed
            return logits if inputs is batch.inputs else step.see(called)(inputs)

        return self.share * distance + (1 - self.share) * objective(known, batch, step.key)

    def taught(self, step: Step) -> Arrays:
        """The batch with what the teacher says about it, kept or asked now."""
        if "teacher" in step.batch.more:
            return step.batch
        return self.told(step.teacher, step.batch)

    def told(self, teacher: Any, batch: Arrays) -> Arrays:
        """The batch with what the teacher says about it now."""
        found = jax.lax.stop_gradient(self.asked(teacher, batch.inputs))
        return replace(batch, more={**batch.more, "teacher": found})


def called(student: Any, inputs: jax.Array) -> jax.Array:
    return student(inputs)


@dataclass(frozen=True, kw_only=True)
class Logits(Distillation):
    """The student's answers are drawn to the teacher's, both softened by a temperature T:

        distance = T^2 KL(softmax(t / T) || softmax(y / T))

    for the student's logits y and the teacher's t, as a mean over the labels that are not -1. A
    teacher that makes no error on what it teaches says at T = 1 little more than the labels do.

    Source: Hinton, Vinyals & Dean 2015, arXiv:1503.02531, section 2. Raises ValueError where labels
    are no classes.
    """

    temperature: Traced = 4.0

    def distance(self, own: Any, taught: Any, batch: Arrays) -> jax.Array:
        if batch.labels.dtype != jnp.int32 or batch.labels.ndim == own.ndim:
            raise ValueError(
                "distil=logits is for one class an example, whose probabilities a teacher gives, "
                "but the task asks otherwise: choose distil=features or distil=relations"
            )
        each = divergence(taught / self.temperature, own / self.temperature)
        return self.temperature**2 * jnp.mean(each, where=batch.labels >= 0)


def divergence(of: jax.Array, by: jax.Array) -> jax.Array:
    """KL(softmax(of) || softmax(by)) over the last axis; what is -inf in both adds nothing."""
    target, own = jax.nn.log_softmax(of), jax.nn.log_softmax(by)
    given = jnp.isfinite(target)
    difference = jnp.where(given, target - own, 0)
    return jnp.sum(jnp.exp(target) * difference, axis=-1)

"""What a decoder learns from text that is written for it, by its teacher or by itself."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp

from smallnets.decoding import continued
from smallnets.distil.distillation import Distillation, Logits
from smallnets.traced import Traced
from smallnets.training.fit import Arrays, Step
from smallnets.training.objective import Objective

# axes: n examples of a batch, T positions


@dataclass(frozen=True, kw_only=True)
class Sequences(Distillation):
    """The student is trained on what its teacher writes, by the objective alone.

    Of each example's window the first ``prompt`` tokens stand, and the teacher writes the rest,
    once: its likeliest tokens, or drawn at a ``temperature`` above 0. Each example of a batch is
    one that the teacher wrote with probability ``share``, else the text itself; what was not
    written is in no label there.

    Source: sequence-level distillation, Kim & Rush 2016, arXiv:1606.07947, section 3.2, there by
    beam search, of translations. Raises ValueError for a network that is no decoder of tokens, and
    for a prompt that leaves nothing to write.
    """

    temperature: float = 1.0
    prompt: int = 16

    kept: ClassVar[Literal["where it fits", "always", "never"]] = "always"

    def __post_init__(self):
        super().__post_init__()
        if not 0 <= self.temperature < float("inf"):
            raise ValueError(
                f"distil.temperature must be 0 or above, but is {self.temperature}: 0 writes the "
                "likeliest tokens, 1 draws as the teacher says"
            )

    def asked(self, teacher: Any, inputs: jax.Array) -> jax.Array:
        """Inputs and, one further on, labels: tokens[n, T + 1]."""
        # One key would give all batches the same draws.
        key = jax.random.fold_in(jax.random.key(0), inputs.sum().astype(jnp.uint32))
        temperature = self.temperature or None
        return written(teacher, inputs, self.prompt, temperature=temperature, key=key)

    def __call__(self, step: Step, objective: Objective) -> jax.Array:
        key, draw = jax.random.split(step.key)
        batch = self.taught(step)
        drawn = jax.random.bernoulli(draw, self.share, (len(batch.labels), 1))
        batch = chosen(drawn, batch.more["teacher"], batch, self.prompt)
        return objective(step.see(), batch, key)


@dataclass(frozen=True, kw_only=True)
class OnPolicy(Logits):
    """As :class:`Logits`, and in one step of ``every`` on what the student writes itself.

    In that step each example keeps its first ``prompt`` tokens, the student draws the rest, and on
    that the teacher's distribution is all that is learned, without labels. The teacher is asked in
    each step, since nobody knows before what will be written.

    Source: Agarwal et al. 2023 (GKD), arXiv:2306.13649, algorithm 1, with the forward divergence,
    and steps in turn where they are drawn there. Raises ValueError as :class:`Sequences`, and
    unless ``every`` is 1 or more.
    """

    temperature: Traced = 1.0
    prompt: int = 16
    every: int = 4

    kept: ClassVar[Literal["where it fits", "always", "never"]] = "never"

    def __post_init__(self):
        super().__post_init__()
        if self.every < 1:
            raise ValueError(
                f"distil.every must be at least 1, but is {self.every}: the student writes in one "
                "step of so many"
            )

    def __call__(self, step: Step, objective: Objective) -> jax.Array:
        key, draw = jax.random.split(step.key)
        batch, prompt = step.batch, self.prompt

        def write() -> Arrays:
            network = jax.lax.stop_gradient(step.answering)
            tokens = written(network, batch.inputs, prompt, temperature=jnp.ones(()), key=draw)
            return chosen(jnp.ones((len(tokens), 1), bool), tokens, batch, prompt)

        writes = step.index % self.every == self.every - 1
        batch = jax.lax.cond(writes, write, lambda: batch)
        batch = self.told(step.teacher, batch)
        logits = step.see()(batch.inputs)
        distance = self.distance(logits, batch.more["teacher"], batch)
        hard = objective(lambda inputs: logits, batch, key)
        return self.share * distance + jnp.where(writes, 0, 1 - self.share) * hard


def written(
    network: Any, inputs: jax.Array, prompt: int, *, temperature: Any, key: jax.Array
) -> jax.Array:
    """The first ``prompt`` tokens of inputs[n, T], and what a network writes behind: [n, T + 1]."""
    if inputs.ndim != 2 or inputs.dtype != jnp.int32:
        raise ValueError(
            f"what is written is tokens [n, T], but inputs are {inputs.dtype} "
            f"{list(inputs.shape)}: choose a task of text, or distil=logits"
        )
    length = inputs.shape[1]
    if not 1 <= prompt < length:
        raise ValueError(
            f"distil.prompt must lie in 1 .. {length - 1}, so that something is left to write of "
            f"{length} tokens, but is {prompt}: choose another"
        )
    return continued(
        network, inputs[:, :prompt], length + 1 - prompt, temperature=temperature, key=key
    )


def chosen(drawn: jax.Array, tokens: jax.Array, batch: Arrays, prompt: int) -> Arrays:
    """The batch with written tokens[n, T + 1] in those examples where ``drawn[n, 1]`` says so."""
    new = jnp.arange(batch.labels.shape[-1])[None] >= prompt - 1
    labels = jnp.where(new, tokens[:, 1:], -1)
    return replace(
        batch,
        inputs=jnp.where(drawn, tokens[:, :-1], batch.inputs),
        labels=jnp.where(drawn, labels, batch.labels),
    )

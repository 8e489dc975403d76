"""Answers before the last block: a head after each, and examples that leave when they are sure."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from smallnets.nn.dense import Dense
from smallnets.nn.parameter import Factory, constant, stacked
from smallnets.varying import Varying

SMALLEST = 16  # examples; a smaller bucket saves no time

# axes: E exits, n examples


class Exit(nnx.Module):
    """The answer of one depth: norm, the mean over positions if ``pooled``, a dense head.

    Shapes: x[..., d] -> logits[..., classes], or x[..., T, d] -> logits[..., classes] if pooled.
    Parameters: norm + d * classes
    """

    def __init__(
        self, d: int, classes: int, *, norm: Factory, pooled: bool = False, rngs: nnx.Rngs
    ):
        self.norm = norm(d)
        self.head = Dense(d, classes, rngs=rngs)
        self.pooled = pooled

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.norm(x)
        return self.head(x.mean(axis=-2) if self.pooled else x)


class Exits(nnx.Module):
    """An exit after each of the first ``count`` blocks of a network, taught by its last answer.

    In training the loss

        weight / E * sum_e KL(softmax(logits) || softmax(exit_e(x_e)))    mean over the answers

    is added, without a gradient through ``logits``: labels are not needed, so that exits stand in
    any network, under any loss. It acts through the backward pass, at the costs that
    :func:`smallnets.nn.routing.attach_loss` names. A forward pass gives the last answer and
    computes no exit; :func:`exit_early` is the one that uses them.

    Parameters: count * exit

    Source: a head per depth taught by the last one, Zhang et al. 2019, arXiv:1905.08094, the second
    of their three losses. Raises ValueError where there is no block to leave after.
    """

    def __init__(self, count: int, *, exit: Factory, weight: Varying = 1.0, rngs: nnx.Rngs):
        if count < 1:
            raise ValueError(
                f"exits need a block behind them, but depth={count + 1}: set depth to 2 or more"
            )
        self.heads = stacked(exit, rngs.params(), count)
        self.weight = constant(weight)

    def divergence(self, states: jax.Array, logits: jax.Array) -> jax.Array:
        """The loss of the exits at states[E, ..., d] against logits[..., classes]; a number."""
        answers = jax.vmap(lambda head, x: head(x))(self.heads, states)
        target = jax.nn.log_softmax(logits)[None]
        each = jnp.exp(target) * (target - jax.nn.log_softmax(answers))
        return self.weight[...] * each.sum(axis=-1).mean()


@jax.custom_vjp
def teach(exits: Exits, states: jax.Array, logits: jax.Array) -> jax.Array:
    """``logits``; in the backward pass the exits' divergence is added to the loss.

    A forward pass does not compute the exits.
    """
    del exits, states
    return logits


def _forward(exits: Exits, states: jax.Array, logits: jax.Array) -> tuple[jax.Array, Any]:
    loss, pull = jax.vjp(lambda exits, states: exits.divergence(states, logits), exits, states)
    return logits, (pull, jnp.ones_like(loss))


def _backward(residuals: Any, cotangent: jax.Array) -> tuple[Exits, jax.Array, jax.Array]:
    pull, one = residuals
    return *pull(one), cotangent


teach.defvjp(_forward, _backward)


def call_and_teach(network: Any, x: jax.Array) -> jax.Array:
    """The last answer of a network, from which its exits learn, if it has any."""
    x = network.enter(x)
    if network.exits is None:
        return network.leave(network.stack(x))

    def call(x: jax.Array, block: Any) -> tuple[jax.Array, jax.Array]:
        y = block(x)
        return y, y

    x, states = jax.lax.scan(call, x, network.stack.calls())
    return teach(network.exits, states[:-1], network.leave(x))


def exit_early(
    network: Any, x: jax.Array, confidence: jax.Array | float
) -> tuple[jax.Array, jax.Array]:
    """Answers of the first exit that is sure: logits[n, classes], and after how many blocks [n].

    An example leaves after the first block whose exit gives some class the probability
    ``confidence`` or more, at the latest after the last block. Whoever is left moves together into
    the smallest of some buckets (n, n / 2, n / 4, ... examples) that holds them, and only that many
    are computed, so that the time falls with the work. All is one program without a copy to the
    host: compile it with ``jax.jit``. At a confidence above 1 nobody leaves before the end.

    ``network`` has ``enter``, ``stack``, ``exits`` and ``leave``. In a mixture with slots for few
    tokens, who shares a bucket matters to who finds one; one that drops nothing avoids that.

    Source: confidence as the rule to leave by, Teerapittayanon et al. 2016 (BranchyNet, there the
    entropy), arXiv:1709.01686. Raises ValueError for a network without exits.
    """
    if getattr(network, "exits", None) is None:
        raise ValueError(
            "leaving early needs a network with exits, but this one has none: "
            "add +model/exits=taught"
        )
    x = network.enter(x)
    blocks = network.stack.calls()
    before = jax.tree.map(lambda leaf: leaf[:-1], blocks)
    last = jax.tree.map(lambda leaf: leaf[-1], blocks)
    classes = jax.eval_shape(network.leave, x).shape[-1]

    def turn(carry: Any, parts: Any) -> tuple[Any, jax.Array]:
        x, logits, inside = carry
        block, head = parts
        x, logits = _bucketed(block, head, x, logits, inside)
        sure = jax.nn.softmax(logits).max(axis=-1) >= confidence
        return (x, logits, ~sure), inside

    carry = (x, jnp.zeros((len(x), classes), x.dtype), jnp.ones(len(x), bool))
    (x, logits, inside), earlier = jax.lax.scan(turn, carry, (before, network.exits.heads))
    logits = _bucketed(last, network.leave, x, logits, inside)[1]
    return logits, jnp.vstack([earlier, inside]).sum(axis=0)


def _bucketed(
    block: Any, head: Any, x: jax.Array, logits: jax.Array, inside: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """``x`` after a block and ``logits`` by a head for those ``inside``, as they were for others.

    Only the smallest bucket that holds them is computed; the others who fill it up are discarded.
    """
    count = x.shape[0]
    order = jnp.argsort(~inside, stable=True)

    def bucket(size: int) -> Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]:
        def run(x: jax.Array, logits: jax.Array) -> tuple[jax.Array, jax.Array]:
            rows = order[:size]
            y = block(x[rows])
            answer = jnp.where(inside[rows, None], head(y), logits[rows])
            return x.at[rows].set(y), logits.at[rows].set(answer)

        return run

    sizes = buckets(count)
    branches = [lambda x, logits: (x, logits), *map(bucket, sizes)]
    branch = jnp.searchsorted(jnp.asarray([0, *sizes]), inside.sum())
    return jax.lax.switch(branch, branches, x, logits)


def buckets(count: int) -> list[int]:
    """Sizes by which ``count`` examples are computed: halves, rounded up, down to a few."""
    sizes = [count]
    while sizes[0] > SMALLEST:
        sizes.insert(0, -(-sizes[0] // 2))
    return sizes

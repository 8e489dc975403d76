"""Early exit: heads that are self-distilled from the last answer, and exit by confidence."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from smallnets.nn.linear import Dense
from smallnets.nn.parameter import Factory, hyperparameter, stacked
from smallnets.traced import Traced

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
    any network, under any loss. The blocks receive the share ``joint`` of its gradient: at 0 the
    exits only read, and the network is as without them; at 1 the blocks serve all exits at once.
    It acts through the backward pass, at the costs that
    :func:`smallnets.nn.routing.attach_loss` names. A forward pass gives the last answer and
    computes no exit; :func:`exit_early` is the one that uses them.

    Parameters: count * exit

    Source: a head per depth taught by the last one, Zhang et al. 2019, arXiv:1905.08094, the second
    of their three losses. Raises ValueError where there is no block to leave after.
    """

    def __init__(
        self,
        count: int,
        *,
        exit: Factory,
        weight: Traced = 1.0,
        joint: Traced = 0.0,
        rngs: nnx.Rngs,
    ):
        if count < 1:
            raise ValueError(
                f"exits need a block behind them, but depth={count + 1}: set depth to 2 or more"
            )
        self.heads = stacked(exit, rngs, count)
        self.weight, self.joint = hyperparameter(weight), hyperparameter(joint)

    def divergence(self, states: jax.Array, logits: jax.Array) -> jax.Array:
        """The loss of the exits at states[E, ..., d] against logits[..., classes]; a number."""
        answers = jax.vmap(lambda head, x: head(x))(self.heads, states)
        target = jax.nn.log_softmax(logits)[None]
        each = jnp.exp(target) * (target - jax.nn.log_softmax(answers))
        return self.weight[...] * each.sum(axis=-1).mean()


@jax.custom_vjp
def self_distill(exits: Exits, states: jax.Array, logits: jax.Array) -> jax.Array:
    """``logits``; in the backward pass the exits' divergence is added to the loss.

    A forward pass does not compute the exits.
    """
    del exits, states
    return logits


def _forward(exits: Exits, states: jax.Array, logits: jax.Array) -> tuple[jax.Array, Any]:
    loss, pull = jax.vjp(lambda exits, states: exits.divergence(states, logits), exits, states)
    return logits, (pull, jnp.ones_like(loss), exits.joint[...])


def _backward(residuals: Any, cotangent: jax.Array) -> tuple[Exits, jax.Array, jax.Array]:
    pull, one, joint = residuals
    to_exits, to_states = pull(one)
    return to_exits, joint * to_states, cotangent


self_distill.defvjp(_forward, _backward)


def call_and_self_distill(network: Any, x: jax.Array) -> jax.Array:
    """The last answer of a network, from which its exits learn, if it has any."""
    x = network.embed(x)
    if network.exits is None:
        return network.readout(network.stack(x))

    def call(x: jax.Array, block: Any) -> tuple[jax.Array, jax.Array]:
        y = block(x)
        return y, y

    x, states = jax.lax.scan(call, x, network.stack.calls())
    return self_distill(network.exits, states[:-1], network.readout(x))


def exit_early(
    network: Any, x: jax.Array, confidence: jax.Array | float
) -> tuple[jax.Array, jax.Array]:
    """Confidence-thresholded early exit: logits[n, classes], and after how many blocks [n].

    An example leaves after the first block whose exit gives some class the probability
    ``confidence`` or more, at the latest after the last block. The remaining examples are moved
    together into the smallest bucket (of eighths of n, n / 16, ... examples) that holds them, and
    only that many are computed, so that the time falls with the work. All is one program without a
    copy to the host: compile it with ``jax.jit``. At a confidence above 1 no example leaves early.

    ``network`` has ``embed``, ``stack``, ``exits`` and ``readout``. In a mixture whose experts have
    slots for few tokens, the answers depend on which examples share a bucket; a mixture that drops
    nothing avoids that.

    Source: confidence as the rule to leave by, Teerapittayanon et al. 2016 (BranchyNet, there the
    entropy), arXiv:1709.01686. Raises ValueError for a network without exits.
    """
    if getattr(network, "exits", None) is None:
        raise ValueError(
            "leaving early needs a network with exits, but this one has none: "
            "add +model/exits=self_distilled"
        )
    x = network.embed(x)
    blocks = network.stack.calls()
    before = jax.tree.map(lambda leaf: leaf[:-1], blocks)
    last = jax.tree.map(lambda leaf: leaf[-1], blocks)

    def turn(rows: Remaining, parts: Any) -> tuple[Remaining, jax.Array]:
        block, head = parts
        return bucketed(block, head, rows, confidence), rows.count

    count, classes = len(x), jax.eval_shape(network.readout, x).shape[-1]
    rows = Remaining(x, jnp.zeros((count, classes), x.dtype), jnp.arange(count), jnp.asarray(count))
    rows, counts = jax.lax.scan(turn, rows, (before, network.exits.heads))
    counts = jnp.append(counts, rows.count)
    depth = jnp.sum(jnp.arange(count)[None] < counts[:, None], axis=0)
    rows = bucketed(last, network.readout, rows, confidence)
    place = jnp.argsort(rows.example)
    return rows.logits[place], depth[place]


class Remaining(NamedTuple):
    """Rows of a call, one for each example; those of examples that have not left come first."""

    states: jax.Array  # [n, ..., d]
    logits: jax.Array  # [n, classes], the latest
    example: jax.Array  # [n], which example a row is
    count: jax.Array  # how many have not left


def bucketed(block: Any, head: Any, rows: Remaining, confidence: jax.Array | float) -> Remaining:
    """``rows`` after a block and a head, in the smallest bucket that holds the remaining examples.

    Examples that have left and fill the bucket keep their logits; an example that leaves now moves
    behind the remaining ones.
    """

    def bucket(size: int) -> Callable[[Remaining], Remaining]:
        def run(rows: Remaining) -> Remaining:
            states = block(rows.states[:size])
            index = jnp.arange(size)
            inside = index < rows.count
            logits = jnp.where(inside[:, None], head(states), rows.logits[:size])
            sure = (jax.nn.softmax(logits).max(axis=-1) >= confidence) | ~inside
            order = jnp.sort(jnp.where(sure, size, 0) + index) % size  # faster than argsort
            return Remaining(
                rows.states.at[:size].set(states[order]),
                rows.logits.at[:size].set(logits[order]),
                rows.example.at[:size].set(rows.example[:size][order]),
                jnp.sum(~sure),
            )

        return run

    sizes = buckets(len(rows.states))
    branch = jnp.searchsorted(jnp.asarray([0, *sizes]), rows.count)
    return jax.lax.switch(branch, [lambda rows: rows, *map(bucket, sizes)], rows)


def buckets(count: int) -> list[int]:
    """Sizes by which ``count`` examples are computed: eighths, then halves down to a few."""
    sizes = {-(-count * eighths // 8) for eighths in range(1, 9)}
    while min(sizes) >= 2 * SMALLEST:
        sizes.add(-(-min(sizes) // 2))
    return sorted(size for size in sizes if size >= min(SMALLEST, count))

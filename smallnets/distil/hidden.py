"""What stands inside a teacher's blocks: its features, its attention, how it relates examples.

The networks may differ in width, heads and depth. Blocks are counted from 1; a stack is called
block by block, so that what stands between two of them is at hand.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from smallnets import nn
from smallnets.distil.distillation import Distillation, divergence
from smallnets.nn.exits import self_distill
from smallnets.nn.sharing import UNROLL
from smallnets.traced import Traced, TracedFraction
from smallnets.training.fit import Arrays, Projected

# axes: n examples of a batch, T positions, L blocks, R relation heads


@dataclass(frozen=True, kw_only=True)
class Features(Distillation):
    """What comes out of one of the student's blocks is drawn to what comes out of a teacher's:

        distance = mean((x W - h)^2) / mean(h^2)

    for the student's states x[n, ..., d] after block ``layer`` and the teacher's h[n, ..., e] after
    ``teacher_layer``, the middle ones where they are not given. The projection W[d, e] is trained
    beside the student and then dropped. Source: Romero et al. 2014 (FitNets), arXiv:1412.6550,
    equation 3, here beside the objective from the first step; divided by the size of h, so that one
    share serves all widths.

    Raises ValueError for networks without blocks, for a block that is not there, and where states
    differ in more than their width.
    """

    share: TracedFraction = 0.5
    layer: int | None = None
    teacher_layer: int | None = None

    def asked(self, teacher: Any, inputs: jax.Array) -> jax.Array:
        place = layer_of(teacher, self.teacher_layer, "teacher_layer", middle)
        return after(teacher, inputs, place)

    def student(self, network: Any, *, inputs: Any, taught: Any, rngs: Any) -> Projected:
        place = layer_of(network, self.layer, "layer", middle)
        own = jax.eval_shape(partial(after, place=place), network, inputs).shape
        if own[1:-1] != taught.shape[1:-1]:
            raise ValueError(
                "a projection maps states of one width to another, but those of an example are "
                f"{list(own[1:])} and the teacher's {list(taught.shape[1:])}: choose "
                "distil=relations, which compares examples"
            )
        return Projected(network, nn.Dense(own[-1], taught.shape[-1], rngs=rngs))

    def seen(self, student: Any, inputs: jax.Array) -> tuple[jax.Array, jax.Array]:
        logits, states = hidden(student.network, inputs)
        place = layer_of(student.network, self.layer, "layer", middle)
        return logits, student.projection(states[place])

    def distance(self, own: Any, taught: Any, batch: Arrays) -> jax.Array:
        del batch
        return jnp.square(own - taught).mean() / jnp.square(taught).mean()


@dataclass(frozen=True, kw_only=True)
class Attention(Distillation):
    """How the positions of an example relate in the student's attention is drawn to the teacher's:

        distance = 1/3 sum over a in (q, k, v) of mean KL(softmax(R(a_teacher)) || softmax(R(a)))
        R(a) = a a^T / sqrt(d_r)

    for the queries, keys and values a[n, T, d] that the attention of block ``layer`` (of the
    teacher ``teacher_layer``; the last ones where they are not given) projects, before they are
    rotated, each cut into ``relation_heads`` of width d_r = d / relation_heads: so widths and head
    counts may differ. In a decoder a position relates to those before it alone.

    Source: Wang et al. 2020 (MiniLMv2), arXiv:2012.15828, equations 6 to 9. Raises ValueError for
    networks without blocks or attention, for a block that is not there, and where
    ``relation_heads`` does not divide the width of all queries, keys and values.
    """

    share: TracedFraction = 0.5
    layer: int | None = None
    teacher_layer: int | None = None
    relation_heads: int = 4

    def asked(self, teacher: Any, inputs: jax.Array) -> tuple[jax.Array, ...]:
        place = layer_of(teacher, self.teacher_layer, "teacher_layer", last)
        return self._checked(projections(teacher, after(teacher, inputs, place - 1), place))

    def student(self, network: Any, *, inputs: Any, taught: Any, rngs: Any) -> Any:
        del taught, rngs
        jax.eval_shape(self.seen, network, inputs)
        return network

    def seen(self, student: Any, inputs: jax.Array) -> tuple[jax.Array, Any]:
        logits, states = hidden(student, inputs)
        place = layer_of(student, self.layer, "layer", last)
        found = self._checked(projections(student, states[place - 1], place))
        relations = jnp.stack(list(map(self._relations, found)))
        if getattr(student, "causal", False):
            before = jnp.tril(jnp.ones(relations.shape[-2:], bool))
            relations = jnp.where(jnp.broadcast_to(before, relations.shape), relations, -jnp.inf)
        return logits, relations

    def distance(self, own: jax.Array, taught: Any, batch: Arrays) -> jax.Array:
        del batch
        theirs = jnp.stack(list(map(self._relations, taught)))
        return divergence(jnp.where(jnp.isfinite(own), theirs, -jnp.inf), own).mean()

    def _relations(self, a: jax.Array) -> jax.Array:
        """R(a) of a[n, T, d]: [n, R, T, T]."""
        heads = a.reshape(*a.shape[:-1], self.relation_heads, -1)
        return jnp.einsum("ntrd,nsrd->nrts", heads, heads) / math.sqrt(heads.shape[-1])

    def _checked(self, found: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        for each in found:
            if self.relation_heads < 1 or each.shape[-1] % self.relation_heads:
                raise ValueError(
                    "distil.relation_heads must divide the width of all queries, keys and values, "
                    f"but is {self.relation_heads} for a width of {each.shape[-1]}: choose a "
                    "divisor of both networks' widths"
                )
        return found


@dataclass(frozen=True, kw_only=True)
class Relations(Distillation):
    """How the examples of a batch lie to each other in the student is drawn to the teacher's:

        distance = mean huber(|z_i - z_j| / m - |u_i - u_j| / m')
                   + angle mean huber(cos(z_i, z_j, z_k) - cos(u_i, u_j, u_k))

    for what comes out of block ``layer``, as a mean over positions, z[n, d], and the teacher's
    u[n, e] after ``teacher_layer`` (the last ones where they are not given); m and m' are the mean
    distances, cos the cosine of the angle at z_j, huber(x) = x^2 / 2 up to |x| = 1. Nothing is
    projected, so that any two networks with blocks compare. Takes n^3 numbers.

    Source: Park et al. 2019, arXiv:1904.05068, equations 4 to 9. Raises ValueError for networks
    without blocks and for a block that is not there.
    """

    share: TracedFraction = 0.5
    angle: Traced = 2.0
    layer: int | None = None
    teacher_layer: int | None = None

    def asked(self, teacher: Any, inputs: jax.Array) -> jax.Array:
        place = layer_of(teacher, self.teacher_layer, "teacher_layer", last)
        return pooled(after(teacher, inputs, place))

    def seen(self, student: Any, inputs: jax.Array) -> tuple[jax.Array, jax.Array]:
        logits, states = hidden(student, inputs)
        return logits, pooled(states[layer_of(student, self.layer, "layer", last)])

    def distance(self, own: Any, taught: Any, batch: Arrays) -> jax.Array:
        del batch
        (lengths, angles), (others, their_angles) = map(relations, (own, taught))
        return huber(lengths - others) + self.angle * huber(angles - their_angles)


def layer_of(network: Any, given: int | None, name: str, default: Callable[[int], int]) -> int:
    """The number of a block, from 1; raises ValueError where the network has no such block."""
    if not all(hasattr(network, part) for part in ("embed", "stack", "readout")):
        raise ValueError(
            "what stands between blocks needs a network with embed, stack and readout, but "
            f"{name} is of a {type(network).__name__}: choose model=residual, encoder or "
            "transformer, or distil=logits"
        )
    depth = jax.tree.leaves(jax.eval_shape(network.stack.calls))[0].shape[0]
    place = default(depth) if given is None else given
    if not 1 <= place <= depth:
        raise ValueError(
            f"distil.{name} must be the number of a block, 1 to {depth}, but is {place}: choose "
            "one, or null"
        )
    return place


def middle(depth: int) -> int:
    return (depth + 1) // 2


def last(depth: int) -> int:
    return depth


def after(network: Any, inputs: jax.Array, place: int) -> jax.Array:
    """What comes out of block ``place``; of block 0 what goes into the first."""
    blocks = jax.tree.map(lambda leaf: leaf[:place], network.stack.calls())
    x = network.embed(inputs)
    if not place:
        return x
    return jax.lax.scan(lambda x, block: (block(x), None), x, blocks, unroll=UNROLL)[0]


def hidden(network: Any, inputs: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The logits, and what stands between the blocks, [L + 1, n, ..., d] from what goes into the
    first.
    """

    def call(x: jax.Array, block: Any) -> tuple[jax.Array, jax.Array]:
        y = block(x)
        return y, y

    first = network.embed(inputs)
    x, states = jax.lax.scan(call, first, network.stack.calls(), unroll=UNROLL)
    logits = network.readout(x)
    if (exits := getattr(network, "exits", None)) is not None:
        logits = self_distill(exits, states[:-1], logits)
    return logits, jnp.concatenate([first[None], states])


def projections(network: Any, x: jax.Array, place: int) -> tuple[jax.Array, ...]:
    """The queries, keys and values[n, T, d] that block ``place`` makes of x[n, T, d].

    The block is called with layers that note what they give; what it computes besides is unused.
    Raises ValueError for a block without attention.
    """
    block = jax.tree.map(lambda leaf: leaf[place - 1], network.stack.calls())
    attention = [each for _, each in nnx.iter_modules(block) if isinstance(each, nn.Attention)]
    if len(attention) != 1:
        raise ValueError(
            f"distil=attention needs blocks with attention, but those of this "
            f"{type(network).__name__} have none: choose model=encoder or transformer, or "
            "distil=features"
        )
    kept: dict[str, jax.Array] = {}

    def noting(name: str, layer: Any, x: jax.Array) -> jax.Array:
        kept[name] = layer(x)
        return kept[name]

    names = ("query", "key", "value")
    for name in names:
        layer = getattr(attention[0], name)
        object.__setattr__(attention[0], name, partial(noting, name, layer))
    block(x)
    return tuple(kept[name] for name in names)


def pooled(x: jax.Array) -> jax.Array:
    """The mean over positions, [n, d] of x[n, ..., d]."""
    return x.reshape(len(x), -1, x.shape[-1]).mean(axis=1)


def relations(z: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The distances [n, n] between z[n, d] over their mean, and the cosines [n, n, n] of angles."""
    pairs = max(len(z) * (len(z) - 1), 1)
    differences = z[:, None] - z[None]
    # Where the distance is 0, so is its gradient.
    squares = jnp.square(differences).sum(axis=-1)
    apart = squares > 0
    lengths = jnp.where(apart, jnp.sqrt(jnp.where(apart, squares, 1)), 0)
    mean = lengths.sum() / pairs
    units = jnp.where(apart[..., None], differences / jnp.where(apart, lengths, 1)[..., None], 0)
    return lengths / jnp.where(mean > 0, mean, 1), jnp.einsum("jid,jkd->jik", units, units)


def huber(x: jax.Array) -> jax.Array:
    """Mean of x^2 / 2 where |x| <= 1, else of |x| - 1/2."""
    near = jnp.minimum(jnp.abs(x), 1)
    return (near * (jnp.abs(x) - near / 2)).mean()

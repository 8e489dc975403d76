"""Blocks that are called more than once: stacks, blocks that share a part, relaxed sharing."""

from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from flax import nnx

from smallnets.nn.linear import LowRank
from smallnets.nn.parameter import (
    OWN,
    Factory,
    combine,
    is_own,
    is_variable,
    stacked,
    unstacked,
)

Order = Literal["cyclic", "consecutive"]

# Calls of a block written out in one turn of the compiled loop. A turn costs as much as a small
# block: written out, a training step at width 64 takes .75 of the time. Beyond a few, only compile
# time grows.
UNROLL = 4


class Unrolled(nnx.Module):
    """The calls of a stack written out: y = block_n(... block_1(x)).

    What a stack becomes for a program that is exported, since what reads such programs fails at
    loops, or does not look into them. Shared blocks are the same arrays here, so that a program has
    them once; it is a view of the stack's parameters, to call, not to train.

    Shapes: x[..., d] -> y[..., d].
    """

    def __init__(self, blocks: list[Any]):
        self.blocks = nnx.List(blocks)

    def __call__(self, x: jax.Array) -> jax.Array:
        for block in self.blocks:
            x = block(x)
        return x


class Stack(nnx.Module):
    """A block applied ``depth`` times, with ``unique`` distinct sets of parameters.

    For i = 0 .. depth - 1, in the order ``cyclic`` (a b c a b c) or ``consecutive`` (a a b b c c):

        x <- block_{i mod unique}(x)    or    x <- block_{floor(i unique / depth)}(x)

    ``unique == depth`` is an ordinary deep network, ``unique == 1`` one block over and over.
    Sharing is calling: the blocks live on a leading axis, ``[unique, ...]``, and two nested
    ``lax.scan`` run over them, so that compile time does not grow with depth. Those of their
    parameters that each call has for itself (:class:`smallnets.nn.sharing.Relaxed`) are
    ``[depth, ...]``, in the order of the calls.

    Shapes: x[..., d] -> y[..., d]. ``block(rngs=...)`` builds one block.
    Parameters: unique * (block - own) + depth * own
    FLOPs: depth * block

    Source: Lan et al. 2019, arXiv:1909.11942 (one block); both orders: Takase & Kiyono 2021,
    arXiv:2104.06022, as CYCLE and SEQUENCE. Raises ValueError where ``unique`` does not divide
    ``depth``, for an unknown order, and where calls that share nothing have parameters of their
    own.
    """

    def __init__(
        self,
        *,
        block: Factory,
        depth: int,
        unique: int | None = None,
        order: Order = "cyclic",
        rngs: nnx.Rngs,
    ):
        unique = depth if unique is None else unique
        if not 1 <= unique <= depth or depth % unique:
            raise ValueError(
                f"unique must divide depth, but unique={unique} for depth={depth}: "
                "choose a divisor of the depth, or null for no sharing"
            )
        if order not in get_args(Order):
            raise ValueError(f"order must be cyclic or consecutive, but is {order!r}: choose one")
        self.unique, self.loops = unique, depth // unique
        self.order = order
        self.blocks = stacked(block, rngs, unique)
        own, shared = _parts(self.blocks)
        if jax.tree.leaves(own):
            if self.loops == 1:
                raise ValueError(
                    "a relaxation needs blocks that are called more than once, but "
                    f"unique={unique} for depth={depth}: lower unique, or set relaxation to 0"
                )
            own, _ = _parts(stacked(block, rngs, depth))
            self.blocks = combine(own, shared)

    def calls(self) -> Any:
        """The block of each call, [depth, ...]: shared ones are repeated, in memory too."""
        if self.loops == 1:
            return self.blocks
        index = jnp.arange(self.loops * self.unique)
        index = index % self.unique if self.order == "cyclic" else index // self.loops
        own, shared = _parts(self.blocks)
        return combine(own, jax.tree.map(lambda leaf: leaf[index], shared))

    def unrolled(self) -> Unrolled:
        """The calls one by one; a block that is called again is the same arrays."""
        own, shared = _parts(self.blocks)
        unique, calls = unstacked(shared, self.unique), range(self.unique * self.loops)
        order = [i % self.unique if self.order == "cyclic" else i // self.loops for i in calls]
        if not jax.tree.leaves(own):
            return Unrolled([unique[index] for index in order])
        return Unrolled(
            [
                combine(each, unique[index])
                for each, index in zip(unstacked(own, len(calls)), order, strict=True)
            ]
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        own, shared = _parts(self.blocks)

        def call(x: jax.Array, parts: Any) -> tuple[jax.Array, None]:
            return combine(*parts)(x), None

        def turn(x: jax.Array, own: Any) -> tuple[jax.Array, None]:
            return jax.lax.scan(call, x, (own, shared), unroll=UNROLL)

        def repeat(x: jax.Array, parts: Any) -> tuple[jax.Array, None]:
            own, block = parts
            return jax.lax.scan(
                lambda x, own: call(x, (own, block)), x, own, self.loops, unroll=UNROLL
            )

        if self.loops == 1:
            return turn(x, own)[0]
        if self.order == "cyclic":
            unroll = max(1, UNROLL // self.unique)
            return jax.lax.scan(turn, x, _split(own, self.loops), self.loops, unroll=unroll)[0]
        unroll = max(1, UNROLL // self.loops)
        return jax.lax.scan(repeat, x, (_split(own, self.unique), shared), unroll=unroll)[0]


def _parts(blocks: Any) -> tuple[Any, Any]:
    """Two trees: the parameters that each call has for itself, and all the rest; None elsewhere."""

    def keep(wanted: bool) -> Any:
        return jax.tree.map(
            lambda leaf: leaf if is_own(leaf) is wanted else None, blocks, is_leaf=is_variable
        )

    return keep(True), keep(False)


def _split(own: Any, outer: int) -> Any:
    """The leading axis as two, [outer, ...]."""
    return jax.tree.map(lambda leaf: leaf.reshape(outer, -1, *leaf.shape[1:]), own)


class SharedPart(nnx.Module):
    """A block applied ``depth`` times, of which one part is the same each time.

    ``part`` names a module of the block, such as ``attention`` or ``feed_forward`` (norms and all
    that is in it); the rest of the block has parameters of its own at each depth, on a leading
    axis. It stands where a :class:`smallnets.nn.sharing.Stack` does.

    Shapes: x[..., d] -> y[..., d]. ``block(rngs=...)`` builds one block.
    Parameters: part + depth * (block - part)
    FLOPs: depth * block

    Source: cross-layer sharing of attention only and of feed-forward only, Lan et al. 2019,
    arXiv:1909.11942, section 4.5. Raises ValueError for a part that the block has not, where
    ``unique`` asks for another kind of sharing, and for a relaxation.
    """

    def __init__(
        self,
        *,
        block: Factory,
        depth: int,
        part: str,
        unique: int | None = None,
        rngs: nnx.Rngs,
    ):
        if depth < 1:
            raise ValueError(f"depth must be at least 1, but is {depth}: choose 1 or more")
        if unique not in (None, depth):
            raise ValueError(
                f"one part is shared by all blocks, but unique={unique} for depth={depth} shares "
                "whole blocks: set unique to null, or leave the stack at its default"
            )
        first = block(rngs=rngs)
        names = [name for name, value in vars(first).items() if isinstance(value, nnx.Module)]
        if part not in names:
            raise ValueError(
                f"part must name a part of the block, but is {part!r}: choose one of "
                f"{', '.join(names)}"
            )
        if any(map(is_own, jax.tree.leaves(first, is_leaf=is_variable))):
            raise ValueError(
                "a relaxation is for stacks that call whole blocks again, but here one part is "
                "shared: set relaxation to 0, or choose the stack repeated"
            )
        self.part = part
        self.shared = getattr(first, part)
        self.blocks = stacked(block, rngs, depth)
        delattr(self.blocks, part)

    def calls(self) -> Any:
        """The block of each call, [depth, ...]: the shared part is repeated, in memory too."""
        depth = jax.tree.leaves(self.blocks)[0].shape[0]
        blocks = jax.tree.map(lambda leaf: leaf, self.blocks)
        part = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (depth, *leaf.shape)), self.shared)
        setattr(blocks, self.part, part)
        return blocks

    def unrolled(self) -> Unrolled:
        """The calls one by one; the shared part is the same arrays in each."""
        blocks = unstacked(self.blocks, jax.tree.leaves(self.blocks)[0].shape[0])
        for block in blocks:
            setattr(block, self.part, self.shared)
        return Unrolled(blocks)

    def __call__(self, x: jax.Array) -> jax.Array:
        def once(x: jax.Array, block: nnx.Module) -> tuple[jax.Array, None]:
            setattr(block, self.part, self.shared)
            return block(x), None

        return jax.lax.scan(once, x, self.blocks)[0]


class Relaxed(nnx.Module):
    """A layer shared between calls, and a low-rank difference that each call has for itself.

        y = shared(x) + x U_i V_i    in call i

    Shapes: x[..., d_in] -> y[..., d_out]; U_i[d_in, rank], V_i[rank, d_out], V_i zero at first, so
    that the start is plain sharing. ``linear`` builds the shared layer. Inside a
    :class:`smallnets.nn.sharing.Stack` the differences have a leading axis of length ``depth``,
    the shared layer one of length ``unique``; elsewhere it is the sum of two layers.
    Parameters: linear + rank * (d_in + d_out)
    FLOPs: linear + 2 * rank * (d_in + d_out)

    Source: Bae et al. 2024, arXiv:2410.20672; V_i starts at zero as in Hu et al. 2021,
    arXiv:2106.09685, since there is no trained network whose layers it could start from. Raises
    ValueError for a rank outside 1 .. min(d_in, d_out).
    """

    def __init__(self, d_in: int, d_out: int, *, linear: Factory, rank: int, rngs: nnx.Rngs):
        self.shared = linear(d_in, d_out, rngs=rngs)
        difference = LowRank(d_in, d_out, rank=rank, rngs=rngs)
        difference.up[...] = jnp.zeros_like(difference.up[...])
        self.difference = jax.tree.map(_own, difference, is_leaf=is_variable)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.shared(x) + self.difference(x)


def _own(parameter: nnx.Param) -> nnx.Param:
    return nnx.Param(parameter[...], **parameter.get_metadata(), **{OWN: True})

from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from flax import nnx

from smallnets.nn.parameter import Factory, combine, is_variable, stacked
from smallnets.nn.relaxed import is_own

Order = Literal["cyclic", "consecutive"]

# Calls of a block written out in one turn of the compiled loop. A turn costs as much as a small
# block: written out, a training step at width 64 takes .75 of the time. Beyond a few, only compile
# time grows.
UNROLL = 4


class Stack(nnx.Module):
    """A block applied ``depth`` times, with ``unique`` distinct sets of parameters.

    For i = 0 .. depth - 1, in the order ``cyclic`` (a b c a b c) or ``consecutive`` (a a b b c c):

        x <- block_{i mod unique}(x)    or    x <- block_{floor(i unique / depth)}(x)

    ``unique == depth`` is an ordinary deep network, ``unique == 1`` one block over and over.
    Sharing is calling: the blocks live on a leading axis, ``[unique, ...]``, and two nested
    ``lax.scan`` run over them, so that compile time does not grow with depth. Those of their
    parameters that each call has for itself (:class:`smallnets.nn.relaxed.Relaxed`) are
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
        self.blocks = stacked(block, rngs.params(), unique)
        own, shared = _parts(self.blocks)
        if jax.tree.leaves(own):
            if self.loops == 1:
                raise ValueError(
                    "a relaxation needs blocks that are called more than once, but "
                    f"unique={unique} for depth={depth}: lower unique, or set relaxation to 0"
                )
            own, _ = _parts(stacked(block, rngs.params(), depth))
            self.blocks = combine(own, shared)

    def calls(self) -> Any:
        """The block of each call, [depth, ...]: shared ones are repeated, in memory too."""
        if self.loops == 1:
            return self.blocks
        index = jnp.arange(self.loops * self.unique)
        index = index % self.unique if self.order == "cyclic" else index // self.loops
        own, shared = _parts(self.blocks)
        return combine(own, jax.tree.map(lambda leaf: leaf[index], shared))

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

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from smallnets.nn.parameter import Factory, is_variable, stacked
from smallnets.nn.relaxed import is_own


class SharedPart(nnx.Module):
    """A block applied ``depth`` times, of which one part is the same each time.

    ``part`` names a module of the block, such as ``attention`` or ``feed_forward`` (norms and all
    that is in it); the rest of the block has parameters of its own at each depth, on a leading
    axis. It stands where a :class:`smallnets.nn.stack.Stack` does.

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
        self.blocks = stacked(block, rngs.params(), depth)
        setattr(self.blocks, part, None)

    def calls(self) -> Any:
        """The block of each call, [depth, ...]: the shared part is repeated, in memory too."""
        depth = jax.tree.leaves(self.blocks)[0].shape[0]
        blocks = jax.tree.map(lambda leaf: leaf, self.blocks)
        part = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (depth, *leaf.shape)), self.shared)
        setattr(blocks, self.part, part)
        return blocks

    def __call__(self, x: jax.Array) -> jax.Array:
        def once(x: jax.Array, block: nnx.Module) -> tuple[jax.Array, None]:
            setattr(block, self.part, self.shared)
            return block(x), None

        return jax.lax.scan(once, x, self.blocks)[0]

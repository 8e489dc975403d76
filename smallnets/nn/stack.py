import jax
from flax import nnx

from smallnets.nn.parameter import Factory, stacked


class Stack(nnx.Module):
    """A block applied ``depth`` times, with ``unique`` distinct sets of parameters.

    x <- block_{i mod unique}(x) for i = 0 .. depth - 1 (ALBERT's cyclic sharing; Lan et al. 2019,
    arXiv:1909.11942). ``unique == depth`` is an ordinary deep network, ``unique == 1`` one block
    over and over. Sharing is calling: the blocks live on a leading axis, ``[unique, ...]``, and
    two nested ``lax.scan`` run over them, so that compile time does not grow with depth.

    Shapes: x[..., d] -> y[..., d]. ``block(rngs=...)`` builds one block.
    Parameters: unique * block
    FLOPs: depth * block

    Raises ValueError where ``unique`` does not divide ``depth``.
    """

    def __init__(
        self,
        *,
        block: Factory,
        depth: int,
        unique: int | None = None,
        rngs: nnx.Rngs,
    ):
        unique = depth if unique is None else unique
        if not 1 <= unique <= depth or depth % unique:
            raise ValueError(
                f"unique must divide depth, but unique={unique} for depth={depth}: "
                "choose a divisor of the depth, or null for no sharing"
            )
        self.loops = depth // unique
        self.blocks = stacked(block, rngs.params(), unique)

    def __call__(self, x: jax.Array) -> jax.Array:
        def once(x: jax.Array, _) -> tuple[jax.Array, None]:
            return jax.lax.scan(lambda x, block: (block(x), None), x, self.blocks)

        if self.loops == 1:
            return once(x, None)[0]
        return jax.lax.scan(once, x, length=self.loops)[0]

import jax
from flax import nnx

from smallnets.nn.parameter import Factory


class FeedForward(nnx.Module):
    """Two linear maps with a GELU between them, y = down(gelu(up(x))).

    Shapes: x[..., d_in] -> [..., expansion d_in] -> y[..., d_out].
    Parameters: those of ``linear`` for both maps; FLOPs likewise.
    """

    def __init__(
        self, d_in: int, d_out: int, *, linear: Factory, expansion: int = 2, rngs: nnx.Rngs
    ):
        self.up = linear(d_in, expansion * d_in, rngs=rngs)
        self.down = linear(expansion * d_in, d_out, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.down(jax.nn.gelu(self.up(x)))

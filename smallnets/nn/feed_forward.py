import jax
from flax import nnx

from smallnets.nn.parameter import Factory


class FeedForward(nnx.Module):
    """Two linear maps with a GELU between them, y = down(gelu(up(x))).

    Shapes: x[..., d_in] -> [..., hidden] -> y[..., d_out]; without ``hidden`` it is
    expansion d_in.
    Parameters: those of ``linear`` for both maps; FLOPs likewise.
    """

    def __init__(
        self,
        d_in: int,
        d_out: int,
        *,
        linear: Factory,
        expansion: int = 2,
        hidden: int | None = None,
        rngs: nnx.Rngs,
    ):
        hidden = expansion * d_in if hidden is None else hidden
        self.up = linear(d_in, hidden, rngs=rngs)
        self.down = linear(hidden, d_out, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.down(jax.nn.gelu(self.up(x)))

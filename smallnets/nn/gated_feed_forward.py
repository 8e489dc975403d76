import jax
from flax import nnx

from smallnets.nn.parameter import Factory


class GatedFeedForward(nnx.Module):
    """A feed-forward map whose hidden numbers are gated, y = down(silu(gate(x)) * up(x)): SwiGLU.

    Shapes: x[..., d_in] -> [..., hidden] -> y[..., d_out]; without ``hidden`` it is
    expansion d_in.
    Parameters: those of ``linear`` for the three maps; FLOPs likewise.

    Source: Shazeer 2020, arXiv:2002.05202, equation 6.
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
        self.gate = linear(d_in, hidden, rngs=rngs)
        self.up = linear(d_in, hidden, rngs=rngs)
        self.down = linear(hidden, d_out, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.down(jax.nn.silu(self.gate(x)) * self.up(x))

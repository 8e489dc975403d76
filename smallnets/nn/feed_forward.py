import jax
from flax import nnx

from smallnets.nn.parameter import Factory


class FeedForward(nnx.Module):
    """Two linear layers with an activation between them, plain or ``gated``.

        y = down(gelu(up(x)))    or    y = down(silu(gate(x)) * up(x)), which is SwiGLU

    Shapes: x[..., d_in] -> [..., hidden] -> y[..., d_out]; without ``hidden`` it is
    expansion d_in.
    Parameters: those of ``linear`` for the two layers, or for the three; FLOPs likewise.

    Source of the gated form: Shazeer 2020, arXiv:2002.05202, equation 6.
    """

    def __init__(
        self,
        d_in: int,
        d_out: int,
        *,
        linear: Factory,
        expansion: int = 2,
        hidden: int | None = None,
        gated: bool = False,
        rngs: nnx.Rngs,
    ):
        hidden = expansion * d_in if hidden is None else hidden
        self.gate = linear(d_in, hidden, rngs=rngs) if gated else None
        self.up = linear(d_in, hidden, rngs=rngs)
        self.down = linear(hidden, d_out, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        if self.gate is None:
            return self.down(jax.nn.gelu(self.up(x)))
        return self.down(jax.nn.silu(self.gate(x)) * self.up(x))

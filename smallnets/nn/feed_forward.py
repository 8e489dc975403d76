import jax
from flax import nnx

from smallnets.nn.parameter import Factory


class FeedForward(nnx.Module):
    """Two linear layers with an activation between them, plain or ``gated``.

        y = down(gelu(up(x)))    or    y = down(silu(gate(x)) * up(x)), which is SwiGLU

    ``exact`` takes gelu by the error function, as BERT does, in place of its form by tanh.

    Shapes: x[..., d_in] -> [..., hidden] -> y[..., d_out]; without ``hidden`` it is
    expansion d_in.
    Parameters: those of ``linear`` for the two layers, or for the three; FLOPs likewise.

    Source of the gated form: Shazeer 2020, arXiv:2002.05202, equation 6; of gelu and its form by
    tanh: Hendrycks & Gimpel 2016, arXiv:1606.08415.
    """

    exact = False  # on the class, so that models kept without it load

    def __init__(
        self,
        d_in: int,
        d_out: int,
        *,
        linear: Factory,
        expansion: int = 2,
        hidden: int | None = None,
        gated: bool = False,
        exact: bool = False,
        rngs: nnx.Rngs,
    ):
        hidden = expansion * d_in if hidden is None else hidden
        if exact:
            self.exact = True
        self.gate = linear(d_in, hidden, rngs=rngs) if gated else None
        self.up = linear(d_in, hidden, rngs=rngs)
        self.down = linear(hidden, d_out, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        if self.gate is None:
            return self.down(jax.nn.gelu(self.up(x), approximate=not self.exact))
        return self.down(jax.nn.silu(self.gate(x)) * self.up(x))

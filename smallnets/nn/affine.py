import jax
import jax.numpy as jnp
from flax import nnx

from smallnets.nn.parameter import Factory


class Affine(nnx.Module):
    """Any linear map plus a bias, y = map(x) + b.

    Shapes: x[..., d_in] -> y[..., d_out]; b[d_out], zero at first.
    Parameters: linear + d_out
    FLOPs: linear
    """

    def __init__(self, d_in: int, d_out: int, *, linear: Factory, rngs: nnx.Rngs):
        self.linear = linear(d_in, d_out, rngs=rngs)
        self.bias = nnx.Param(jnp.zeros(d_out))

    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.linear(x)
        return y + jnp.broadcast_to(self.bias[...], y.shape)

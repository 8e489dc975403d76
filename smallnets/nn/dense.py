import jax
import jax.numpy as jnp
from flax import nnx

from smallnets.nn.linear import Linear
from smallnets.nn.parameter import kernel


class Dense(Linear):
    """The full linear map, y = x W.

    Shapes: x[..., d_in] -> y[..., d_out]; W[d_in, d_out].
    Parameters: d_in * d_out
    FLOPs: 2 * d_in * d_out
    """

    def __init__(self, d_in: int, d_out: int, *, rngs: nnx.Rngs):
        self.kernel = kernel(rngs, d_in, d_out, fan_in=d_in, fan_out=d_out)

    def __call__(self, x: jax.Array) -> jax.Array:
        return jnp.einsum("...i,io->...o", x, self.kernel[...])

    def matrix(self) -> jax.Array:
        return self.kernel[...]

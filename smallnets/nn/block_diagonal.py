import jax
import jax.numpy as jnp
from flax import nnx

from smallnets.nn.linear import Linear, check_blocks, flat
from smallnets.nn.parameter import kernel

# axes: n token, b block, p position in a block of x, q position in a block of y


class BlockDiagonal(Linear):
    """Blocks of the input that don't see each other, y_b = x_b W_b: a grouped linear map.

    Shapes: x[..., d_in] -> y[..., d_out], both as [blocks, width / blocks];
    W[blocks, d_in / blocks, d_out / blocks].
    Parameters: d_in * d_out // blocks
    FLOPs: 2 * d_in * d_out // blocks

    With one block it is the dense map; Monarch's first factor is one. Raises ValueError where
    ``blocks`` does not divide both widths.
    """

    def __init__(self, d_in: int, d_out: int, *, blocks: int, rngs: nnx.Rngs):
        check_blocks(d_in, d_out, blocks)
        self.blocks = blocks
        p, q = d_in // blocks, d_out // blocks
        self.kernel = kernel(rngs, blocks, p, q, fan_in=p, fan_out=q)

    def __call__(self, x: jax.Array) -> jax.Array:
        grouped = x.reshape(-1, self.blocks, x.shape[-1] // self.blocks)
        y = jnp.einsum("bnp,bpq->bnq", jnp.moveaxis(grouped, 1, 0), self.kernel[...])
        return jnp.moveaxis(y, 0, 1).reshape(*x.shape[:-1], -1)

    def matrix(self) -> jax.Array:
        return flat(jnp.einsum("...bpq,bc->...bpcq", self.kernel[...], jnp.eye(self.blocks)))

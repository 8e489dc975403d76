import jax
import jax.numpy as jnp
from flax import nnx

from smallnets.nn.linear import Linear, check_blocks, flat, warn_if_larger
from smallnets.nn.parameter import kernel

# axes: n token, b input block, p position in it, q output group, c position in it, r rank


class BlockTensorTrain(Linear):
    """The block tensor train (BTT) of two cores: each input block meets each output group by a
    low-rank map.

    With x as [b, p], d_in = blocks p, and y as [c, q], d_out = c groups:

        h[b, q, r] = sum_p x[b, p] L[b, p, q, r],    y[c, q] = sum_{b, r} h[b, q, r] R[q, b, r, c]

    Shapes: x[..., d_in] -> y[..., d_out]; L[blocks, p, groups, rank], R[groups, blocks, rank, c].
    ``groups`` is d_out / blocks where it is not given: then rank 1 is Monarch. With one block and
    one group it is the low-rank map. Rank min(p, c) expresses any matrix.
    Parameters: rank * (d_in * groups + d_out * blocks)
    FLOPs: 2 * rank * (d_in * groups + d_out * blocks)

    Source: Qiu et al. 2024, arXiv:2406.06248, who write two cores like this. Raises ValueError
    where ``blocks`` does not divide d_in or ``groups`` d_out, and for a rank outside
    1 .. min(p, c); warns where that is larger than the dense map.
    """

    def __init__(
        self,
        d_in: int,
        d_out: int,
        *,
        blocks: int,
        rank: int,
        groups: int | None = None,
        rngs: nnx.Rngs,
    ):
        if groups is None:
            check_blocks(d_in, d_out, blocks)
            groups = d_out // blocks
        if blocks < 1 or groups < 1 or d_in % blocks or d_out % groups:
            raise ValueError(
                f"blocks must divide d_in and groups d_out, but blocks={blocks}, groups={groups} "
                f"for d_in={d_in}, d_out={d_out}: choose divisors of the widths"
            )
        p, c = d_in // blocks, d_out // groups
        if not 1 <= rank <= min(p, c):
            raise ValueError(
                f"rank must lie between 1 and the smaller side of a block, but rank={rank} for "
                f"blocks of {p} x {c}: choose rank <= {min(p, c)} or a larger width"
            )
        warn_if_larger(
            d_in,
            d_out,
            name="rank",
            value=rank,
            choices=range(1, min(p, c) + 1),
            parameters=lambda rank: rank * (d_in * groups + d_out * blocks),
        )
        self.blocks, self.groups, self.rank = blocks, groups, rank
        self.left = kernel(rngs, blocks, p, groups, rank, fan_in=p, fan_out=groups * rank)
        self.right = kernel(rngs, groups, blocks, rank, c, fan_in=blocks * rank, fan_out=c)

    def __call__(self, x: jax.Array) -> jax.Array:
        # Two batched products of three axes each; forward + backward takes .6 to .83 of the time on
        # a CPU of einsums over all axes, as for Monarch. s is (q, r) and then (b, r).
        b, p, q, r = self.left.shape
        left, right = self.left[...].reshape(b, p, q * r), self.right[...].reshape(q, b * r, -1)
        hidden = jnp.einsum("bnp,bps->bns", jnp.moveaxis(x.reshape(-1, b, p), 1, 0), left)
        paired = jnp.transpose(hidden.reshape(b, -1, q, r), (2, 1, 0, 3)).reshape(q, -1, b * r)
        y = jnp.einsum("qns,qsc->qnc", paired, right)
        return jnp.transpose(y, (1, 2, 0)).reshape(*x.shape[:-1], -1)

    def matrix(self) -> jax.Array:
        return flat(jnp.einsum("...bpqr,...qbrc->...bpcq", self.left[...], self.right[...]))

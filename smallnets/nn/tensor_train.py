import jax
import jax.numpy as jnp
from flax import nnx

from smallnets.nn.linear import Linear, warn_if_larger
from smallnets.nn.parameter import kernel

# axes: m input axis, o output axis, t rank on the left, s rank on the right


class TensorTrain(Linear):
    """A matrix in tensor-train form: a chain of ``cores`` small tensors.

    With x as [m_1, ..., m_K] and y as [o_1, ..., o_K], where K = cores, all axes but the last have
    length ``blocks``, so that d_in = blocks^(K - 1) m_K and d_out = blocks^(K - 1) o_K:

        W[m_1 .. m_K, o_1 .. o_K] = G_1[m_1, o_1] G_2[m_2, o_2] ... G_K[m_K, o_K]

    where each G_k[m_k, o_k] is a matrix of rank x rank, the first a row and the last a column.

    Shapes: x[..., d_in] -> y[..., d_out]; G_k[rank, m_k, o_k, rank], the first rank of G_1 and the
    last of G_K being 1. One core is the dense map; two of rank 1 are a Kronecker product. The bond
    behind core k needs no more than rank min(blocks^(2 k), blocks^(2 (K - 1 - k)) m_K o_K), and of
    the largest of these ranks the train expresses any matrix.
    Parameters: rank * (d_in * d_out // blocks**(2*cores-2) + blocks**2 * (1 + (cores-2) * rank))
    FLOPs: 2 * rank * (d_in * d_out // blocks**(cores-1) + d_out * blocks * (1 + (cores-2) * rank))

    Source: Novikov et al. 2015, arXiv:1509.06569, equation 3. Raises ValueError where
    blocks^(cores - 1) does not divide both widths, and for a rank that no bond needs; warns where
    that is larger than the dense map.
    """

    def __init__(
        self, d_in: int, d_out: int, *, blocks: int, cores: int, rank: int, rngs: nnx.Rngs
    ):
        if blocks < 1 or cores < 1:
            raise ValueError(f"blocks and cores must be at least 1, but are {blocks} and {cores}")
        unit = blocks ** (cores - 1)
        if d_in % unit or d_out % unit:
            raise ValueError(
                f"blocks^(cores - 1) must divide both widths, but blocks={blocks}, cores={cores} "
                f"for d_in={d_in}, d_out={d_out}: choose widths that are multiples of {unit}"
            )
        m, o = d_in // unit, d_out // unit
        bonds = [
            min(blocks ** (2 * k), blocks ** (2 * (cores - 1 - k)) * m * o) for k in range(1, cores)
        ]
        largest = max(bonds, default=1)
        if not 1 <= rank <= largest:
            raise ValueError(
                f"rank must lie between 1 and {largest} for d_in={d_in}, d_out={d_out}, "
                f"blocks={blocks}, cores={cores}, but is {rank}: choose rank <= {largest}, or "
                "larger blocks"
            )
        warn_if_larger(
            d_in,
            d_out,
            name="rank",
            value=rank,
            choices=range(1, largest + 1),
            parameters=lambda rank: rank * (m * o + blocks**2 * (1 + (cores - 2) * rank)),
        )
        self.blocks, self.cores, self.rank = blocks, cores, rank
        ranks = [1, *[rank] * (cores - 1), 1]
        axes = [*[(blocks, blocks)] * (cores - 1), (m, o)]
        self.kernels = nnx.List(
            [
                kernel(
                    rngs,
                    ranks[k],
                    m,
                    o,
                    ranks[k + 1],
                    fan_in=m * ranks[k + 1],
                    fan_out=o * ranks[k],
                )
                for k, (m, o) in enumerate(axes)
            ]
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        # One plain product of many rows a core: faster on a CPU than axes left in place.
        y, done = x, 1
        for core in reversed(self.kernels):
            t, m, o, s = core.shape
            rows = jnp.moveaxis(y.reshape(-1, m, s, done), -1, 1).reshape(-1, m * s)
            weights = jnp.transpose(core[...], (1, 3, 0, 2)).reshape(m * s, t * o)
            y = jnp.moveaxis(jnp.einsum("li,io->lo", rows, weights).reshape(-1, done, t * o), 1, 2)
            done *= o
        return y.reshape(*x.shape[:-1], -1)

    def matrix(self) -> jax.Array:
        first, *rest = (core[...] for core in self.kernels)
        *lead, _, d_in, d_out, _ = first.shape
        chain = first
        for core in rest:
            chain = jnp.einsum("...tios,...smkr->...timokr", chain, core)
            d_in, d_out = d_in * core.shape[-3], d_out * core.shape[-2]
            chain = chain.reshape(*lead, 1, d_in, d_out, core.shape[-1])
        return chain[..., 0, :, :, 0]

"""Structured matrices: block-diagonal, Monarch, Kronecker, tensor trains."""

import math

import jax
import jax.numpy as jnp
from flax import nnx

from smallnets.nn.linear import Linear, check_blocks, divisors, flat, warn_if_larger
from smallnets.nn.parameter import kernel

# axes: n token, b block, p position in a block of x, q position in a block of y


class BlockDiagonal(Linear):
    """Blocks of the input that don't see each other, y_b = x_b W_b: a grouped linear layer.

    Shapes: x[..., d_in] -> y[..., d_out], both as [blocks, width / blocks];
    W[blocks, d_in / blocks, d_out / blocks].
    Parameters: d_in * d_out // blocks
    FLOPs: 2 * d_in * d_out // blocks

    With one block it is the dense layer; Monarch's first factor is one. Raises ValueError where
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


# axes: n token, b input block, p position in it, q output group, c position in it


class Monarch(Linear):
    """Two block-diagonal layers with a transpose between them: the Monarch matrix.

    With x as [b, p], where b = blocks and d_in = blocks p, and y as [c, q], d_out = blocks q:

        h[b, q] = sum_p x[b, p] L[b, p, q],    y[c, q] = sum_b h[b, q] R[q, b, c]

    Shapes: x[..., d_in] -> y[..., d_out]; L[blocks, p, q], R[q, blocks, blocks]. With one block it
    is the dense layer with a scale for each output; with blocks = sqrt(d) both factors cost alike.
    Parameters: d_in * d_out // blocks + d_out * blocks
    FLOPs: 2 * (d_in * d_out // blocks + d_out * blocks)

    Source: Dao et al. 2022, arXiv:2204.00595, definition 3.1 (here for rectangular layers).
    Raises ValueError where ``blocks`` does not divide both widths, and warns where that is larger
    than the dense layer.
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


# axes: n token, b input block, p position in it, c output block, q position in it


class Kronecker(Linear):
    """The Kronecker product of two matrices, W = A (x) B.

    With x as [b, p], d_in = blocks p, and y as [c, q], d_out = blocks q:

        h[b, q] = sum_p x[b, p] B[p, q],    y[c, q] = sum_b h[b, q] A[b, c]

    Shapes: x[..., d_in] -> y[..., d_out]; A[blocks, blocks], B[p, q]. With one block it is the
    dense layer B times a scalar.
    Parameters: blocks**2 + d_in * d_out // blocks**2
    FLOPs: 2 * (d_in * d_out // blocks + d_out * blocks)

    Source: Van Loan 2000, The ubiquitous Kronecker product; as a layer, Qiu et al. 2024,
    arXiv:2406.06248. Raises ValueError where ``blocks`` does not divide both widths, and warns
    where that is larger than the dense layer.
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


# axes: n token, b input block, p position in it, q output group, c position in it, r rank


class BlockTensorTrain(Linear):
    """The block tensor train (BTT) of two cores: each input block meets each output group by a
    low-rank layer.

    With x as [b, p], d_in = blocks p, and y as [c, q], d_out = c groups:

        h[b, q, r] = sum_p x[b, p] L[b, p, q, r],    y[c, q] = sum_{b, r} h[b, q, r] R[q, b, r, c]

    Shapes: x[..., d_in] -> y[..., d_out]; L[blocks, p, groups, rank], R[groups, blocks, rank, c].
    ``groups`` is d_out / blocks where it is not given: then rank 1 is Monarch. With one block and
    one group it is the low-rank layer. Rank min(p, c) expresses any matrix.
    Parameters: rank * (d_in * groups + d_out * blocks)
    FLOPs: 2 * rank * (d_in * groups + d_out * blocks)

    Source: Qiu et al. 2024, arXiv:2406.06248, who write two cores like this. Raises ValueError
    where ``blocks`` does not divide d_in or ``groups`` d_out, and for a rank outside
    1 .. min(p, c); warns where that is larger than the dense layer.
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


# axes: m input axis, o output axis, t rank on the left, s rank on the right


class TensorTrain(Linear):
    """A matrix in tensor-train form: a chain of ``cores`` small tensors.

    With x as [m_1, ..., m_K] and y as [o_1, ..., o_K], where K = cores, all axes but the last have
    length ``blocks``, so that d_in = blocks^(K - 1) m_K and d_out = blocks^(K - 1) o_K:

        W[m_1 .. m_K, o_1 .. o_K] = G_1[m_1, o_1] G_2[m_2, o_2] ... G_K[m_K, o_K]

    where each G_k[m_k, o_k] is a matrix of rank x rank, the first a row and the last a column.

    Shapes: x[..., d_in] -> y[..., d_out]; G_k[rank, m_k, o_k, rank], the first rank of G_1 and the
    last of G_K being 1. One core is the dense layer; two of rank 1 are a Kronecker product. The
    bond behind core k needs no more than rank min(blocks^(2 k), blocks^(2 (K - 1 - k)) m_K o_K),
    and of the largest of these ranks the train expresses any matrix.
    Parameters: rank * (d_in * d_out // blocks**(2*cores-2) + blocks**2 * (1 + (cores-2) * rank))
    FLOPs: 2 * rank * (d_in * d_out // blocks**(cores-1) + d_out * blocks * (1 + (cores-2) * rank))

    Source: Novikov et al. 2015, arXiv:1509.06569, equation 3. Raises ValueError where
    blocks^(cores - 1) does not divide both widths, and for a rank that no bond needs; warns where
    that is larger than the dense layer.
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

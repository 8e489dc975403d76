"""Linear layers replaced by products of smaller ones: low rank, Monarch, block tensor trains."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from smallnets.compress.watch import (
    Watched,
    changed,
    check_share,
    damped,
    first_variable,
    parameters_of,
    plain,
    unwatched,
    watched,
)
from smallnets.nn import BlockTensorTrain, Linear, LowRank, Monarch
from smallnets.nn.parameter import is_own

TASKS_OWN = ("embedding", "head", "exits", "router")  # parts whose widths are the task's
LEAST = 16  # layers whose smaller side is shorter stay as they are


@jax.custom_batching.sequential_vmap
def _svd(matrix: jax.Array) -> tuple[jax.Array, ...]:
    """Matrices of a batch are decomposed in turn, here and in ``_eigh``.

    XLA's CPU runs a batch on the threads of the pool that waits for it: two at once wait for each
    other for ever, and on many cores LAPACK's memory runs out (jax issue 39292).
    """
    return tuple(jnp.linalg.svd(matrix, full_matrices=False))


@jax.custom_batching.sequential_vmap
def _eigh(matrix: jax.Array) -> tuple[jax.Array, ...]:
    return tuple(jnp.linalg.eigh(matrix))


svd = jnp.vectorize(_svd, signature="(m,n)->(m,k),(k),(k,n)")
eigh = jnp.vectorize(_eigh, signature="(n,n)->(n),(n,n)")


def low_rank(
    model: Any,
    inputs: jax.Array | None = None,
    *,
    ratio: float | None = None,
    rank: int | None = None,
    weighted: bool = True,
    leave_out: tuple[str, ...] = TASKS_OWN,
) -> Any:
    """``model`` with its linear layers W replaced by U V of a lower rank, the nearest there is.

        min |X W - X U V|_F  over U[d_in, r], V[r, d_out],   whose square is sum_{i > r} s_i^2

    where X are the layer's inputs for ``inputs`` and s the singular values of G^(1/2) W, with
    G = X^T X; not ``weighted``, X is the identity, which is the singular value decomposition of W.
    ``ratio`` is the share of a layer's parameters that is kept, r = floor(ratio parameters / (d_in
    + d_out)), at least 1; or ``rank`` is r. Each layer of a stack has the same rank. Parts named in
    ``leave_out`` stay, and layers with a side below 16; at ratio 1 all do.

    Source: Wang et al. 2024, arXiv:2403.07378 (SVD-LLM), section 3.1. Raises ValueError where not
    exactly one of ratio and rank is given, where a rank saves nothing in any layer, and where there
    is no layer to factorise.
    """
    if (ratio is None) == (rank is None):
        raise ValueError(
            f"factorise takes one of ratio and rank, not ratio={ratio} with rank={rank}: set the "
            "other to null"
        )
    if ratio is not None:
        check_share("ratio", ratio)
        if ratio == 1:
            return model
    elif rank is None or rank < 1:
        raise ValueError(f"rank must be at least 1, but is {rank}: choose 1 or more")
    if weighted:
        model = watched(model, _needed(inputs))

    def rule(layer: Linear) -> Linear:
        *_, a, b = jax.eval_shape(layer.matrix).shape
        size = parameters_of(plain(layer))
        r = rank or max(1, int((ratio or 0) * size / (a + b)))
        if is_own(first_variable(layer)) or min(a, b) < LEAST or r * (a + b) >= size:
            return layer
        gram = layer.gram[...] if isinstance(layer, Watched) else None
        return low_rank_of(plain(layer), r, gram)

    found = changed(rule, model, Linear, name="factorise", leave_out=leave_out)
    return unwatched(found)


def _needed(inputs: jax.Array | None) -> jax.Array:
    if inputs is None:
        raise ValueError("a weighted pass needs inputs, but there are none: set weighted to false")
    return inputs


def low_rank_of(layer: Linear, rank: int, gram: jax.Array | None = None) -> LowRank:
    """The low-rank layer nearest to ``layer``; with a Gram matrix, on the inputs that it is of."""
    down, up = nearest_factors(layer.matrix(), rank, gram)
    found = jax.eval_shape(lambda: LowRank(4, 4, rank=1, rngs=nnx.Rngs(0)))
    found.rank = rank
    found.down = _parameter(layer, down, down.shape[-2], rank)
    found.up = _parameter(layer, up, rank, up.shape[-1])
    return found


def nearest_factors(
    matrix: jax.Array, rank: int, gram: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """U[..., d_in, rank] and V[..., rank, d_out] of the product nearest to a matrix.

    The singular values are split evenly between both, so that both are trained alike.
    """
    if gram is None:
        left, values, right = svd(matrix)
        root = jnp.sqrt(values[..., :rank])
        return left[..., :rank] * root[..., None, :], root[..., :, None] * right[..., :rank, :]
    powers, vectors = eigh(damped(gram))
    powers = jnp.maximum(powers, 1e-7 * powers[..., -1:])
    scales = jnp.sqrt(powers)[..., :, None]
    seen = scales * jnp.einsum("...ji,...jo->...io", vectors, matrix)
    left, values, right = svd(seen)
    root = jnp.sqrt(values[..., :rank])
    # the even split is one of how the inputs are scaled: their mean scale stands with U
    mean = jnp.sqrt(jnp.mean(powers, axis=-1))[..., None, None]
    back = jnp.einsum("...ij,...jr->...ir", vectors, left[..., :rank] / scales)
    balance = jnp.sqrt(mean)
    return (
        back * root[..., None, :] * balance,
        root[..., :, None] * right[..., :rank, :] / balance,
    )


def projected(
    model: Any,
    inputs: jax.Array | None = None,
    *,
    blocks: int,
    rank: int | None = None,
    leave_out: tuple[str, ...] = TASKS_OWN,
) -> Any:
    """``model`` with its linear layers replaced by the nearest Monarch layers, or, with a ``rank``,
    block tensor trains: a start for training, since a trained dense layer is far from both.

        min |W - M|_F:   with W as [b, p, c, q], each [p, c] of a b and q is cut to rank 1, or rank

    Source: Dao et al. 2022, arXiv:2204.00595, section 3.3 (Monarch); the same blockwise for more
    ranks. Layers whose widths ``blocks`` does not divide stay, and those that would not be smaller.
    Raises ValueError for blocks below 2, and where there is no layer to project.
    """
    del inputs
    if blocks < 2:
        raise ValueError(f"blocks must be at least 2, but is {blocks}: choose a divisor of widths")

    def rule(layer: Linear) -> Linear:
        *_, a, b = jax.eval_shape(layer.matrix).shape
        r = 1 if rank is None else rank
        pays = r * (a * (b // blocks) + b * blocks) < parameters_of(layer)
        fits = a % blocks == 0 and b % blocks == 0 and r <= min(a // blocks, blocks)
        if is_own(first_variable(layer)) or not (pays and fits):
            return layer
        return _projected(layer, blocks, rank)

    return changed(rule, model, Linear, name="project", leave_out=leave_out)


def _projected(layer: Linear, blocks: int, rank: int | None) -> Linear:
    matrix = layer.matrix()
    *lead, a, b = matrix.shape
    p, c, q = a // blocks, blocks, b // blocks
    blocked = matrix.reshape(*lead, blocks, p, c, q)
    down, up = nearest_factors(jnp.moveaxis(blocked, -1, -3), rank or 1)  # of [b, q, p, c]
    left, right = jnp.moveaxis(down, -3, -2), jnp.moveaxis(up, -4, -3)  # [b, p, q, r], [q, b, r, c]
    if rank is None:
        found: Any = jax.eval_shape(lambda: Monarch(4, 4, blocks=2, rngs=nnx.Rngs(0)))
        left, right = left[..., 0], right[..., 0, :]
        fans = (p, q), (blocks, blocks)
    else:
        found = jax.eval_shape(lambda: BlockTensorTrain(4, 4, blocks=2, rank=1, rngs=nnx.Rngs(0)))
        found.groups, found.rank = q, rank
        fans = (p, q * rank), (blocks * rank, c)
    found.blocks = blocks
    found.left, found.right = _parameter(layer, left, *fans[0]), _parameter(layer, right, *fans[1])
    return found


def _parameter(like: Linear, values: jax.Array, fan_in: int, fan_out: int) -> nnx.Param:
    """A weight array with the notes of another layer's, such as the share that is active."""
    notes = first_variable(like).get_metadata()
    return nnx.Param(values, **{**notes, "fan_in": fan_in, "fan_out": fan_out})

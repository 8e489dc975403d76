"""Single weights set to zero, alone or N of every M: the arrays keep their shapes."""

from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from flax import nnx

from smallnets.compress.factorise import TASKS_OWN
from smallnets.compress.watch import Watched, changed, damped, unwatched, watched
from smallnets.nn import Dense, Linear
from smallnets.nn.parameter import is_own

Score = Literal["greedy", "second_order", "wanda", "magnitude"]

# axes: i input, o output; a column is the weights of one output


def with_zeros(
    model: Any,
    inputs: jax.Array | None = None,
    *,
    share: float = 0.5,
    every: int | None = None,
    method: Score = "second_order",
    compensate: bool = True,
    leave_out: tuple[str, ...] = TASKS_OWN,
) -> Any:
    """``model`` with the ``share`` of each output's weights at zero, in its dense linear layers.

    With G = X^T X of a layer's inputs for ``inputs``, a weight's score is by ``method``:
    ``magnitude`` |W_io|; ``wanda`` |W_io| sqrt(G_ii); ``second_order`` W_io^2 / (G^-1)_ii;
    ``greedy`` that score again after each removal, the others having made up for it. With ``every``
    = M, of each M inputs in a row round(share M) go: 2 of 4 is share .5 with every 4. Where
    ``compensate``, the weights that stay are those of the least squares, as near as can be to what
    they were. Nothing is saved by zeros alone: not bytes, not time; they are a start for what keeps
    them (:func:`smallnets.training.zeros_kept`), and a measure of methods.

    Source: Sun et al. 2023, arXiv:2306.11695 (Wanda, scores compared for each output); Frantar &
    Alistarh 2022, arXiv:2208.11580 (greedy elimination), and 2023, arXiv:2301.00774, for the
    compensation. Raises ValueError for a share outside (0, 1), another method, an ``every`` of
    which the share is nothing or all, and where there is no dense layer.
    """
    _check(share, every, method)
    if inputs is None:
        raise ValueError("weights are chosen by what meets them: give inputs")

    def rule(layer: Linear) -> Linear:
        inner = layer.layer if isinstance(layer, Watched) else layer
        if not isinstance(layer, Watched) or not isinstance(inner, Dense) or is_own(inner.kernel):
            return layer
        rows = inner.kernel.shape[-2]
        if every is not None and rows % every:
            return layer

        def one(weights: jax.Array, gram: jax.Array) -> jax.Array:
            kept = kept_weights(weights, gram, share, every, method)
            return least_squares(weights, gram, kept) if compensate else weights * kept

        for _ in inner.kernel.shape[:-2]:
            one = jax.vmap(one)
        found = jax.tree.map(lambda leaf: leaf, inner)
        values = one(inner.kernel[...], layer.gram[...])
        found.kernel = nnx.Param(values, **inner.kernel.get_metadata())
        return found

    watching = watched(model, inputs)
    return unwatched(changed(rule, watching, Linear, name="zeros", leave_out=leave_out))


def kept_weights(
    weights: jax.Array, gram: jax.Array, share: float, every: int | None, method: Score
) -> jax.Array:
    """[i, o], 1 where a weight stays; of each column, or each M of its rows, as many go."""
    rows, _ = weights.shape
    size = rows if every is None else every
    go = round(share * size)
    if method == "greedy":
        inverse = jnp.linalg.inv(damped(gram, 1e-4))
        return jax.lax.map(lambda column: _eliminated(column, inverse, go, size), weights.T).T
    powers = jnp.diagonal(gram)
    if method == "magnitude":
        scores = jnp.abs(weights)
    elif method == "wanda":
        scores = jnp.abs(weights) * jnp.sqrt(powers)[:, None]
    else:
        inverse = jnp.diagonal(jnp.linalg.inv(damped(gram, 1e-4)))
        scores = jnp.square(weights) / inverse[:, None]
    grouped = scores.reshape(rows // size, size, -1)
    ranks = jnp.argsort(jnp.argsort(grouped, axis=1), axis=1)
    return (ranks >= go).astype(weights.dtype).reshape(weights.shape)


def _eliminated(column: jax.Array, inverse: jax.Array, go: int, size: int) -> jax.Array:
    """[i], 1 where a weight stays: ``go`` of each ``size`` in a row go, the cheapest first."""
    groups = len(column) // size

    def remove(_: jax.Array, state: Any) -> Any:
        column, inverse, kept = state
        left = kept.reshape(groups, size).sum(axis=1)
        may_go = (kept > 0) & jnp.repeat(left > size - go, size)
        diagonal = jnp.where(kept > 0, jnp.diagonal(inverse), 1)
        place = jnp.argmin(jnp.where(may_go, jnp.square(column) / diagonal, jnp.inf))
        row = inverse[place]
        column = column - row * (column[place] / diagonal[place])
        inverse = inverse - row[:, None] * row[None] / diagonal[place]
        kept = kept.at[place].set(0)
        return column * kept, inverse * kept[:, None] * kept[None], kept

    state = column, inverse, jnp.ones_like(column)
    return jax.lax.fori_loop(0, go * groups, remove, state)[2]


def least_squares(weights: jax.Array, gram: jax.Array, kept: jax.Array) -> jax.Array:
    """The weights with zeros where ``kept`` is 0 whose answers are nearest, a column at a time.

    As :func:`smallnets.compress.prune.made_up`, the loss is never above that of zeros alone.
    """
    mean = jnp.trace(gram) / len(gram)

    def column(each: Any) -> jax.Array:
        weights, kept = each
        wanted = kept * jnp.einsum("ij,j->i", gram, weights * (1 - kept))
        square = gram * kept[:, None] * kept[None] + jnp.diag(1e-6 * mean * kept + 1 - kept)
        return kept * (weights + jnp.linalg.solve(square, wanted))

    found = jax.lax.map(column, (weights.T, kept.T)).T
    return jnp.where(mean > 0, found, weights * kept)


def _check(share: float, every: int | None, method: str) -> None:
    if not 0 < share < 1:
        raise ValueError(
            f"share must lie between 0 and 1, but is {share}: it is of the weights that go to zero"
        )
    if every is not None and not 0 < round(share * every) < every:
        raise ValueError(
            f"of every={every} weights some must go and some stay, but share={share} leaves "
            f"{every - round(share * every)}: 2 of 4 is share=0.5 with every=4"
        )
    if method not in get_args(Score):
        raise ValueError(f"method must be one of {', '.join(get_args(Score))}, but is {method}")

"""Hidden units, heads and experts removed: arrays that are smaller, not arrays with zeros."""

from collections.abc import Callable
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from flax import nnx

from smallnets.compress.watch import (
    Watched,
    changed,
    check_share,
    damped,
    first_variable,
    plain,
    unwatched,
    watched,
)
from smallnets.nn import Affine, Attention, Dense, FeedForward, LowRank, Mixture
from smallnets.nn.parameter import Buffer, is_own, is_variable

Method = Literal["greedy", "second_order", "wanda", "magnitude"]

# axes: h hidden units, g groups of h (one head each, or several), o outputs


def without_units(
    model: Any,
    inputs: jax.Array | None = None,
    *,
    keep: float,
    method: Method = "greedy",
    compensate: bool = True,
) -> Any:
    """``model`` with the share ``keep`` of the hidden units of each feed-forward layer.

    With H[n, h] what goes into a layer's second map W[h, o] for ``inputs``, and G = H^T H, a unit's
    score is by ``method``: ``magnitude`` |up_j| |W_j|; ``wanda`` sqrt(G_jj) |W_j|; ``second_order``
    |W_j|^2 / (G^-1)_jj, what removing it costs once the others have made up for it; ``greedy`` that
    score again after each removal. Where ``compensate``, the units K that stay make up for those R
    that go, in the least squares of the layer's answers: W_K <- W_K + G_KK^-1 G_KR W_R.

    Which units go may differ between layers of a stack, how many may not. Source: LeCun et al. 1989
    (optimal brain damage) and Hassibi & Stork 1992 (surgeon) for the scores; Sun et al. 2023,
    arXiv:2306.11695 (Wanda); Kwon et al. 2022, arXiv:2204.09656, for compensation by least squares.
    Raises ValueError for a share outside (0, 1], for another method, and where no feed-forward
    layer of dense or low-rank maps would lose a unit.
    """
    _check(keep, method)
    if keep == 1:
        return model

    def rule(node: FeedForward) -> FeedForward:
        layers = [node.up, node.down, *([] if node.gate is None else [node.gate])]
        if not all(map(_may_be_cut, layers)):
            return node
        *lead, h, _ = jax.eval_shape(linear_of(node.down).matrix).shape
        count = _count(keep, h)
        if count == h:
            return node

        def one(node: FeedForward) -> FeedForward:
            up, down = _matrix(node.up), _matrix(node.down)
            weights = jnp.linalg.norm(up, axis=0) * jnp.linalg.norm(down, axis=1)
            gram = _gram(node.down)
            index = _chosen(down, gram, weights, count, 1, method)
            found = jax.tree.map(lambda leaf: leaf, node)
            found.up, found.down = (
                _outputs(node.up, index),
                _inputs(node.down, index, gram if compensate else None),
            )
            if node.gate is not None:
                found.gate = _outputs(node.gate, index)
            return found

        return _over(lead, one)(node)

    return _passed(rule, model, inputs, FeedForward, "units")


def without_heads(
    model: Any,
    inputs: jax.Array | None = None,
    *,
    keep: float,
    method: Method = "greedy",
    compensate: bool = True,
) -> Any:
    """``model`` with the share ``keep`` of each attention's heads of keys and values.

    A head of keys and values goes together with all query heads that read it, and with the rows of
    the output map that read those, W_g. Scores are those of :func:`without_units` with a group of
    rows in place of one: tr(W_g^T ((G^-1)_gg)^-1 W_g) for ``second_order`` and ``greedy``.
    Raises ValueError as that does.
    """
    _check(keep, method)
    if keep == 1:
        return model

    def rule(node: Attention) -> Attention:
        if not all(map(_may_be_cut, (node.query, node.key, node.value, node.output))):
            return node
        *lead, width, _ = jax.eval_shape(linear_of(node.output).matrix).shape
        groups = jax.eval_shape(linear_of(node.key).matrix).shape[-1] // node.head_dim
        count = _count(keep, groups)
        if count == groups:
            return node

        def one(node: Attention) -> Attention:
            output, gram = _matrix(node.output), _gram(node.output)
            value = _matrix(node.value).reshape(-1, groups, node.head_dim)
            value = jnp.linalg.norm(jnp.moveaxis(value, 1, 0).reshape(groups, -1), axis=-1)
            rows = jnp.linalg.norm(output.reshape(groups, -1), axis=-1)
            size = width // groups
            kept = _chosen(output, gram, value * rows, count, size, method)
            found = jax.tree.map(lambda leaf: leaf, node)
            found.query = _outputs(node.query, _within(kept, size))
            found.key, found.value = (
                _outputs(each, _within(kept, node.head_dim)) for each in (node.key, node.value)
            )
            found.output = _inputs(node.output, _within(kept, size), gram if compensate else None)
            return found

        return _over(lead, one)(node)

    return _passed(rule, model, inputs, Attention, "heads")


def without_experts(model: Any, inputs: jax.Array | None = None, *, keep: float) -> Any:
    """``model`` with the share ``keep`` of each mixture's experts, and of its router's columns.

    Those stay that give most, by the squares of their answers summed over the tokens sent to them
    for ``inputs``. ``top_k`` is at most what is left. Source: Lu et al. 2024, arXiv:2402.14800, who
    search for the set; here the sum over experts is taken. Raises ValueError for a share outside
    (0, 1], and where no mixture of feed-forward experts would lose one.
    """
    _check(keep, "greedy")
    if keep == 1:
        return model

    def rule(node: Mixture) -> Mixture:
        count = _count(keep, node.experts)
        if count == node.experts or not isinstance(node.expert, FeedForward):
            return node
        lead = jax.eval_shape(plain(node.router.score).matrix).shape[:-2]

        def one(node: Mixture) -> Mixture:
            _, index = jax.lax.top_k(given_by_experts(node), count)
            return experts_kept(node, jnp.sort(index))

        return _over(lead, one)(node)

    return _passed(rule, model, inputs, Mixture, "experts")


def given_by_experts(node: Mixture) -> jax.Array:
    """[experts], the squares of each one's answers, summed over its tokens; it must be watched."""
    down = linear_of(node.expert.down).matrix()
    return jnp.einsum("eio,eij,ejo->e", down, _gram(node.expert.down), down)


def experts_kept(node: Mixture, index: jax.Array, expert: Any = None) -> Mixture:
    """A mixture of the experts ``index`` of it, or of ``expert``, its arrays those of one block."""
    count = len(index)
    before = node.top_k / node.experts
    found = jax.tree.map(lambda leaf: leaf, node)
    found.experts, found.top_k = count, min(node.top_k, count)
    found.router.top_k = found.top_k
    found.router.score = _outputs(node.router.score, index)
    if isinstance(bias := getattr(node.router, "bias", None), Buffer):
        found.router.bias = Buffer(bias[...][index], **bias.get_metadata())
    share = found.top_k / count / before

    def kept(variable: Any) -> Any:
        notes = variable.get_metadata()
        if "active" in notes:
            notes = {**notes, "active": min(1.0, notes["active"] * share)}
        values = variable[...][index] if expert is None else variable[...]
        return type(variable)(values, **notes)

    experts = node.expert if expert is None else expert
    found.expert = jax.tree.map(kept, experts, is_leaf=is_variable)
    return found


def _passed(
    rule: Callable[[Any], Any], model: Any, inputs: jax.Array | None, kind: type, name: str
) -> Any:
    if inputs is None:
        raise ValueError(f"{name} are chosen by what goes through them: give inputs")
    return unwatched(changed(rule, watched(model, inputs), kind, name=name))


def _check(keep: float, method: str) -> None:
    check_share("keep", keep)
    if method not in get_args(Method):
        raise ValueError(f"method must be one of {', '.join(get_args(Method))}, but is {method}")


def _count(keep: float, of: int) -> int:
    return max(1, round(keep * of))


def _over(lead: list[int] | tuple[int, ...], rule: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A rule for one block as one for blocks that are stacked on leading axes."""
    for _ in lead:
        rule = jax.vmap(rule)
    return rule


def linear_of(layer: Any) -> Any:
    """The linear map of a layer that may have a bias; it may be watched."""
    return layer.linear if isinstance(layer, Affine) else layer


def _matrix(layer: Any) -> jax.Array:
    return plain(linear_of(layer)).matrix()


def _may_be_cut(layer: Any) -> bool:
    inner = plain(linear_of(layer))
    return isinstance(inner, Dense | LowRank) and not is_own(first_variable(inner))


def _gram(layer: Any) -> jax.Array:
    layer = linear_of(layer)
    assert isinstance(layer, Watched)
    return layer.gram[...]


def _within(groups: jax.Array, size: int) -> jax.Array:
    """The rows of some groups of rows."""
    return (groups[:, None] * size + jnp.arange(size)[None]).reshape(-1)


def _chosen(
    matrix: jax.Array, gram: jax.Array, weights: jax.Array, count: int, size: int, method: Method
) -> jax.Array:
    """The ``count`` groups of ``size`` rows of matrix[h, o] that stay, in their order."""
    groups = len(matrix) // size
    if method == "greedy":
        kept = eliminated(matrix, gram, groups - count, size)
        return jnp.sort(jnp.argsort(~kept, stable=True)[:count])
    if method == "magnitude":
        scores = weights
    elif method == "wanda":
        seen = jnp.sqrt(jnp.diagonal(gram))[:, None] * matrix
        scores = jnp.linalg.norm(seen.reshape(groups, -1), axis=-1)
    else:
        scores = _costs(matrix, jnp.linalg.inv(damped(gram, 1e-4)), size)
    return jnp.sort(jax.lax.top_k(scores, count)[1])


def _costs(matrix: jax.Array, inverse: jax.Array, size: int) -> jax.Array:
    """[g], what the removal of each group costs once the other rows have made up for it."""
    groups = len(matrix) // size
    rows = matrix.reshape(groups, size, -1)
    if size == 1:
        return jnp.sum(jnp.square(rows[:, 0]), axis=-1) / jnp.diagonal(inverse)
    blocks = _blocks(inverse, groups, size)
    return jnp.einsum("gio,gio->g", rows, jnp.linalg.solve(blocks, rows))


def _blocks(square: jax.Array, groups: int, size: int) -> jax.Array:
    """[g, size, size], the blocks on the diagonal."""
    index = jnp.arange(groups)
    return square.reshape(groups, size, groups, size)[index, :, index]


def eliminated(matrix: jax.Array, gram: jax.Array, count: int, size: int = 1) -> jax.Array:
    """[g], whether each group of rows stays where ``count`` go one after another, the cheapest
    first, and after each the others make up for it.

    By G^-1, from which a group is eliminated as in Gauss's method. Source: Hassibi & Stork 1992.
    """
    groups = len(matrix) // size
    start = (matrix, jnp.linalg.inv(damped(gram, 1e-4)), jnp.ones(groups, bool))

    def remove(_: jax.Array, state: Any) -> Any:
        matrix, inverse, kept = state
        # rows that went are zero in all but their own place, which must stay invertible
        gone = jnp.repeat(~kept, size)
        safe = inverse + jnp.diag(gone.astype(inverse.dtype))
        costs = jnp.where(kept, _costs(matrix, safe, size), jnp.inf)
        group = jnp.argmin(costs)
        start = group * size
        columns = jax.lax.dynamic_slice_in_dim(inverse, start, size, axis=1)  # [h, size]
        block = jax.lax.dynamic_slice_in_dim(columns, start, size, axis=0)
        rows = jax.lax.dynamic_slice_in_dim(matrix, start, size, axis=0)
        matrix = matrix - jnp.einsum("hs,so->ho", columns, jnp.linalg.solve(block, rows))
        inverse = inverse - jnp.einsum("hs,sk->hk", columns, jnp.linalg.solve(block, columns.T))
        kept = kept.at[group].set(False)
        stay = jnp.repeat(kept, size)
        matrix = jnp.where(stay[:, None], matrix, 0)
        inverse = jnp.where(stay[:, None] & stay[None], inverse, 0)
        return matrix, inverse, kept

    return jax.lax.fori_loop(0, count, remove, start)[2]


def _outputs(layer: Any, index: jax.Array) -> Any:
    """The layer with some of its outputs."""
    if isinstance(layer, Affine):
        bias = nnx.Param(layer.bias[...][index], **layer.bias.get_metadata())
        return _affine(layer, _outputs(layer.linear, index), bias)
    layer = plain(layer)
    name = "up" if isinstance(layer, LowRank) else "kernel"
    return _with(layer, name, getattr(layer, name)[...][:, index])


def _inputs(layer: Any, index: jax.Array, gram: jax.Array | None) -> Any:
    """The layer with some of its inputs, which make up for the others where there is a Gram."""
    if isinstance(layer, Affine):
        return _affine(layer, _inputs(layer.linear, index, gram), layer.bias)
    layer = plain(layer)
    name = "down" if isinstance(layer, LowRank) else "kernel"
    weights = getattr(layer, name)[...]
    kept = weights[index] if gram is None else made_up(weights, gram, index)
    return _with(layer, name, kept)


def _affine(layer: Affine, linear: Any, bias: nnx.Param) -> Affine:
    found = jax.tree.map(lambda leaf: leaf, layer)
    found.linear, found.bias = linear, bias
    return found


def made_up(weights: jax.Array, gram: jax.Array, index: jax.Array) -> jax.Array:
    """W_K + (G_KK + e I)^-1 G_KR W_R: the rows ``index`` of W[h, o], least squares for all.

    The small e keeps what is solved well posed; as it weighs the change alone, the loss is never
    above that of W_K.
    """
    gone = weights.at[index].set(0)
    wanted = jnp.einsum("kh,ho->ko", gram[index], gone)
    square = damped(gram[index][:, index])
    return weights[index] + jnp.linalg.solve(square, wanted)


def _with(layer: Any, name: str, values: jax.Array) -> Any:
    notes = getattr(layer, name).get_metadata()
    fans = {"fan_in": values.shape[-2], "fan_out": values.shape[-1]}
    found = jax.tree.map(lambda leaf: leaf, layer)
    setattr(found, name, nnx.Param(values, **{**notes, **fans}))
    return found

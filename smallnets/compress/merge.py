"""Experts of a mixture merged into fewer: none is thrown away, alike ones become one."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from smallnets.compress.prune import experts_kept, given_by_experts
from smallnets.compress.watch import changed, check_share, plain, unwatched, watched
from smallnets.nn import Dense, FeedForward, Mixture
from smallnets.nn.parameter import is_variable

# axes: E experts, k of them that lead a group, h hidden units


def merged_experts(model: Any, inputs: jax.Array | None = None, *, keep: float = 0.5) -> Any:
    """``model`` with each mixture's experts merged into the share ``keep`` of them.

    The experts that give most, as in :func:`smallnets.compress.without_experts`, lead a group each;
    every other joins the one whose column of the router is most like its own. A group's expert is
    the mean of its members by what they give, once the hidden units of each are put into the order
    of the leader's that they are most like, one after another; its column of the router is the
    leader's.

    Source: Li et al. 2023, arXiv:2310.01334 (M-SMoE), who group by the router's answers. Raises
    ValueError for a share outside (0, 1], without inputs, and where no mixture of dense
    feed-forward experts would lose one.
    """
    check_share("keep", keep)
    if inputs is None:
        raise ValueError("experts are merged by what goes through them: give inputs")
    if keep == 1:
        return model

    def rule(node: Mixture) -> Mixture:
        count = max(1, round(keep * node.experts))
        expert = node.expert
        if count == node.experts or not isinstance(expert, FeedForward):
            return node
        layers = [each for each in (expert.gate, expert.up, expert.down) if each is not None]
        if not all(isinstance(plain(each), Dense) for each in layers):
            return node

        def one(node: Mixture) -> Mixture:
            given = given_by_experts(node)
            leaders = jnp.sort(jax.lax.top_k(given, count)[1])
            columns = node.router.score.matrix().T
            columns = columns / (jnp.linalg.norm(columns, axis=-1, keepdims=True) + 1e-9)
            likeness = jnp.einsum("ei,ki->ek", columns, columns[leaders])
            own = leaders[None] == jnp.arange(node.experts)[:, None]
            group = jnp.argmax(jnp.where(own, jnp.inf, likeness), axis=-1)  # [E]
            aligned = _aligned(unwatched(node.expert), leaders[group])
            weight = jax.nn.one_hot(group, count) * jnp.maximum(given, 1e-9)[:, None]
            weight = weight / weight.sum(axis=0, keepdims=True)  # [E, k]

            def mean(variable: nnx.Variable) -> nnx.Variable:
                values = jnp.einsum("e...,ek->k...", variable[...], weight)
                return type(variable)(values, **variable.get_metadata())

            expert = jax.tree.map(mean, aligned, is_leaf=is_variable)
            return experts_kept(node, leaders, expert)

        for _ in jax.eval_shape(plain(node.router.score).matrix).shape[:-2]:
            one = jax.vmap(one)
        return one(node)

    return unwatched(changed(rule, watched(model, inputs), Mixture, name="merge_experts"))


def _aligned(experts: FeedForward, leader: jax.Array) -> FeedForward:
    """Stacked experts with hidden units in the order of those of expert ``leader[e]``."""
    found = jax.tree.map(lambda leaf: leaf, experts)
    maps = [each for each in (experts.gate, experts.up) if each is not None]
    units = jnp.concatenate(
        [*(each.matrix().swapaxes(-1, -2) for each in maps), experts.down.matrix()], axis=-1
    )  # [E, h, features]
    likeness = jnp.einsum("ehf,eqf->ehq", units[leader], units)
    order = jax.vmap(_matched)(likeness)  # [E, h]
    for name in ("gate", "up", "down"):
        layer = getattr(experts, name)
        if layer is None:
            continue
        kernel, axis = layer.kernel, 1 if name == "down" else 2
        index = order[:, :, None] if name == "down" else order[:, None, :]
        values = jnp.take_along_axis(kernel[...], index, axis=axis)
        copy = jax.tree.map(lambda leaf: leaf, layer)
        copy.kernel = nnx.Param(values, **kernel.get_metadata())
        setattr(found, name, copy)
    return found


def _matched(likeness: jax.Array) -> jax.Array:
    """[h], for each row a column, none twice: the largest entry that is left, again and again."""
    size = len(likeness)

    def match(_: jax.Array, state: Any) -> Any:
        likeness, order = state
        place = jnp.argmax(likeness)
        row, column = place // size, place % size
        order = order.at[row].set(column)
        likeness = likeness.at[row].set(-jnp.inf).at[:, column].set(-jnp.inf)
        return likeness, order

    return jax.lax.fori_loop(0, size, match, (likeness, jnp.zeros(size, jnp.int32)))[1]

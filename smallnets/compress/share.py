"""The blocks of a trained stack tied: a few are called several times."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from smallnets.compress.factorise import nearest_factors
from smallnets.compress.watch import Watched, changed, plain, unwatched, watched
from smallnets.nn import Linear, LowRank, Relaxed, Stack
from smallnets.nn.parameter import OWN, is_own, is_variable


def tied(
    model: Any,
    inputs: jax.Array | None = None,
    *,
    unique: int = 1,
    rank: int = 0,
) -> Any:
    """``model`` with the blocks of its stacks tied to ``unique`` ones, each the mean of its group.

    The groups are those whose calls the stack shares, in its order. With a ``rank``, each call adds
    to each linear layer the difference of that rank that brings back most of what the mean lost, on
    the inputs that call had before: the weighted low-rank layer nearest to W_i - mean, as in
    :func:`smallnets.compress.low_rank`.

    Source: Bae et al. 2024, arXiv:2410.20672, section 2.2, who take a plain decomposition. Raises
    ValueError where ``unique`` doesn't divide the blocks or ties none, for a rank below 0, and
    where there is no stack of blocks that are called once.
    """
    if rank < 0:
        raise ValueError(f"rank must be at least 0, but is {rank}: 0 is plain sharing")
    if rank and inputs is None:
        raise ValueError("differences are fitted to what goes in: give inputs, or set rank to 0")

    def rule(stack: Stack) -> Stack:
        depth = stack.unique * stack.loops
        if stack.loops > 1:
            return stack
        if unique < 1 or depth % unique or unique >= depth:
            raise ValueError(
                f"unique must divide the {depth} blocks and be fewer, but is {unique}: choose one "
                f"of {', '.join(str(n) for n in range(1, depth) if depth % n == 0)}"
            )
        found = jax.tree.map(lambda leaf: leaf, stack)
        found.unique, found.loops = unique, depth // unique
        found.blocks = jax.tree.map(
            lambda node: _tied(node, unique, stack.order, rank),
            stack.blocks,
            is_leaf=lambda node: isinstance(node, Linear) or is_variable(node),
        )
        return found

    seen = model if inputs is None or not rank else watched(model, inputs)
    return unwatched(changed(rule, seen, Stack, name="tie"))


def _tied(node: Any, unique: int, order: str, rank: int) -> Any:
    """A layer or a variable of all blocks, [depth, ...], as one of the tied blocks."""
    if not isinstance(node, Linear):
        return _mean(node, unique, order)
    layer = plain(node)
    mean = jax.tree.map(lambda each: _mean(each, unique, order), layer, is_leaf=is_variable)
    leaves = jax.tree.leaves(layer, is_leaf=is_variable)
    if not isinstance(node, Watched) or layer.matrix().ndim != 3 or any(map(is_own, leaves)):
        return mean
    shared = mean.matrix()  # [unique, i, o]
    lost = layer.matrix() - _called(shared, layer.matrix().shape[0], order)
    smaller = min(rank, *lost.shape[-2:])
    down, up = nearest_factors(lost, smaller, node.gram[...])
    difference = jax.eval_shape(lambda: LowRank(4, 4, rank=1, rngs=nnx.Rngs(0)))
    difference.rank = smaller
    for name, values in (("down", down), ("up", up)):
        fans = {"fan_in": values.shape[-2], "fan_out": values.shape[-1]}
        setattr(difference, name, nnx.Param(values, **fans, **{OWN: True}))
    relaxed = jax.eval_shape(
        lambda: Relaxed(
            4, 4, linear=lambda a, b, rngs: LowRank(a, b, rank=1, rngs=rngs), rank=1,
            rngs=nnx.Rngs(0),
        )
    )  # fmt: skip
    relaxed.shared, relaxed.difference = mean, difference
    return relaxed


def _mean(variable: nnx.Variable, unique: int, order: str) -> nnx.Variable:
    values = variable[...]
    loops = values.shape[0] // unique
    if order == "cyclic":
        mean = values.reshape(loops, unique, *values.shape[1:]).mean(axis=0)
    else:
        mean = values.reshape(unique, loops, *values.shape[1:]).mean(axis=1)
    return type(variable)(mean, **variable.get_metadata())


def _called(shared: jax.Array, depth: int, order: str) -> jax.Array:
    """[depth, ...], the block of each call."""
    index = jnp.arange(depth)
    unique = shared.shape[0]
    return shared[index % unique if order == "cyclic" else index // (depth // unique)]

"""Dispatch tokens to experts and combine their outputs: a plan says which choice each row holds."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from smallnets.nn.routing import Routing

# axes: T tokens, n choices, E experts, C slots of an expert, R rows, B rows of a block


class Plan(NamedTuple):
    """Where each choice goes.

    ``choice[groups, C]`` is the choice in each row, n where there is none; ``row[n]`` the row of
    each choice, R where it was dropped. Group g of the rows belongs to expert g, or with
    ``expert[groups]`` to that expert. Rows without a choice hold tokens all the same, of weight 0,
    in turn: experts that route in their turn would send zeros all to one of theirs.
    """

    choice: jax.Array
    row: jax.Array
    expert: jax.Array | None = None

    def kept(self) -> jax.Array:
        """[n], whether each choice is computed."""
        return self.row < self.choice.size

    def apply(self, experts: Any, tokens: jax.Array, routing: Routing) -> jax.Array:
        """tokens[T, d] -> [T, d_out]: for each token the weighted sum over its choices."""
        filling = jnp.arange(self.choice.size, dtype=self.choice.dtype) % len(tokens)
        choice = self.choice.reshape(-1)
        token = jnp.where(choice < self.row.size, routing.tokens_of(choice), filling)
        rows = _taken(tokens, token, self.row, routing).reshape(*self.choice.shape, -1)
        if self.expert is None:
            rows = jax.vmap(lambda expert, rows: expert(rows))(experts, rows)
        else:
            rows = run_blocks(experts, rows, self.expert)
        weight = routing.weight.at[self.choice].get(mode="fill", fill_value=0)
        weighted = (weight[..., None] * rows).reshape(token.size, -1)
        return _given(weighted, token, self.row, routing)


def capacity(tokens: int, experts: int, top_k: int, capacity_factor: float) -> int:
    """Slots of each expert, C = ceil(capacity_factor T k / E), at most T (a token comes once)."""
    wanted = round(capacity_factor * tokens * top_k / experts, 9)  # 1.1 * 100 / 10 is just above 11
    return min(tokens, math.ceil(wanted))


def capacity_plan(routing: Routing, *, experts: int, slots: int) -> Plan:
    """Every expert takes ``slots`` choices, in their order; what finds no slot is dropped.

    Rows: E C, computed whether filled or not. Source: Lepikhin et al. 2020, arXiv:2006.16668.
    """
    place, _ = _queues(routing.expert, experts)
    row = jnp.where(place < slots, routing.expert * slots + place, experts * slots)
    return Plan(_inverse(row, experts * slots).reshape(experts, slots), row)


def dropless_plan(routing: Routing, *, experts: int, block: int) -> Plan:
    """Every choice is computed: each expert's are filled up to whole blocks of ``block`` rows.

    Rows: the whole blocks of the n + e (B - 1) that e = min(E, n) unlucky experts fill, so fewer
    than n + e B.
    Source: Gale et al. 2022, arXiv:2211.15841 (MegaBlocks).
    """
    place, counts = _queues(routing.expert, experts)
    ends = jnp.cumsum(-(-counts // block), dtype=counts.dtype)  # in blocks
    starts = jnp.concatenate([jnp.zeros_like(ends[:1]), ends[:-1]])
    row = starts[routing.expert] * block + place
    choices = routing.expert.size
    blocks = (choices + min(experts, choices) * (block - 1)) // block
    index = jnp.arange(blocks, dtype=ends.dtype)
    expert = jnp.sum(index[:, None] >= ends[None, :-1], axis=1, dtype=ends.dtype)
    return Plan(_inverse(row, blocks * block).reshape(blocks, block), row, expert)


def block_rows(choices: int, experts: int) -> int:
    """Rows of a block: a power of two from 8 to 128, so that filling up takes a share of the work.

    A block has a product for each weight array of its expert, so it should be large; the experts
    fill up half a block each on average, so it should be small. With no more choices than experts
    each choice is a block.
    """
    if choices <= experts:
        return 1
    fair = choices / experts / 4
    return 2 ** min(7, max(3, math.ceil(math.log2(max(fair, 1)))))


def _queues(expert: jax.Array, experts: int) -> tuple[jax.Array, jax.Array]:
    """Each choice's place in its expert's queue, [n], and the queues' lengths, [E]."""
    order = jnp.argsort(expert, stable=True).astype(expert.dtype)
    index = jnp.arange(experts, dtype=expert.dtype)
    counts = jnp.sum(expert[None] == index[:, None], axis=1, dtype=expert.dtype)
    starts = jnp.cumsum(counts, dtype=expert.dtype) - counts
    return _inverse(order, expert.size) - starts[expert], counts


def _inverse(index: jax.Array, size: int) -> jax.Array:
    """[size]: where each number below ``size`` stands in ``index``, or its length where nowhere."""
    positions = jnp.arange(index.size, dtype=index.dtype)
    return jnp.full(size, index.size, index.dtype).at[index].set(positions, mode="drop")


# Taking a token's row for each choice and giving each token the sum of its choices' rows are
# transposes of each other, as rows without a choice count for nothing. Said so, the backward pass
# gathers where it would else scatter.


@jax.custom_vjp
def _taken(x: jax.Array, token: jax.Array, row: jax.Array, routing: Routing) -> jax.Array:
    """x[T, d] -> [R, d]: in each row its token."""
    del row, routing
    return x.at[token].get(mode="promise_in_bounds")


@jax.custom_vjp
def _given(rows: jax.Array, token: jax.Array, row: jax.Array, routing: Routing) -> jax.Array:
    """rows[R, d] -> [T, d]: for each token the sum of its choices' rows, but of dropped ones."""
    del token
    return routing.total(rows.at[row].get(mode="fill", fill_value=0))


_taken.defvjp(
    lambda x, *plan: (_taken(x, *plan), plan),
    lambda plan, cotangent: (_given(cotangent, *plan), None, None, None),
)
_given.defvjp(
    lambda rows, *plan: (_given(rows, *plan), plan),
    lambda plan, cotangent: (_taken(cotangent, *plan), None, None, None),
)


# axes: N blocks, B rows, E layers


def run_blocks(layers: Any, rows: jax.Array, which: jax.Array) -> jax.Array:
    """rows[N, B, d] -> [N, B, d_out], block n by the layer ``which[n]`` of E stacked ones.

    The way is chosen when the program is lowered for a platform: on a CPU one block after another,
    elsewhere side by side.
    """
    return jax.lax.platform_dependent(layers, rows, which, cpu=in_turn, default=side_by_side)


def side_by_side(layers: Any, rows: jax.Array, which: jax.Array) -> jax.Array:
    """All blocks as batched products; takes N copies of a layer's parameters and gradients.

    Keeps a device with thousands of lanes busy; a CPU waits for its memory.
    """
    return jax.vmap(lambda each, rows: each(rows))(_pick(layers, which), rows)


@jax.custom_vjp
def in_turn(layers: Any, rows: jax.Array, which: jax.Array) -> jax.Array:
    """One block after another, in a ``lax.scan``.

    The backward pass picks each block's layer again instead of keeping N copies of its parameters,
    adds its gradient in place, and computes everything but the products again instead of reading
    it from memory. ``args_res`` are the arguments that a VJP saves: JAX documentation, First-class
    VJPs.
    """
    return jax.lax.map(lambda block: _call(_pick(layers, block[1]), block[0]), (rows, which))


def _call(each: Any, rows: jax.Array) -> jax.Array:
    return each(rows)


_call_and_keep_products = jax.checkpoint(_call, policy=jax.checkpoint_policies.dots_saveable)


def _pick(layers: Any, index: jax.Array) -> Any:
    return jax.tree.map(lambda leaf: leaf.at[index].get(mode="promise_in_bounds"), layers)


def _forward(layers: Any, rows: jax.Array, which: jax.Array) -> tuple[jax.Array, Any]:
    def block(_: None, each: tuple[jax.Array, jax.Array]) -> tuple[None, Any]:
        rows, index = each
        y, pull = jax.vjp(_call_and_keep_products, _pick(layers, index), rows)
        pull.args_res[:] = [None, None]  # known in the backward pass
        return None, (y, pull)

    y, pulls = jax.lax.scan(block, None, (rows, which))[1]
    return y, (layers, rows, which, pulls)


def _backward(residuals: Any, cotangent: jax.Array) -> tuple[Any, jax.Array, None]:
    layers, rows, which, pulls = residuals
    leaves, tree = jax.tree.flatten(layers)
    places = [i for i, leaf in enumerate(leaves) if jnp.issubdtype(leaf.dtype, jnp.inexact)]

    def block(gradients: list[jax.Array], each: Any) -> tuple[list[jax.Array], jax.Array]:
        rows, index, pull, cotangent = each
        pull.args_res[:] = [_pick(layers, index), rows]
        gradient, to_rows = pull(cotangent)
        ours = jax.tree.leaves(gradient)
        add = [
            total.at[index].add(ours[place], mode="promise_in_bounds")
            for total, place in zip(gradients, places, strict=True)
        ]
        return add, to_rows

    zeros = [jnp.zeros_like(leaves[place]) for place in places]
    found, to_rows = jax.lax.scan(block, zeros, (rows, which, pulls, cotangent))
    # codes of quantised weights are whole numbers, which have no gradient
    gradients: list[Any] = [np.zeros(leaf.shape, jax.dtypes.float0) for leaf in leaves]
    for place, gradient in zip(places, found, strict=True):
        gradients[place] = gradient
    return jax.tree.unflatten(tree, gradients), to_rows, None


in_turn.defvjp(_forward, _backward)

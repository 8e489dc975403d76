"""Tokens to their experts and back: only the rows that experts have room for are computed."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from smallnets.nn.routing import Assignment

# axes: T tokens, k choices of a token, E experts, C slots of an expert


def capacity(tokens: int, experts: int, top_k: int, capacity_factor: float) -> int:
    """Slots of each expert, C = ceil(capacity_factor T k / E), at most T (a token comes once)."""
    wanted = round(capacity_factor * tokens * top_k / experts, 9)  # 1.1 * 100 / 10 is just above 11
    return min(tokens, math.ceil(wanted))


class CapacityDispatch(NamedTuple):
    """Every expert takes C tokens: first choices before second ones, earlier tokens first.

    What finds no slot is dropped: that expert adds nothing to that token.

    ``token[E, C]`` is the token in each slot, ``filled[E, C]`` whether there is one,
    ``slot[k, T]`` where each choice went (e C + c), ``weight[k, T]`` its weight, 0 if dropped.
    """

    token: jax.Array
    filled: jax.Array
    slot: jax.Array
    weight: jax.Array

    @classmethod
    def plan(cls, assignment: Assignment, *, experts: int, slots: int) -> "CapacityDispatch":
        tokens = assignment.experts.shape[0]
        expert = assignment.experts.T.reshape(-1)  # [k T], all first choices first
        order = jnp.argsort(expert, stable=True).astype(expert.dtype)
        index = jnp.arange(experts, dtype=expert.dtype)
        counts = jnp.sum(expert[None] == index[:, None], axis=1, dtype=expert.dtype)
        starts = jnp.cumsum(counts, dtype=expert.dtype) - counts
        place = jnp.argsort(order).astype(expert.dtype) - starts[expert]  # in its expert's queue
        c = jnp.arange(slots, dtype=expert.dtype)
        source = order[jnp.minimum(starts[:, None] + c[None], expert.size - 1)]
        kept = (place < slots).reshape(-1, tokens)
        return cls(
            token=source % tokens,
            filled=c[None] < counts[:, None],
            slot=(expert * slots + jnp.minimum(place, slots - 1)).reshape(-1, tokens),
            weight=jnp.where(kept, assignment.weights.T, 0),
        )

    def dispatch(self, x: jax.Array) -> jax.Array:
        """x[T, d] -> [E, C, d]; empty slots hold zeros."""
        return jnp.where(self.filled[..., None], x[self.token], 0)

    def combine(self, y: jax.Array) -> jax.Array:
        """y[E, C, d] -> [T, d]: the weighted sum over each token's choices."""
        rows = y.reshape(-1, y.shape[-1])[self.slot]
        return jnp.sum(self.weight[..., None] * rows, axis=0)

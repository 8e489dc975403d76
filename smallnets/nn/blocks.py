"""One of several maps of one kind for each block of rows, without a copy of its parameters."""

from typing import Any

import jax
import jax.numpy as jnp

# axes: N blocks, B rows, E maps


def run_blocks(maps: Any, rows: jax.Array, which: jax.Array) -> jax.Array:
    """rows[N, B, d] -> [N, B, d_out], block n by the map ``which[n]`` of the E stacked ``maps``.

    The way is chosen for JAX's default backend: on a CPU one block after another, elsewhere side by
    side.
    """
    if jax.default_backend() == "cpu":
        return in_turn(maps, rows, which)
    return side_by_side(maps, rows, which)


def side_by_side(maps: Any, rows: jax.Array, which: jax.Array) -> jax.Array:
    """All blocks as batched products. Takes N copies of a map's parameters, and of their gradient.

    Keeps a device with thousands of lanes busy; a CPU waits for its memory.
    """
    return jax.vmap(lambda each, rows: each(rows))(_pick(maps, which), rows)


@jax.custom_vjp
def in_turn(maps: Any, rows: jax.Array, which: jax.Array) -> jax.Array:
    """One block after another, in a ``lax.scan``.

    The backward pass picks each block's map again instead of keeping N copies of its parameters,
    adds its gradient in place, and computes everything but the products again instead of reading
    it from memory. ``args_res`` are the arguments that a VJP saves: JAX documentation, First-class
    VJPs.
    """
    return jax.lax.map(lambda block: _call(_pick(maps, block[1]), block[0]), (rows, which))


def _call(each: Any, rows: jax.Array) -> jax.Array:
    return each(rows)


_call_and_keep_products = jax.checkpoint(_call, policy=jax.checkpoint_policies.dots_saveable)


def _pick(maps: Any, index: jax.Array) -> Any:
    return jax.tree.map(lambda leaf: leaf.at[index].get(mode="promise_in_bounds"), maps)


def _forward(maps: Any, rows: jax.Array, which: jax.Array) -> tuple[jax.Array, Any]:
    def block(_: None, each: tuple[jax.Array, jax.Array]) -> tuple[None, Any]:
        rows, index = each
        y, pull = jax.vjp(_call_and_keep_products, _pick(maps, index), rows)
        pull.args_res[:] = [None, None]  # known in the backward pass
        return None, (y, pull)

    y, pulls = jax.lax.scan(block, None, (rows, which))[1]
    return y, (maps, rows, which, pulls)


def _backward(residuals: Any, cotangent: jax.Array) -> tuple[Any, jax.Array, None]:
    maps, rows, which, pulls = residuals

    def block(gradients: Any, each: Any) -> tuple[Any, jax.Array]:
        rows, index, pull, cotangent = each
        pull.args_res[:] = [_pick(maps, index), rows]
        gradient, to_rows = pull(cotangent)
        add = jax.tree.map(
            lambda total, one: total.at[index].add(one, mode="promise_in_bounds"),
            gradients,
            gradient,
        )
        return add, to_rows

    zeros = jax.tree.map(jnp.zeros_like, maps)
    gradients, to_rows = jax.lax.scan(block, zeros, (rows, which, pulls, cotangent))
    return gradients, to_rows, None


in_turn.defvjp(_forward, _backward)

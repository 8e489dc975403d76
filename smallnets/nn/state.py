"""What a training step has to tell besides its loss, past the optimiser and into a run's curves."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from smallnets.nn.parameter import is_variable


class State(nnx.Variable):
    """An array that each training step adds to what the model reports; no gradient trains it."""


class Statistic(State):
    """Sum and number of the reports since the evaluation before, [2]: their mean is a curve.

    The metadata ``curve`` is its name. Mixtures that report under one name share a curve.
    """


def statistic(curve: str) -> Statistic:
    return Statistic(jnp.zeros(2), curve=curve)


def report(x: jax.Array, state: State, value: jax.Array) -> jax.Array:
    """x itself; in the backward pass ``value`` is the cotangent of ``state``, to be added to it.

    So a map keeps one signature, x -> y, wherever it is nested, in a ``lax.scan`` too. It costs
    nothing in a forward pass. A block that is called several times reports the sum of its calls.
    For a :class:`Statistic`, ``value`` is a number.
    """
    value = jax.lax.stop_gradient(value)
    if isinstance(state, Statistic):
        value = jnp.stack([value, jnp.ones_like(value)])
    return _attach(x, state[...], value)


@jax.custom_vjp
def _attach(x: jax.Array, state: jax.Array, value: jax.Array) -> jax.Array:
    del state, value
    return x


def _forward(x: jax.Array, state: jax.Array, value: jax.Array) -> tuple[jax.Array, jax.Array]:
    del state
    return x, value


def _backward(value: jax.Array, cotangent: jax.Array) -> tuple[jax.Array, ...]:
    return cotangent, value, jnp.zeros_like(value)


_attach.defvjp(_forward, _backward)


def emptied(states: Any) -> Any:
    """``states`` with every statistic at zero; what is no statistic stays."""
    return jax.tree.map(
        lambda leaf: jax.tree.map(jnp.zeros_like, leaf) if isinstance(leaf, Statistic) else leaf,
        states,
        is_leaf=is_variable,
    )


def means(states: Any) -> dict[str, jax.Array]:
    """The mean of each curve's reports, over all statistics of its name; NaN without a report."""
    totals: dict[str, jax.Array] = {}
    for leaf in jax.tree.leaves(states, is_leaf=is_variable):
        if isinstance(leaf, Statistic):
            curve = leaf.get_metadata("curve")
            totals[curve] = totals.get(curve, jnp.zeros(2)) + leaf[...].reshape(-1, 2).sum(axis=0)
    return {curve: total[0] / total[1] for curve, total in totals.items()}

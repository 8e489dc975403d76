"""The two kinds of leaf that a model has: what is trained, and what is merely carried along."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

Factory = Callable[..., Any]  # (d_in, d_out, *, rngs) -> map; a map is called like a function


class Constant(nnx.Variable):
    """A number of a model that no optimiser touches; a leaf, so that it may be a tracer."""


def kernel(rngs: nnx.Rngs, *shape: int, fan_in: int, fan_out: int) -> nnx.Param:
    """A weight array drawn from N(0, 1 / fan_in), so that products keep variance 1.

    ``fan_in`` and ``fan_out``, those of the one product that it takes part in, stay with the
    parameter as metadata, through ``vmap``, ``scan`` and ``jit``: only parameters that have them
    are decayed. Raises ValueError where an axis is empty.
    """
    if min(shape) < 1:
        raise ValueError(
            f"each axis of a weight array must be 1 or longer, but one would be "
            f"{' x '.join(map(str, shape))}: choose widths, hidden sizes and vocabularies from 1"
        )
    values = jax.random.normal(rngs.params(), shape) / jnp.sqrt(fan_in)
    return nnx.Param(values, fan_in=fan_in, fan_out=fan_out)


def constant(value: Any) -> Constant:
    return Constant(jnp.asarray(value, float))


def stacked(factory: Factory, key: jax.Array, count: int) -> Any:
    """``count`` independent modules as one, each parameter with a leading axis of that length."""
    return jax.vmap(lambda key: factory(rngs=nnx.Rngs(params=key)))(jax.random.split(key, count))


def scale_active(model: Any, share: float) -> Any:
    """``model`` with the note, on each parameter, that one token uses only this share of it.

    The note is the metadata ``active``; shares of nested mixtures multiply.
    """

    def note(variable: nnx.Variable) -> nnx.Variable:
        if not isinstance(variable, nnx.Param):
            return variable
        metadata = variable.get_metadata()
        return nnx.Param(
            variable[...], **{**metadata, "active": share * metadata.get("active", 1.0)}
        )

    return jax.tree.map(note, model, is_leaf=is_variable)


def is_variable(leaf: Any) -> bool:
    return isinstance(leaf, nnx.Variable)


def partition(model: Any, kind: type[nnx.Variable] = nnx.Param) -> tuple[Any, Any]:
    """Two trees of the model's shape: its leaves of one kind, and all the rest; None elsewhere."""

    def keep(wanted: bool) -> Any:
        return jax.tree.map(
            lambda leaf: leaf if isinstance(leaf, kind) is wanted else None,
            model,
            is_leaf=is_variable,
        )

    return keep(True), keep(False)


def combine(parameters: Any, rest: Any) -> Any:
    """The inverse of :func:`partition`."""
    return jax.tree.map(
        lambda parameter, other: other if parameter is None else parameter,
        parameters,
        rest,
        is_leaf=lambda leaf: leaf is None or is_variable(leaf),
    )

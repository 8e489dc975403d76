"""The leaves of a model: parameters, hyperparameters, and the buffers that a backward pass updates.

Statistics and buffers are sent as cotangents, past the optimiser and into a run's curves. A salt is
where a layer that draws in training gets its bits from.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

Factory = Callable[..., Any]  # (d_in, d_out, *, rngs) -> layer, which is called like a function


LARGEST = 2**40  # numbers in one array: beyond, a program's own counts of bytes may overflow


class Hyperparameter(nnx.Variable):
    """A number of a model that no optimiser touches; a leaf, so that it may be a tracer."""


class Undrawn(nnx.Rngs):
    """The streams of a network of which only shapes are asked for: its kernels are zeros.

    Otherwise what is drawn takes most of the time that ``jax.eval_shape`` needs to trace it.
    """


def kernel(rngs: nnx.Rngs, *shape: int, fan_in: int, fan_out: int) -> nnx.Param:
    """A weight array drawn from N(0, 1 / fan_in), so that products keep variance 1.

    ``fan_in`` and ``fan_out``, those of the one product that it takes part in, stay with the
    parameter as metadata, through ``vmap``, ``scan`` and ``jit``: only parameters that have them
    are decayed. Raises ValueError where an axis is empty, and for more than 2^40 numbers.
    """
    if min(shape) < 1:
        raise ValueError(
            f"each axis of a weight array must be 1 or longer, but one would be "
            f"{' x '.join(map(str, shape))}: choose widths, hidden sizes and vocabularies from 1"
        )
    if math.prod(shape) > LARGEST:
        raise ValueError(
            f"a weight array may hold up to 2^40 numbers, 4 TB, but one would be "
            f"{' x '.join(map(str, shape))}: choose smaller widths, hidden sizes and vocabularies"
        )
    if isinstance(rngs, Undrawn):
        values = jnp.zeros(shape)
    else:
        values = jax.random.normal(rngs.params(), shape) / jnp.sqrt(fan_in)
    return nnx.Param(values, fan_in=fan_in, fan_out=fan_out)


def hyperparameter(value: Any) -> Hyperparameter:
    return Hyperparameter(jnp.asarray(value, float))


def stacked(factory: Factory, rngs: nnx.Rngs, count: int) -> Any:
    """``count`` independent modules as one, each parameter with a leading axis of that length."""
    if isinstance(rngs, Undrawn):
        module = factory(rngs=rngs)
        return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (count, *leaf.shape)), module)
    keys = jax.random.split(rngs.params(), count)
    return jax.vmap(lambda key: factory(rngs=nnx.Rngs(params=key)))(keys)


def unstacked(module: Any, count: int) -> list[Any]:
    """The inverse of :func:`stacked`: the modules of the leading axis, one by one."""
    return [jax.tree.map(lambda leaf, index=index: leaf[index], module) for index in range(count)]


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


OWN = "own"  # metadata of a parameter: each call of a shared block has its own value of it


def is_own(leaf: object) -> bool:
    """Whether a leaf of a block is a variable that each call has for itself."""
    return isinstance(leaf, nnx.Variable) and bool(leaf.get_metadata(OWN, False))


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


class Buffer(nnx.Variable):
    """An array that each training step adds to what the model reports; no gradient trains it."""


class Salt(nnx.Variable):
    """The data of a random key, of a layer that draws in training: no gradient, no report.

    It is drawn when the layer is built, so that stacked layers have one each.
    """


def training(model: Any, key: jax.Array) -> Any:
    """``model`` as a training step calls it; the very same model where no layer differs in one.

    In the copy each module with an attribute ``deterministic`` has it False, and its ``salt``, if
    it has one, is folded with ``key``, that of the step: stacked layers draw other bits each.
    Evaluations and kept models never see the copy.
    """
    if not any(hasattr(module, "deterministic") for _, module in nnx.iter_modules(model)):
        return model
    step = jax.random.bits(key)
    copy = jax.tree.map(lambda leaf: leaf, model)

    def change(module: Any) -> None:
        if hasattr(module, "deterministic"):
            module.deterministic = False
            if hasattr(module, "salt"):
                module.salt = _folded(module.salt, step)

    for _, module in nnx.iter_modules(copy):
        change(module)
    return copy


def _folded(salt: Salt, data: jax.Array) -> Salt:
    """Each key of a salt, [..., words], with ``data`` folded in."""
    keys = jax.random.wrap_key_data(salt[...])
    folded = jax.vmap(lambda key: jax.random.fold_in(key, data))(keys.reshape(-1))
    return Salt(jax.random.key_data(folded.reshape(keys.shape)))


class Statistic(Buffer):
    """Sum and number of the reports since the evaluation before, [2]: their mean is a curve.

    The metadata ``curve`` is its name. Mixtures that report under one name share a curve.
    """


def statistic(curve: str) -> Statistic:
    return Statistic(jnp.zeros(2), curve=curve)


def report(x: jax.Array, buffer: Buffer, value: jax.Array) -> jax.Array:
    """x itself; in the backward pass ``value`` is the cotangent of ``buffer``, to be added to it.

    So a layer keeps one signature, x -> y, wherever it is nested, in a ``lax.scan`` too. It costs
    nothing in a forward pass. A block that is called several times reports the sum of its calls.
    For a :class:`Statistic`, ``value`` is a number.
    """
    value = jax.lax.stop_gradient(value)
    if isinstance(buffer, Statistic):
        value = jnp.stack([value, jnp.ones_like(value)])
    return _attach(x, buffer[...], value)


@jax.custom_vjp
def _attach(x: jax.Array, buffer: jax.Array, value: jax.Array) -> jax.Array:
    del buffer, value
    return x


def _forward(x: jax.Array, buffer: jax.Array, value: jax.Array) -> tuple[jax.Array, jax.Array]:
    del buffer
    return x, value


def _backward(value: jax.Array, cotangent: jax.Array) -> tuple[jax.Array, ...]:
    return cotangent, value, jnp.zeros_like(value)


_attach.defvjp(_forward, _backward)


def emptied(buffers: Any) -> Any:
    """``buffers`` with every statistic at zero; what is no statistic stays."""
    return jax.tree.map(
        lambda leaf: jax.tree.map(jnp.zeros_like, leaf) if isinstance(leaf, Statistic) else leaf,
        buffers,
        is_leaf=is_variable,
    )


def means(buffers: Any) -> dict[str, jax.Array]:
    """The mean of each curve's reports, over all statistics of its name; NaN without a report."""
    totals: dict[str, jax.Array] = {}
    for leaf in jax.tree.leaves(buffers, is_leaf=is_variable):
        if isinstance(leaf, Statistic):
            curve = leaf.get_metadata("curve")
            totals[curve] = totals.get(curve, jnp.zeros(2)) + leaf[...].reshape(-1, 2).sum(axis=0)
    return {curve: total[0] / total[1] for curve, total in totals.items()}

"""What a network costs, by each axis that a budget may set."""

import contextlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from smallnets.measure import flops
from smallnets.measure.latency import latencies
from smallnets.measure.parameters import parameter_bytes, parameters

TIMED_BYTES = 2**30  # no larger network is put on the device to be timed


class Cost(NamedTuple):
    """What a network costs by one axis, and half the range of the quartiles if it was timed."""

    amount: float
    spread: float = 0.0


def _params(model: nnx.Module, batch: jax.ShapeDtypeStruct) -> Cost:
    return Cost(parameters(model).stored)


def _active_params(model: nnx.Module, batch: jax.ShapeDtypeStruct) -> Cost:
    return Cost(parameters(model).active)


def _flops(model: nnx.Module, batch: jax.ShapeDtypeStruct) -> Cost:
    forward = flops.count(lambda model, inputs: model(inputs), model, batch)
    return Cost(forward.per(batch.shape[0]).products)


def _bytes(model: nnx.Module, batch: jax.ShapeDtypeStruct) -> Cost:
    return Cost(parameter_bytes(model))


def _latency_ms(model: nnx.Module, batch: jax.ShapeDtypeStruct) -> Cost:
    needed = parameter_bytes(model)
    if needed > TIMED_BYTES:
        raise ValueError(
            f"budget.latency_ms needs a network larger than is timed here: {needed:,} bytes of "
            f"parameters are not yet slow enough, {TIMED_BYTES:,} are the most: lower the budget"
        )
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), model)
    example = jnp.zeros((1, *batch.shape[1:]), batch.dtype)
    [timing] = latencies({"network": zeros}, example, batch_sizes=(1,), rounds=25)
    spread = (timing.upper_quartile_seconds - timing.lower_quartile_seconds) / 2
    return Cost(1e3 * timing.median_seconds, 1e3 * spread)


AXES: Mapping[str, Callable[[nnx.Module, jax.ShapeDtypeStruct], Cost]] = {
    "params": _params,
    "active_params": _active_params,
    "flops": _flops,
    "bytes": _bytes,
    "latency_ms": _latency_ms,
}


def counted_costs(model: nnx.Module, batch: jax.ShapeDtypeStruct) -> dict[str, float]:
    """What ``model``, abstract or not, costs by every axis that is counted and not timed.

    Without ``flops`` where it holds an operation whose FLOPs have no rule.
    """
    costs = {axis: AXES[axis](model, batch).amount for axis in ("params", "active_params", "bytes")}
    with contextlib.suppress(ValueError):
        costs["flops"] = _flops(model, batch).amount
    return costs

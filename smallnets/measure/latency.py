"""How long one call of a compiled model takes, on this device, at stated batch sizes.

A timing on a shared machine holds only beside another one taken with it. So all forms of a map
(factorised and merged, say) are timed in turns, one call each, round after round; each call then
finds the caches as the other forms left them.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from smallnets.measure.machine import device_name


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Seconds from the call of a compiled program until its result is there, over ``rounds`` calls.

    ``dispatch_seconds`` is the median of a program that takes the same arguments and computes
    nothing: what calling costs from Python. Where the two are close, the network is too small for
    its arithmetic to be seen.
    """

    form: str
    batch_size: int
    lower_quartile_seconds: float
    median_seconds: float
    upper_quartile_seconds: float
    dispatch_seconds: float
    rounds: int
    device: str


def latencies(
    forms: Mapping[str, Callable[[jax.Array], Any]],
    inputs: jax.Array,
    *,
    batch_sizes: Sequence[int] = (1, 64, 1024),
    rounds: int = 50,
    warmup: int = 5,
) -> list[Latency]:
    """Time each form on the first examples of ``inputs[examples, ...]``, for each batch size.

    A form is a model, which is a pytree: its parameters are arguments of the program, since a
    closed-over array is a constant that XLA may fold (it would merge a factorised map). Compiling,
    the flattening of the pytree and ``warmup`` rounds lie outside the clock.

    Raises ValueError for a form that is no pytree (a plain function), for a batch size below 1 or
    above the number of examples, and for fewer than 4 rounds, which have no quartiles.
    """
    if rounds < 4:
        raise ValueError(f"quartiles need at least 4 rounds, but rounds={rounds}")
    for form, model in forms.items():
        if model in jax.tree.leaves(model):
            raise ValueError(
                f"a form is a model, a pytree that holds its parameters, but {form!r} is a plain "
                f"{type(model).__name__}: wrap it in jax.tree_util.Partial"
            )
    for size in batch_sizes:
        if not 1 <= size <= len(inputs):
            raise ValueError(
                f"a batch size lies between 1 and the number of examples given, but "
                f"{size} is not in 1 .. {len(inputs)}: pass more examples or smaller batches"
            )
    device = device_name(next(iter(inputs.devices())))
    found = []
    for size in batch_sizes:
        calls = [_compiled(_apply, model, inputs[:size]) for model in forms.values()]
        empty = [_compiled(_nothing, model, inputs[:size]) for model in forms.values()]
        times = _interleaved([*calls, *empty], rounds=rounds, warmup=warmup)
        for index, form in enumerate(forms):
            lower, median, upper = np.quantile(times[:, index], (0.25, 0.5, 0.75)).tolist()
            found.append(
                Latency(
                    form=form,
                    batch_size=size,
                    lower_quartile_seconds=lower,
                    median_seconds=median,
                    upper_quartile_seconds=upper,
                    dispatch_seconds=float(np.median(times[:, len(forms) + index])),
                    rounds=rounds,
                    device=device,
                )
            )
    return found


def _apply(model: Any, x: jax.Array) -> Any:
    return model(x)


def _nothing(model: Any, x: jax.Array) -> jax.Array:
    return jnp.zeros(())


def _compiled(function: Callable[..., Any], model: Any, x: jax.Array) -> Callable[[], Any]:
    """One call of the compiled program on arguments that are flat already."""
    leaves, tree = jax.tree.flatten((model, x))
    program = jax.jit(lambda *leaves: function(*tree.unflatten(leaves)), keep_unused=True)
    compiled = program.lower(*leaves).compile()
    return lambda: compiled(*leaves)


def _interleaved(
    calls: Sequence[Callable[[], Any]], *, rounds: int, warmup: int
) -> np.ndarray:  # seconds[round, call]
    def seconds(call: Callable[[], Any]) -> float:
        start = time.perf_counter()
        jax.block_until_ready(call())
        return time.perf_counter() - start

    return np.array([[seconds(call) for call in calls] for _ in range(warmup + rounds)])[warmup:]

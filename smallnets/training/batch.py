"""Many runs that differ only in numbers, trained by one compiled program."""

import time
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import jax
import numpy as np

Execution = Literal["vmap", "map"]
EXECUTIONS: tuple[Execution, ...] = get_args(Execution)
# Compiling is most of a small study's time on a CPU; level 1 takes a third of the time of the
# default, and the program runs as fast.
COMPILER_OPTIONS: dict[str, dict[str, str | bool]] = {
    "cpu": {"xla_backend_optimization_level": "1"}
}
Values = Any  # a pytree of arrays with a leading axis of runs


class Compiled(NamedTuple):
    """Runs compiled together: ``run()`` gives their results, each leaf with a leading axis of runs.

    ``chunk`` of them are trained at once. Compiling took ``compile_seconds``.
    """

    run: Callable[[], Any]
    chunk: int
    compile_seconds: float


def fastest_execution(platform: str) -> Execution:
    """How to train runs on a device where nobody said: what was faster when measured.

    On two CPU cores ``map`` took .85 to 1.02 of the time of ``vmap`` at widths 64 and 128 in all
    families and 1.1 to 1.3 at width 16, and gives each run the bits of training alone. A GPU or
    TPU is idle most of the time under ``map`` with small networks.
    """
    return "map" if platform == "cpu" else "vmap"


def compile_runs(
    train_one: Callable[[Any, Any], Any],
    values: Values,
    shared: Any,
    *,
    execution: Execution,
    memory_limit: int,
) -> Compiled:
    """``train_one(values[i], shared)`` for all runs i, as one program, compiled and not yet run.

    ``values`` is a pytree of arrays with a leading axis of runs, ``shared`` is one that all see.
    ``"map"`` trains one after another inside the program (``lax.map``): bit for bit what each gives
    alone. ``"vmap"`` trains them side by side: equal to rounding, and for a given number of
    runs, a run's bits depend neither on the others nor on its place.

    Where XLA says that the program needs more than ``memory_limit`` bytes, it is compiled again
    for as many runs as fit, and run for one chunk after another; the last chunk is filled up by
    repeating a run. Raises ValueError if not even one run fits.
    """
    runs = len(jax.tree.leaves(values)[0])
    started = time.perf_counter()
    chunk = runs
    compiled, needed = _compile_and_weigh(train_one, _slice(values, 0, chunk), shared, execution)
    while needed > memory_limit and chunk > 1:
        chunk = max(1, min(chunk - 1, int(chunk * memory_limit / needed)))
        compiled, needed = _compile_and_weigh(
            train_one, _slice(values, 0, chunk), shared, execution
        )
    if needed > memory_limit:
        raise ValueError(
            f"one run must fit into memory, but needs {needed:,} bytes of {memory_limit:,}: "
            "use a smaller model or batch, or raise hydra.launcher.memory_limit"
        )
    compile_seconds = time.perf_counter() - started

    def run() -> Any:
        results = [
            jax.device_get(compiled(_slice(values, start, chunk), shared))
            for start in range(0, runs, chunk)
        ]
        return jax.tree.map(lambda *parts: np.concatenate(parts)[:runs], *results)

    return Compiled(run, chunk, compile_seconds)


def _slice(values: Values, start: int, chunk: int) -> Values:
    """Runs ``start .. start + chunk``, the last one repeated where there are too few."""
    runs = len(jax.tree.leaves(values)[0])
    index = np.minimum(np.arange(start, start + chunk), runs - 1)
    return jax.tree.map(lambda array: array[index], values)


def trace_runs(
    train_one: Callable[..., Any], values: Values, shared: Any, execution: Execution
) -> jax.stages.Traced:
    """``(values, shared) -> results`` for as many runs as ``values`` has, traced.

    It may be lowered for any platform: what differs between them is chosen only then.
    """

    def program(values: Values, shared: Any) -> Any:
        if execution == "vmap":
            return jax.vmap(lambda value: train_one(value, shared))(values)
        return jax.lax.map(lambda value: train_one(value, shared), values)

    return jax.jit(program).trace(values, shared)


def compile_program(
    train_one: Callable[..., Any], values: Values, shared: Any, execution: Execution
) -> Any:
    """The same, compiled for JAX's default device."""
    lowered = trace_runs(train_one, values, shared, execution).lower()
    return lowered.compile(compiler_options=COMPILER_OPTIONS.get(jax.default_backend()))


def _compile_and_weigh(
    train_one: Callable[..., Any], values: Values, shared: Any, execution: Execution
) -> tuple[Any, int]:
    """The compiled program, and the bytes that it takes besides its arguments."""
    compiled = compile_program(train_one, values, shared, execution)
    memory = compiled.memory_analysis()
    if memory is None:  # this backend does not tell
        return compiled, 0
    return compiled, memory.temp_size_in_bytes + memory.output_size_in_bytes

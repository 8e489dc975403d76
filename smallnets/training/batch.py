"""Many runs that differ only in numbers, trained by one compiled program that may be cut.

A program trains from one evaluation to another, and which they are is a number of it: so a program
that is cut is the one that isn't, compiled once, and gives the same bits.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

from smallnets.training.mesh import Layout, placed

Execution = Literal["vmap", "map"]
EXECUTIONS: tuple[Execution, ...] = get_args(Execution)
# Compiling is most of a small study's time on a CPU; level 1 takes a third of the time of the
# default, and the program runs as fast.
COMPILER_OPTIONS: dict[str, dict[str, str | bool]] = {
    "cpu": {"xla_backend_optimization_level": "1"}
}
Values = Any  # a pytree of arrays with a leading axis of runs


class Stages(NamedTuple):
    """One run in pure parts: ``begin() -> state``, ``advance(state) -> state, curves``, ``finish``.

    ``advance`` trains until the next evaluation and gives each of its numbers as ``[1]``;
    ``finish(state)`` is the model.
    """

    begin: Callable[[], Any]
    advance: Callable[[Any], tuple[Any, dict[str, jax.Array]]]
    finish: Callable[[Any], Any]


class Cut(NamedTuple):
    """Runs after ``done`` evaluations; every leaf has a leading axis of runs.

    ``carry`` is all that their training needs to go on, plain arrays (keys as their data), and
    with it the curves so far; ``model`` what training would give if it ended here. Training on
    uses up the arrays on the device.
    """

    done: int
    carry: tuple[Any, dict[str, Any]]  # state, curves
    model: Any

    @property
    def curves(self) -> dict[str, Any]:
        """``[runs, evaluations]`` each, of which the first ``done`` are there."""
        return self.carry[1]


class Compiled(NamedTuple):
    """Runs compiled together, ``chunk`` of them at once.

    ``program(values, (shared, first, last), carry)`` trains a chunk from evaluation ``first`` to
    ``last``; ``blank`` is the carry of a chunk before it began, of several devices abstract, with
    its places. Compiling took ``compile_seconds``.
    """

    program: Callable[..., Any]
    blank: Any
    chunk: int
    compile_seconds: float

    def advance(self, values: Values, shared: Any, cut: Cut | None, last: int) -> Cut:
        """The chunk of runs with these ``values`` trained on to evaluation ``last``.

        None is the cut before the first step. Where there are fewer runs than a chunk has, the last
        is repeated.
        """
        done, carry = (0, self.blank) if cut is None else (cut.done, cut.carry)
        bounds = np.int32(done), np.int32(last)
        carry, model = self.program(filled(values, self.chunk), (shared, *bounds), carry)
        return Cut(last, *jax.block_until_ready((carry, model)))


def fastest_execution(platform: str) -> Execution:
    """How to train runs on a device where nobody said: what was faster when measured.

    On two CPU cores ``map`` took .85 to 1.02 of the time of ``vmap`` at widths 64 and 128 in all
    families and 1.1 to 1.3 at width 16, and gives each run the bits of training alone. A GPU or
    TPU is idle most of the time under ``map`` with small networks.
    """
    return "map" if platform == "cpu" else "vmap"


def compile_runs(
    stages: Callable[..., Stages],
    values: Values,
    shared: Any,
    *,
    evaluations: int,
    execution: Execution,
    memory_limit: int,
    at_most: int | None = None,
    layout: Layout | None = None,
) -> Compiled:
    """The runs ``stages(values[i], shared)``, compiled as one program and not yet begun.

    ``values`` is a pytree of arrays with a leading axis of runs, ``shared`` is one that all see.
    ``"map"`` trains one run after another, each with the bits of training alone. ``"vmap"`` trains
    up to ``at_most`` side by side: equal to rounding, and for a given number of runs, a run's bits
    depend neither on the others nor on its place.

    Where XLA says that the program needs more than ``memory_limit`` bytes of a device, it is
    compiled again for as many runs as fit. Raises ValueError if not even one run fits.

    By ``layout`` several devices train them together: runs side by side are so many on each, and
    ``stages(values[i], shared, spread)`` of a run alone spreads its batches.
    """
    started = time.perf_counter()
    runs = _length(values)
    chunk = 1 if execution == "map" else min(runs, at_most or runs)
    while True:
        of_run = stages
        if layout is not None:
            chunk = layout.at_once(runs, chunk)
            of_run = stages if layout.runs_axis(chunk) else partial(stages, spread=layout.spread)
        part = filled(values, chunk)
        one, blank = cuttable(of_run, part, shared, evaluations, layout)
        bounds = np.int32(0), np.int32(0)
        compiled = compile_program(one, part, (shared, *bounds), execution, blank, layout=layout)
        needed = _bytes(compiled)
        if needed <= memory_limit:
            program = compiled if layout is None else _placing(compiled)
            return Compiled(program, blank, chunk, time.perf_counter() - started)
        if chunk == 1:
            raise ValueError(
                f"one run must fit into memory, but needs {needed:,} bytes of {memory_limit:,}: "
                "use a smaller model or batch, or raise hydra.launcher.memory_limit"
            )
        chunk = max(1, min(chunk - 1, int(chunk * memory_limit / needed)))


def cuttable(
    stages: Callable[[Any, Any], Stages],
    values: Values,
    shared: Any,
    evaluations: int,
    layout: Layout | None = None,
) -> tuple[Callable[..., Any], Any]:
    """A run that may be cut: ``(values, (shared, first, last), carry) -> carry, model``.

    It begins where ``first`` is 0, and trains until evaluation ``last``. With it comes the carry
    of so many runs as ``values`` has, all zeros.
    """
    in_place = layout.constrained if layout is not None else lambda state: state
    # As functions of all that they see, so that each is traced once.
    begin = jax.jit(lambda value, shared: stages(value, shared).begin(), inline=True)
    advance = jax.jit(
        lambda value, shared, state: stages(value, shared).advance(state), inline=True
    )
    first_value = jax.tree.map(lambda array: array[0], values)
    state = jax.eval_shape(begin, first_value, shared)
    _, curves = jax.eval_shape(advance, first_value, shared, state)
    as_data = partial(
        jax.tree.map, lambda leaf, like: jax.random.key_data(leaf) if _is_key(like) else leaf
    )
    as_keys = partial(
        jax.tree.map, lambda leaf, like: jax.random.wrap_key_data(leaf) if _is_key(like) else leaf
    )

    def run(value: Any, bounded: Any, carry: Any) -> Any:
        shared, first, last = bounded
        kept = as_keys(carry[0], state)
        begun = jax.lax.cond(first == 0, lambda: in_place(begin(value, shared)), lambda: kept)

        def evaluation(place: jax.Array, carry: Any) -> Any:
            state, curves = carry
            state, new = advance(value, shared, state)
            state = in_place(state)
            return state, jax.tree.map(lambda all, each: all.at[place].set(each[0]), curves, new)

        reached, found = jax.lax.fori_loop(first, last, evaluation, (begun, carry[1]))
        return (as_data(reached, state), found), stages(value, shared).finish(reached)

    raw = jax.eval_shape(lambda state: as_data(state, state), state)
    count = _length(values)
    blank = (
        jax.tree.map(lambda leaf: np.zeros((count, *leaf.shape), leaf.dtype), raw),
        {name: np.zeros((count, evaluations), curve.dtype) for name, curve in curves.items()},
    )
    if layout is not None:
        blank = jax.tree.map(_abstract, blank, _carry_places(layout, blank))
    return run, blank


def _placing(compiled: Any) -> Callable[..., Any]:
    """The program, its arguments brought to their places where they are not there."""
    places = compiled.input_shardings[0]
    return lambda *arguments: compiled(*placed(arguments, places))


def _abstract(leaf: Any, place: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place)


def _carry_places(layout: Layout, carry: Any) -> Any:
    """Where what runs carry lies; their curves lie everywhere, so that every process has them."""
    state, curves = carry
    return layout.places(state, _length(curves)), layout.everywhere(curves)


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _length(values: Values) -> int:
    return len(jax.tree.leaves(values)[0])


def filled(values: Values, count: int) -> Values:
    """The first ``count`` runs, the last one repeated where there are too few."""
    if count == _length(values):
        return values
    index = np.minimum(np.arange(count), _length(values) - 1)
    return jax.tree.map(lambda array: array[index], values)


def trace_runs(
    train_one: Callable[..., Any],
    values: Values,
    shared: Any,
    execution: Execution,
    *carry: Any,
    layout: Layout | None = None,
) -> jax.stages.Traced:
    """``(values, shared, *carry) -> results`` for as many runs as ``values`` has, traced.

    What a run carries has the leading axis too, and its memory is used for the results. It may be
    lowered for any platform: what differs between them is chosen only then. By ``layout`` the runs
    that are side by side lie on several devices.
    """
    runs = _length(values)
    axis = layout.runs_axis(runs) if layout is not None else None

    def program(values: Values, shared: Any, *carry: Any) -> Any:
        def one(inputs: Any) -> Any:
            return train_one(inputs[0], shared, *inputs[1:])

        if execution == "vmap":
            return jax.vmap(one, spmd_axis_name=axis)((values, *carry))
        return jax.lax.map(one, (values, *carry))

    donated = tuple(range(2, 2 + len(carry)))
    where = {}
    if layout is not None:
        places = tuple(_carry_places(layout, each) for each in carry)
        arguments = layout.places(values, runs), layout.everywhere(shared), *places
        where = {"in_shardings": arguments, "out_shardings": (*places, None)}
    return jax.jit(program, donate_argnums=donated, **where).trace(values, shared, *carry)


def compile_program(
    train_one: Callable[..., Any],
    values: Values,
    shared: Any,
    execution: Execution,
    *carry: Any,
    layout: Layout | None = None,
) -> Any:
    """The same, compiled for JAX's default device, or for those of ``layout``."""
    lowered = trace_runs(train_one, values, shared, execution, *carry, layout=layout).lower()
    return lowered.compile(compiler_options=COMPILER_OPTIONS.get(jax.default_backend()))


def _bytes(compiled: Any) -> int:
    """What the compiled program takes of a device besides its arguments."""
    memory = compiled.memory_analysis()
    if memory is None:  # this backend does not tell
        return 0
    return memory.temp_size_in_bytes + memory.output_size_in_bytes

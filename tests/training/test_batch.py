"""What is promised of runs that are trained together, over every network and every family."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from smallnets.sweep.plan import Program, plan
from smallnets.traced import assign
from smallnets.training.batch import (
    COMPILER_OPTIONS,
    Stages,
    compile_program,
    compile_runs,
    fastest_execution,
    filled,
)
from smallnets.training.trainer import splits

pytestmark = pytest.mark.users_options
SMALL = {  # a network's words that make it small
    "residual": "model.width=16",
    "encoder": "model.width=16",
    "convolutional": "model.width=8",
    "perceptron": "model.widths=[16,16]",
    "logistic": "",
    "transformer": "task=random_hierarchy task.train=64 task.validation=32 task.test=32 "
    "model.width=16 model.depth=2",
}
FAMILIES = ("dense", "low_rank", "monarch", "shared", "mixture")
LAYERS = ("dense", "low_rank", "monarch")  # families of networks without blocks
PAIRS = [
    (network, family)
    for network, families in {
        **dict.fromkeys(("residual", "encoder", "transformer"), FAMILIES),
        **dict.fromkeys(("convolutional", "perceptron"), LAYERS),
        "logistic": ("dense",),
    }.items()
    for family in families
]
# The others are ``slow``: their curves are held to a sample by tests/test_golden.py.
QUICK = {("perceptron", "low_rank")}
AMPLE = 2**40
VALUES = {
    "seed": np.arange(3, dtype=np.uint32),
    "optimizer.learning_rate": np.asarray([1e-3, 3e-3, 1e-2], np.float32),
}


class Together(NamedTuple):
    """A program of a plan, compiled for three runs, and the function of one run."""

    by_map: Any
    by_vmap: Any
    one: Any
    arrays: Any

    def map(self, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return jax.device_get(self.by_map(values, self.arrays))

    def vmap(self, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return jax.device_get(self.by_vmap(values, self.arrays))


def run(program: Program, values: Mapping[str, Any], arrays: Any) -> dict[str, jax.Array]:
    """Curves and trained parameters of the program's run with these values."""
    tree = program.tree
    for path, value in values.items():
        tree = assign(tree, path, value)
    trained, curves = tree().fit(program.data, arrays)
    return {**curves, "parameters": jnp.concatenate([x.ravel() for x in jax.tree.leaves(trained)])}


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(pair, id="-".join(pair), marks=() if pair in QUICK else pytest.mark.slow)
        for pair in PAIRS
    ],
)
def together(request: pytest.FixtureRequest, cache: Path) -> Together:
    network, family = request.param
    words = [f"model={network}", f"family={family}", *SMALL[network].split()]
    length = ["steps=20", "evaluations=4", "batch_size=16", f"cache={cache}"]
    (program,) = plan(*words, *length).programs
    one, arrays = partial(run, program), splits(program.data)
    by_map, by_vmap = (compile_program(one, VALUES, arrays, each) for each in ("map", "vmap"))
    return Together(by_map, by_vmap, one, arrays)


def take(values: Mapping[str, np.ndarray], index: Any) -> dict[str, np.ndarray]:
    return {name: array[index] for name, array in values.items()}


@pytest.mark.slow
def test_map_equals_training_alone_bit_for_bit(together: Together):
    group = together.map(VALUES)
    lowered = jax.jit(together.one).lower(take(VALUES, 0), together.arrays)
    alone = lowered.compile(compiler_options=COMPILER_OPTIONS.get(jax.default_backend()))
    for index in range(3):
        for name, array in alone(take(VALUES, index), together.arrays).items():
            np.testing.assert_array_equal(group[name][index], array)


@pytest.mark.slow
def test_vmap_equals_map_to_rounding_over_the_first_20_steps(together: Together):
    """Adam divides by the root of the second moment, so that rounding in a gradient near zero
    may turn a step around: a few parameters may differ by a few steps of the learning rate, and
    the losses may not."""
    mapped, vmapped = together.map(VALUES), together.vmap(VALUES)
    routing = {name for name in mapped if name.startswith("routing_")}
    for name in ("train_loss", "validation_loss", *routing):
        np.testing.assert_allclose(mapped[name], vmapped[name], rtol=1e-3, err_msg=name)
    difference = np.abs(mapped["parameters"] - vmapped["parameters"])
    assert np.quantile(difference, 0.99) < 1e-4


@pytest.mark.slow
def test_under_vmap_neither_neighbours_nor_place_touch_a_run(together: Together):
    group, turned = together.vmap(VALUES), together.vmap(take(VALUES, [2, 0, 1]))
    wild = {**VALUES, "optimizer.learning_rate": np.asarray([1e-3, 1e30, 1e-2], np.float32)}
    beside_divergence = together.vmap(wild)
    assert not np.isfinite(beside_divergence["train_loss"][1, -1])
    for name, array in group.items():
        np.testing.assert_array_equal(array, turned[name][[1, 2, 0]])
        np.testing.assert_array_equal(array[[0, 2]], beside_divergence[name][[0, 2]])


@pytest.mark.slow
def test_a_run_learns(cache: Path):
    words = [
        "task=teacher_student",
        "task.train=640",
        "task.noise=0",
        "optimizer.learning_rate=1e-2",
    ]
    (program,) = plan(*words, "steps=200", "evaluations=4", f"cache={cache}").programs
    curves = jax.jit(partial(run, program, {}))(splits(program.data))
    assert curves["train_loss"][-1] < 0.5 * curves["train_loss"][0]
    assert curves["validation_error"][-1] < 0.4


def big(values, shared) -> Stages:
    """A run whose state is a megabyte."""

    def advance(state):
        state = state + values["x"] * shared["one"].sum()
        return state, {"sum": state[:1]}

    return Stages(lambda: jnp.zeros(250_000), advance, lambda state: state)


X = {"x": np.arange(7, dtype=np.float32)}
ONE = {"one": np.ones(3, np.float32)}
compiled = partial(compile_runs, big, X, ONE, evaluations=4)


@pytest.mark.slow
def test_side_by_side_as_many_runs_as_fit_into_memory_are_trained_at_once():
    assert compiled(execution="vmap", memory_limit=AMPLE).chunk == 7
    assert compiled(execution="vmap", memory_limit=AMPLE, at_most=2).chunk == 2
    parts = compiled(execution="vmap", memory_limit=10_000_000)
    assert 1 <= parts.chunk < 7
    last = {"x": X["x"][-1:]}  # a chunk is filled up by repeating it
    cut = parts.advance(last, ONE, None, 4)
    np.testing.assert_array_equal(cut.curves["sum"], parts.chunk * [[18, 36, 54, 72]])
    assert compiled(execution="map", memory_limit=AMPLE).chunk == 1


def test_one_run_too_large_for_memory_gets_one_line():
    with pytest.raises(ValueError, match="one run must fit into memory"):
        compiled(execution="map", memory_limit=1000)


@pytest.mark.slow
@pytest.mark.parametrize("execution", ["map", "vmap"])
def test_where_a_program_is_cut_is_not_in_its_bits(execution, cache: Path):
    """Curves and models in one stretch and in four, of one compiled program."""
    words = ["model=residual", "family=mixture", "model.width=8", "seed=0,1,2", "save=best"]
    length = ["steps=20", "evaluations=4", "batch_size=16", f"cache={cache}"]
    (program,) = plan(*words, *length).programs
    arrays = program.shared(splits(program.data))

    runs = compile_runs(
        program.stages,
        program.inputs,
        arrays,
        evaluations=4,
        execution=execution,
        memory_limit=AMPLE,
    )
    values = filled(program.inputs, runs.chunk)
    whole = runs.advance(values, arrays, None, 4)
    cut = None
    for last in (1, 2, 4):
        cut = runs.advance(values, arrays, cut, last)
        cut = cut._replace(carry=jax.device_get(cut.carry))  # as from a checkpoint
    for one, other in zip(jax.tree.leaves(whole), jax.tree.leaves(cut), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("platform", "expected"), [("cpu", "map"), ("gpu", "vmap")])
def test_execution_by_device(platform, expected):
    assert fastest_execution(platform) == expected

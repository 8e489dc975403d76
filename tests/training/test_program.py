"""What is promised of runs that are trained together, over every network in ``conf/model``."""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from smallnets.training.batch import compile_together, fastest_execution
from smallnets.training.fit import Arrays, fit
from smallnets.training.objective import cross_entropy
from smallnets.training.optimizer import adamw

CONF = Path(__file__).parents[2] / "conf"
NAMES = sorted(path.stem for path in (CONF / "model").glob("*.yaml"))
SLOW = {f"transformer_{kind}" for kind in ("low_rank", "monarch", "shared", "mixture")}
MODELS = [pytest.param(each, marks=pytest.mark.slow if each in SLOW else ()) for each in NAMES]
AMPLE = 2**40
VALUES = {
    "seed": np.arange(3, dtype=np.uint32),
    "learning_rate": np.asarray([1e-3, 3e-3, 1e-2], np.float32),
}


def example(n: int, seed: int) -> Arrays:
    random = np.random.default_rng(seed)
    labels = random.integers(0, 4, n).astype(np.int32)
    inputs = random.normal(size=(n, 24, 1)) + labels[:, None, None] * np.sin(np.arange(24))[:, None]
    return Arrays(inputs.astype(np.float32), labels)


def text(n: int, seed: int) -> Arrays:
    tokens = np.random.default_rng(seed).integers(0, 4, (n, 9)).astype(np.int32)
    return Arrays(tokens[:, :-1], tokens[:, 1:])


SPLITS = {"train": example(64, 0), "validation": example(32, 1)}
TEXTS = {"train": text(64, 0), "validation": text(32, 1)}


def splits_of(model: str) -> dict[str, Arrays]:
    return TEXTS if model.startswith("transformer") else SPLITS


def member_of(model: str, steps: int = 20):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        sizes = ["model.width=16", "model.depth=2"] if model.startswith("transformer") else []
        config = compose("config", [f"model={model}", *sizes])
    network = instantiate(config.model, _convert_="all")

    def member(values, arrays):
        trained, curves = fit(
            partial(network, arrays["train"].inputs.shape[1:], 4),
            arrays["train"],
            {"validation": arrays["validation"]},
            seed=values["seed"],
            optimizer=partial(adamw, learning_rate=values["learning_rate"], weight_decay=0.01),
            loss=cross_entropy,
            steps=steps,
            batch_size=16,
            evaluations=4,
        )
        flat = [leaf.ravel() for leaf in jax.tree.leaves(trained)]
        return {**curves, "parameters": jnp.concatenate(flat)}

    return member


def together(model, values, execution, *, steps=20):
    return compile_together(
        member_of(model, steps),
        values,
        splits_of(model),
        execution=execution,
        memory_limit=AMPLE,
    ).run()


def take(values, index):
    return {name: array[index] for name, array in values.items()}


@pytest.fixture(scope="module", autouse=True)
def _kept_programs(cache: Path):
    """Programs that recur between tests are compiled once."""
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    jax.config.update(names[0], str(cache / "programs"))
    jax.config.update(names[1], 0)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.mark.parametrize("model", MODELS)
def test_map_equals_training_alone_bit_for_bit(model: str):
    group = together(model, VALUES, "map")
    splits = splits_of(model)
    options: dict[str, str | bool] = {"xla_backend_optimization_level": "1"}  # as together
    alone_ = (
        jax.jit(member_of(model)).lower(take(VALUES, 0), splits).compile(compiler_options=options)
    )
    for index in range(3):
        alone = alone_(take(VALUES, index), splits)
        for name, array in alone.items():
            np.testing.assert_array_equal(group[name][index], array)


@pytest.mark.parametrize("model", MODELS)
def test_vmap_equals_map_to_rounding_over_the_first_20_steps(model: str):
    """Adam divides by the root of the second moment, so that rounding in a gradient near zero
    may turn a step around: a few parameters may differ by a few steps of the learning rate, and
    the losses may not."""
    mapped, vmapped = together(model, VALUES, "map"), together(model, VALUES, "vmap")
    for name in ("train_loss", "validation_loss"):
        np.testing.assert_allclose(mapped[name], vmapped[name], rtol=1e-3)
    difference = np.abs(mapped["parameters"] - vmapped["parameters"])
    assert np.quantile(difference, 0.99) < 1e-4


@pytest.mark.parametrize("model", MODELS)
def test_under_vmap_neither_neighbours_nor_place_touch_a_member(model: str):
    group = together(model, VALUES, "vmap")
    turned = together(model, take(VALUES, [2, 0, 1]), "vmap")
    wild = {**VALUES, "learning_rate": np.asarray([1e-3, 1e30, 1e-2], np.float32)}
    beside_divergence = together(model, wild, "vmap")
    assert not np.isfinite(beside_divergence["train_loss"][1, -1])
    for name, array in group.items():
        np.testing.assert_array_equal(array, turned[name][[1, 2, 0]])
        np.testing.assert_array_equal(array[[0, 2]], beside_divergence[name][[0, 2]])


def test_a_run_learns():
    result = together("dense", VALUES, "map", steps=200)
    assert (result["validation_error"][:, -1] < 0.5).all()
    assert (result["train_loss"][:, -1] < result["train_loss"][:, 0]).all()


def big(values, shared):
    return {"sum": values["x"] * shared["one"].sum() + jnp.zeros(250_000)}


@pytest.mark.parametrize("execution", ["map", "vmap"])
def test_a_group_too_large_for_memory_is_cut_into_chunks(execution):
    """Each member returns a megabyte: seven of them do not fit into four."""
    values = {"x": np.arange(7, dtype=np.float32)}
    shared = {"one": np.ones(3, np.float32)}
    whole = compile_together(big, values, shared, execution=execution, memory_limit=AMPLE)
    parts = compile_together(big, values, shared, execution=execution, memory_limit=4_000_000)
    assert whole.chunk == 7
    assert 1 <= parts.chunk <= 4
    np.testing.assert_array_equal(whole.run()["sum"], parts.run()["sum"])


def test_one_run_too_large_for_memory_gets_one_line():
    values = {"x": np.arange(2, dtype=np.float32)}
    shared = {"one": np.ones(3, np.float32)}
    with pytest.raises(ValueError, match="one run must fit into memory"):
        compile_together(big, values, shared, execution="map", memory_limit=1000)


@pytest.mark.parametrize(("platform", "expected"), [("cpu", "map"), ("gpu", "vmap")])
def test_execution_by_device(platform, expected):
    assert fastest_execution(platform) == expected

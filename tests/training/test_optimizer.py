"""Every YAML of ``conf/optimizer``, and its groups: what Optax is asked for, and what it does."""

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from families import LINEAR, factory  # pyright: ignore[reportMissingImports]
from flax import nnx
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from smallnets.nn.embedding import Embedding
from smallnets.nn.linear import Affine, Dense
from smallnets.nn.norm import RMSNorm
from smallnets.nn.parameter import partition, stacked
from smallnets.nn.residual import ResidualNetwork
from smallnets.sweep import VERSION_BASE
from smallnets.sweep.build import CHECKED
from smallnets.traced import assign, declared
from smallnets.training.fit import Arrays, Fit
from smallnets.training.objective import cross_entropy
from smallnets.training.optimizer import has_fans, muon_matrices

CONF = Path(__file__).parents[2] / "conf"
OPTIMIZERS = sorted(path.stem for path in (CONF / "optimizer").glob("*.yaml"))
SCHEDULES = sorted(path.stem for path in (CONF / "optimizer" / "schedule").glob("*.yaml"))


def chosen(*overrides: str) -> Any:
    """The factory ``optimizer(steps)`` of these choices."""
    with initialize_config_dir(str(CONF), **VERSION_BASE):
        config = compose(overrides=[f"+optimizer={overrides[0]}", *overrides[1:]])
    return instantiate(config.optimizer, _convert_="all", **CHECKED)


def update(optimizer: Any, parameters: Any, gradients: Any) -> Any:
    """The first of ten updates."""
    transformation = optimizer(10)
    with jax.numpy_dtype_promotion("standard"):  # as in fit
        return transformation.update(gradients, transformation.init(parameters), parameters)[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_rates_of_one_program_train_and_a_rate_of_zero_does_not(name: str):
    """Under jit and vmap, both numbers traced where a rule takes both."""
    random = np.random.default_rng(0)
    labels = np.arange(64) % 4
    inputs = random.normal(size=(4, 12))[labels] + random.normal(size=(64, 12))
    train = Arrays(jnp.asarray(inputs, jnp.float32), jnp.asarray(labels, jnp.int32))
    optimizer = chosen(name)
    taken = [path for path, _ in declared(optimizer) if path in optimizer.keywords]
    assert taken[0] == "learning_rate"

    def member(rate: jax.Array) -> tuple[Any, jax.Array]:
        values = {"learning_rate": rate, "weight_decay": 0.1 + rate}
        tree = optimizer
        for path in taken:
            tree = assign(tree, path, values[path])
        network, curves = Fit(
            optimizer=tree,
            objective=cross_entropy,
            steps=32,
            batch_size=16,
            evaluations=8,
        ).run(partial(ResidualNetwork, (12,), 4, width=8, depth=2, linear=Dense), train, {}, seed=0)
        return partition(network)[0], curves["train_loss"]

    usual = optimizer.keywords["learning_rate"]
    rates = jnp.asarray([0.0, usual, 4 * usual])
    trained, losses = jax.jit(jax.vmap(member))(rates)
    assert np.isfinite(losses).all()
    assert (losses[1:, -1] < 0.95 * losses[1:, 0]).all()
    assert losses[1, -1] != losses[2, -1]
    key_parameters, _ = jax.random.split(jax.random.key(0))
    built = ResidualNetwork(
        (12,), 4, width=8, depth=2, linear=Dense, rngs=nnx.Rngs(params=key_parameters)
    )
    for found, start in zip(
        jax.tree.leaves(trained), jax.tree.leaves(partition(built)[0]), strict=True
    ):
        np.testing.assert_allclose(found[0], start, rtol=1e-6)
        assert (found[1] != start).any()


@pytest.mark.breadth
@pytest.mark.parametrize(
    ("choice", "share"),
    [
        (("adamw", "optimizer.weight_decay=0.5", "optimizer.learning_rate=0.1"), 0.05),
        (("lion", "optimizer.weight_decay=0.5", "optimizer.learning_rate=0.1"), 0.05),
        (("muon", "optimizer.weight_decay=0.5", "optimizer.learning_rate=0.1"), 0.05),
        (("adafactor", "optimizer.rule.weight_decay_rate=0.05"), 0.05),
        (("adafactor",), 0.0),
        (("adam",), 0.0),
        (("sgd",), 0.0),
    ],
)
def test_decay_touches_only_arrays_with_fans(choice: tuple[str, ...], share: float):
    """Where the gradient is zero the update is the decay alone."""
    rngs = nnx.Rngs(0)
    layers = {
        "stack": stacked(partial(Affine, 6, 8, linear=Dense), rngs, 3),
        "norm": RMSNorm(8),
        "table": Embedding(16, 8, tied=False, rngs=rngs),
    }
    parameters = jax.tree.map(jnp.ones_like, partition(layers)[0])
    zeros = jax.tree.map(jnp.zeros_like, parameters)
    found = update(chosen(*choice, "optimizer.schedule.warmup=0"), parameters, zeros)
    np.testing.assert_allclose(found["stack"].linear.kernel[...], -share, rtol=1e-6)
    np.testing.assert_array_equal(found["stack"].bias[...], 0)
    np.testing.assert_array_equal(found["norm"].scale[...], 0)
    of_table = 0.0 if choice[0] == "muon" else share  # muon's Adam decays nothing
    np.testing.assert_allclose(found["table"].table[...], -of_table, rtol=1e-6)


def formula(name: str, step: int, steps: int, warm: int) -> float:
    if step < warm:
        return (1 + step) / (1 + warm)
    left = (steps - step) / (steps - warm)
    return {"constant": 1.0, "cosine": (1 - np.cos(np.pi * left)) / 2, "linear": left}[name]


@pytest.mark.breadth
@pytest.mark.parametrize(("steps", "warmup"), [(20, 0), (20, 0.25), (7, 0.5), (4, 0.99), (1, 0)])
@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_is_its_formula_at_every_step(name: str, steps: int, warmup: float):
    optimizer = chosen("sgd", f"optimizer/schedule={name}", f"optimizer.schedule.warmup={warmup}")
    share = optimizer.keywords["schedule"](steps)
    found = [float(share(step)) for step in range(steps)]
    expected = [formula(name, step, steps, round(warmup * steps)) for step in range(steps)]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.breadth
@pytest.mark.parametrize("warmup", [-0.1, 1, 2, float("nan")])
@pytest.mark.parametrize("name", SCHEDULES)
def test_a_warmup_that_is_no_share_gets_one_line(name: str, warmup: float):
    optimizer = chosen("adamw", f"optimizer/schedule={name}", f"optimizer.schedule.warmup={warmup}")
    with pytest.raises(ValueError, match=r"warmup must be a share in \[0, 1\), but is"):
        optimizer(10)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("clipping", "bound", "size"),
    [
        (("global_norm", "max_norm"), 0.5, lambda array: jnp.linalg.norm(array)),
        (("value", "max_delta"), 0.5, lambda array: jnp.abs(array).max()),
    ],
)
def test_clipping_bounds_a_large_update_and_leaves_a_small_one(clipping, bound, size):
    group, key = clipping
    optimizer = chosen(
        "sgd",
        f"+optimizer/clipping={group}",
        f"optimizer.clipping.{key}={bound}",
        "optimizer/schedule=constant",
        "optimizer.learning_rate=1",
        "optimizer.rule.momentum=null",
    )
    parameters = partition(Dense(6, 4, rngs=nnx.Rngs(0)))[0]
    for factor in (100.0, 0.01):
        gradients = jax.tree.map(lambda array, by=factor: by * array, parameters)
        found = update(optimizer, parameters, gradients).kernel[...]
        gradient = gradients.kernel[...]
        if factor > 1:
            assert size(gradient) > 2 * bound
            np.testing.assert_allclose(size(found), bound, rtol=1e-5)
        else:
            np.testing.assert_array_equal(found, -gradient)


def test_a_rule_that_takes_no_decay_refuses_it():
    optimizer = chosen("sgd", "+optimizer.weight_decay=0.1")
    with pytest.raises(TypeError, match="weight_decay"):
        optimizer(10)


@pytest.mark.slow
def test_muon_makes_each_matrix_of_a_stack_orthogonal_by_itself():
    rngs = nnx.Rngs(0)
    stack = partition(stacked(partial(Dense, 12, 6), rngs, 3))[0]
    optimizer = chosen(
        "muon",
        "optimizer.learning_rate=1",
        "optimizer.weight_decay=0",
        "optimizer/schedule=constant",
    )
    found = update(optimizer, stack, stack).kernel[...]
    scale = 0.2 * np.sqrt(12)  # Optax's consistent_rms
    values = jnp.linalg.svd(found, compute_uv=False) / scale
    assert ((values > 0.6) & (values < 1.3)).all()
    for index in range(3):
        alone = jax.tree.map(lambda array, index=index: array[index], stack)
        np.testing.assert_allclose(
            found[index], update(optimizer, alone, alone).kernel[...], rtol=1e-3, atol=1e-5
        )


@pytest.mark.breadth
@pytest.mark.parametrize("family", LINEAR)
def test_muon_takes_matrices_and_leaves_cores_of_tensor_trains_to_adam(family: str):
    linear = partial(factory(family), 16, 16)
    parameters = partition(stacked(linear, nnx.Rngs(0), 3))[0]
    axes = jax.tree.leaves(muon_matrices(parameters), is_leaf=lambda leaf: leaf is None)
    arrays = jax.tree.leaves(has_fans(parameters))
    matrices = sum(leaf is not None for leaf in axes)
    assert all(arrays)
    assert matrices == (0 if "tensor_train" in family else 2 * len(arrays)), axes

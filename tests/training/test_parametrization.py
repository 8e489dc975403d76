"""Factors by hand, and the coordinate check: what a few steps change doesn't grow with width."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from families import LINEAR, factory  # pyright: ignore[reportMissingImports]
from flax import nnx

from smallnets.nn.linear import Dense, LowRank
from smallnets.nn.mixture import Mixture
from smallnets.nn.norm import RMSNorm
from smallnets.nn.parameter import combine, partition
from smallnets.nn.residual import ResidualNetwork
from smallnets.nn.structured import Monarch
from smallnets.training.objective import label_loss
from smallnets.training.optimizer import (
    Factors,
    Parametrization,
    gradient_transformation,
    has_fans,
    initial,
    maximal_update,
    standard,
    with_rates,
)

WIDTHS = (32, 512)
STEPS = 4
RATE = 2**-10

adamw = partial(gradient_transformation, rule=partial(optax.adamw, mask=has_fans))


def first_update(
    model: nnx.Module,
    parametrization: Parametrization,
    *,
    learning_rate: float,
    weight_decay: float = 0.0,
) -> Any:
    """AdamW's first update of the parameters, for a gradient of ones: its direction is one."""
    parameters, _ = partition(model)
    plain = adamw(10, learning_rate=learning_rate, weight_decay=weight_decay)
    transformation = with_rates(plain, parametrization)
    ones = jax.tree.map(jnp.ones_like, parameters)
    with jax.numpy_dtype_promotion("standard"):  # Optax raises floats to integer counts
        return transformation.update(ones, transformation.init(parameters), parameters)[0]


def test_factors_by_hand():
    assert maximal_update(64, 64) == Factors(1.0, 1.0)
    assert maximal_update(256, 256) == Factors(1.0, 0.25)
    assert maximal_update(1024, 256) == Factors(0.5, 1 / 16)
    assert maximal_update(256, 10) == Factors(0.5, 0.25)  # few outputs count as the base
    assert maximal_update(16, 10, base_fan_in=32) == Factors(1.0, 2.0)


def test_at_the_base_nothing_changes_whatever_the_outputs():
    assert {maximal_update(64, outputs) for outputs in (1, 10, 64, 1000)} == {standard(64, 10)}


@pytest.mark.parametrize("base", [0, -1, float("nan"), float("inf")])
def test_a_base_that_is_no_fan_in_gets_one_line(base: float):
    with pytest.raises(ValueError, match="base_fan_in must be a number above 0"):
        maximal_update(64, 64, base_fan_in=base)


@pytest.mark.slow
def test_each_factor_of_a_map_has_the_rate_of_its_own_fan_in():
    rates = partial(first_update, parametrization=maximal_update, learning_rate=0.5)
    rngs = nnx.Rngs(0)
    low_rank = rates(LowRank(128, 256, rank=16, rngs=rngs))
    np.testing.assert_allclose(low_rank.down[...], -0.5 * 64 / 128, rtol=1e-5)
    np.testing.assert_allclose(low_rank.up[...], -0.5 * 64 / 16, rtol=1e-5)
    monarch = rates(Monarch(128, 256, blocks=4, rngs=rngs))
    np.testing.assert_allclose(monarch.left[...], -0.5 * 64 / 32, rtol=1e-5)
    np.testing.assert_allclose(monarch.right[...], -0.5 * 64 / 4, rtol=1e-5)
    expert = partial(LowRank, rank=16)
    mixture = rates(Mixture(128, 256, expert=expert, experts=4, top_k=2, rngs=rngs))
    np.testing.assert_allclose(mixture.router.score.kernel[...], -0.5 * 64 / 128, rtol=1e-5)
    np.testing.assert_allclose(mixture.expert.up[...], -0.5 * 64 / 16, rtol=1e-5)
    np.testing.assert_allclose(rates(RMSNorm(128)).scale[...], -0.5, rtol=1e-5)


def test_decay_takes_the_same_share_of_every_weight():
    model = Dense(256, 8, rngs=nnx.Rngs(0))
    update = first_update(model, maximal_update, learning_rate=0.5, weight_decay=0.1)
    expected = -0.5 * (64 / 256 + 0.1 * model.kernel[...])
    np.testing.assert_allclose(update.kernel[...], expected, rtol=1e-5)


def test_initial_values_shrink_towards_few_outputs_alone():
    model = Mixture(256, 256, expert=Dense, experts=2, top_k=1, rngs=nnx.Rngs(0))
    parameters, _ = partition(model)
    found = initial(parameters, maximal_update)
    np.testing.assert_allclose(
        found.router.score.kernel[...], 0.5 * model.router.score.kernel[...], rtol=1e-6
    )
    np.testing.assert_array_equal(found.expert.kernel[...], model.expert.kernel[...])


def test_the_standard_one_adds_no_operation():
    parameters, _ = partition(Mixture(8, 8, expert=Dense, experts=2, top_k=1, rngs=nnx.Rngs(0)))
    plain = adamw(10, learning_rate=0.1, weight_decay=0.1)

    def traced(transformation: Any, parameters: Any) -> str:
        state = transformation.init(parameters)
        with jax.numpy_dtype_promotion("standard"):
            return str(jax.make_jaxpr(transformation.update)(parameters, state, parameters))

    assert traced(with_rates(plain, standard), parameters) == traced(plain, parameters)
    kept = jax.tree.leaves(initial(parameters, standard))
    assert all(a is b for a, b in zip(kept, jax.tree.leaves(parameters), strict=True))


def changes(
    linear: Any, width: int, parametrization: Parametrization, rule: Any
) -> dict[str, jax.Array]:
    """Root mean square of what ``STEPS`` steps of a rule change in a network's activations."""
    keys = jax.random.split(jax.random.key(7), 2)
    inputs = jax.random.normal(keys[0], (64, 40))
    labels = jax.random.randint(keys[1], (64,), 0, 10)
    network = ResidualNetwork((40,), 10, width=width, depth=2, linear=linear, rngs=nnx.Rngs(0))
    parameters, rest = partition(network)
    parameters = initial(parameters, parametrization)
    plain = gradient_transformation(STEPS, rule=rule, learning_rate=RATE)
    transformation = with_rates(plain, parametrization)

    def activations(parameters: Any) -> dict[str, jax.Array]:
        network = combine(parameters, rest)
        hidden = network.stack(network.embedding(inputs))
        return {"hidden": hidden, "logits": network.head(network.norm(hidden))}

    def objective(parameters: Any) -> jax.Array:
        return label_loss(activations(parameters)["logits"], labels)

    def step(carry: Any, _: None) -> tuple[Any, None]:
        parameters, state = carry
        with jax.numpy_dtype_promotion("standard"):  # Optax raises floats to integer counts
            gradient = jax.grad(objective)(parameters)
            updates, state = transformation.update(gradient, state, parameters)
        return (optax.apply_updates(parameters, updates), state), None

    carry = (parameters, transformation.init(parameters))
    (after, _), _ = jax.lax.scan(step, carry, length=STEPS)
    change = jax.tree.map(jnp.subtract, activations(after), activations(parameters))
    return jax.tree.map(lambda array: jnp.sqrt(jnp.mean(jnp.square(array))), change)


def slopes(
    family: str, parametrization: Parametrization, rule: Any = optax.adam
) -> dict[str, float]:
    """d log(change) / d log(width) of each activation, between the two widths."""
    narrow, wide = (
        jax.jit(partial(changes, factory(family), width, parametrization, rule))
        .lower()
        .compile(compiler_options={"xla_backend_optimization_level": "0"})()
        for width in WIDTHS
    )
    return {
        name: float(np.log(wide[name] / narrow[name]) / np.log(WIDTHS[1] / WIDTHS[0]))
        for name in wide
    }


@pytest.mark.slow
@pytest.mark.parametrize("family", LINEAR)
def test_what_a_few_steps_change_does_not_grow_with_width(family: str):
    """Over a factor of 16 in width; where all rates are one, the same changes grow."""
    for name, slope in slopes(family, maximal_update).items():
        assert slope < 0.1, name
    for name, slope in slopes(family, standard).items():
        assert slope > 0.3, name


@pytest.mark.slow
def test_rates_transfer_under_lion_too():
    rule = partial(optax.lion, weight_decay=0.0)
    assert all(slope < 0.1 for slope in slopes("dense", maximal_update, rule).values())

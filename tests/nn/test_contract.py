"""What every family of layers promises; a new family is tested because its YAML file exists."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from families import FAMILIES, LINEAR, factory
from flax import nnx
from jax.test_util import check_grads

from smallnets.measure import flops
from smallnets.nn.parameter import Hyperparameter, combine, is_variable, partition
from smallnets.traced import assign, declared

WIDTHS = [(16, 16), (16, 32), (32, 16)]
VARIANCES = {  # of a mixture: sum g^2 of the experts chosen, within sampling error
    "mixture/top_k": (0.5, 1.15),
    "mixture/dropless": (0.5, 1.15),
    "mixture/bias_balanced": (0.5, 1.15),
    "mixture/shared_experts": (1.25, 2.15),  # one shared expert besides, and four chosen
    "mixture/expert_choice": (0.1, 1.15),  # the weights of a token don't sum to 1
    "mixture/soft": (1 / 64, 1.15),  # means over 64 independent positions
}


def build(family: str, d_in: int = 16, d_out: int = 32, seed: int = 0) -> nnx.Module:
    return factory(family)(d_in, d_out, rngs=nnx.Rngs(params=jax.random.key(seed)))


def inputs(*shape: int) -> jax.Array:
    return jax.random.normal(jax.random.key(1), shape)


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.mark.parametrize("lead", [(), (3,), (2, 3)])
@pytest.mark.parametrize(("d_in", "d_out"), WIDTHS)
def test_shapes(family: str, lead: tuple[int, ...], d_in: int, d_out: int):
    y = build(family, d_in, d_out)(inputs(*lead, d_in))
    assert y.shape == (*lead, d_out)
    assert y.dtype == jnp.float32


def test_no_parameter_is_held_twice(family: str):
    assert not list(nnx.find_duplicates(build(family)))


def test_two_keys_give_equal_trees_and_other_numbers(family: str):
    one, other = build(family, seed=0), build(family, seed=1)
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(parameters(one), parameters(other), strict=True):
        assert a.shape == b.shape
        assert not np.array_equal(a, b)


def test_models_side_by_side_equal_each_alone(family: str):
    models = [build(family, seed=seed) for seed in range(3)]
    x = inputs(5, 16)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *models)
    together = jax.vmap(lambda model: model(x))(stacked)
    for model, y in zip(models, together, strict=True):
        np.testing.assert_allclose(model(x), y, rtol=1e-5, atol=1e-5)


def test_compiled_equals_eager(family: str):
    model, x = build(family), inputs(5, 16)
    np.testing.assert_allclose(
        jax.jit(lambda model, x: model(x))(model, x), model(x), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize(("d_in", "d_out"), [(64, 64), (64, 128), (128, 64)])
def test_variance_at_initialisation_is_about_one(family: str, d_in: int, d_out: int):
    """Over many seeds, as the few numbers of a small factor scatter much: linear layers keep 1, and
    mixtures what their docstrings say."""
    x = jax.random.normal(jax.random.key(7), (64, d_in))
    variance = jax.jit(lambda seed: build(family, d_in, d_out, seed)(x).var())
    low, high = VARIANCES.get(family, (0.85, 1.15))
    assert low <= np.mean([variance(seed) for seed in range(200)]) <= high


@pytest.mark.parametrize(("d_in", "d_out"), WIDTHS)
def test_parameters_are_as_the_docstring_says(family: str, d_in: int, d_out: int):
    model = build(family, d_in, d_out)
    formula = re.search(r"^\s*Parameters: (.+)$", type(model).__doc__ or "", re.MULTILINE)
    assert formula, f"{type(model).__name__} states no formula for its parameters"
    sizes = {name: value for name, value in vars(model).items() if isinstance(value, int)}
    names = {"d_in": d_in, "d_out": d_out, **sizes}
    if family.startswith("mixture"):
        names["expert"] = d_in * d_out
    assert sum(leaf.size for leaf in parameters(model)) == eval(formula[1], {}, names)


@pytest.mark.parametrize("family", LINEAR)  # mixtures: tests/measure
@pytest.mark.parametrize(("d_in", "d_out"), WIDTHS)
def test_products_are_as_the_docstring_says(family: str, d_in: int, d_out: int):
    model = build(family, d_in, d_out)
    formula = re.search(r"^\s*FLOPs: (.+)$", type(model).__doc__ or "", re.MULTILINE)
    assert formula, f"{type(model).__name__} states no formula for its FLOPs"
    sizes = {name: value for name, value in vars(model).items() if isinstance(value, int)}
    counted = flops.count(lambda model, x: model(x), model, inputs(7, d_in)).products
    assert counted == 7 * eval(formula[1], {}, {"d_in": d_in, "d_out": d_out, **sizes})


def test_gradient_equals_finite_differences(family: str):
    """In double precision; without the auxiliary losses, whose point is to be in no value."""
    with jax.enable_x64(True):
        silent = jax.tree.map(
            lambda leaf: (
                Hyperparameter(jnp.zeros(())) if isinstance(leaf, Hyperparameter) else leaf
            ),
            build(family),
            is_leaf=is_variable,
        )
        trained, rest = partition(silent)
        x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 16)))

        def call(trained, x):
            return combine(trained, rest)(x)

        check_grads(jax.jit(call), (trained, x), order=1, modes=["rev"], eps=1e-6)


@pytest.mark.parametrize(
    ("family", "path"),
    [(family, path) for family in FAMILIES for path, _ in declared(factory(family))],
    indirect=["family"],
)
def test_a_varying_number_may_be_traced(family: str, path: str):
    def output(value: jax.Array) -> jax.Array:
        traced = assign(factory(family), path, value)
        return traced(16, 32, rngs=nnx.Rngs(params=jax.random.key(0)))(inputs(5, 16))

    assert jax.vmap(output)(jnp.asarray([0.25, 0.5])).shape == (2, 5, 32)


def parameters(model: nnx.Module) -> list[jax.Array]:
    leaves = jax.tree.leaves(model, is_leaf=is_variable)
    return [leaf[...] for leaf in leaves if isinstance(leaf, nnx.Param)]

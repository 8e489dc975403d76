"""What every family of layers promises; a new family is tested because its YAML file exists."""

import functools
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from families import FAMILIES, LINEAR, MIXTURES, factory
from flax import nnx
from layers import at, call, normal

from smallnets.measure import flops
from smallnets.nn.parameter import is_variable
from smallnets.testing import check_fans, check_gradient, check_shapes, check_side_by_side
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
TRACED = [(family, path) for family in FAMILIES for path, _ in declared(factory(family))]


def build(family: str, seed: Any = 0, d_in: int = 16, d_out: int = 32) -> Any:
    return factory(family)(d_in, d_out, rngs=nnx.Rngs(params=jax.random.key(seed)))


def abstract(family: str, seed: int = 0, d_in: int = 16, d_out: int = 32) -> Any:
    """A model of a family whose arrays have shapes alone."""
    return jax.eval_shape(lambda: build(family, seed, d_in, d_out))


@functools.cache
def three(family: str) -> Any:
    """Three models of a family, from three keys, on a leading axis."""
    return jax.jit(jax.vmap(lambda seed: build(family, seed)))(jnp.arange(3))


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.mark.breadth
@pytest.mark.parametrize(("d_in", "d_out"), WIDTHS)
def test_shapes_with_any_leading_axes_and_no_parameter_held_twice(
    family: str, d_in: int, d_out: int
):
    check_shapes(factory(family), d_in, d_out)


@pytest.mark.breadth
def test_two_keys_give_equal_trees_and_other_numbers(family: str):
    one, other = abstract(family, seed=0), abstract(family, seed=1)
    assert jax.tree.structure(one) == jax.tree.structure(other)
    assert jax.tree.leaves(one) == jax.tree.leaves(other)
    for leaf in parameters(three(family)):
        for first, second in ((0, 1), (0, 2), (1, 2)):
            assert not np.array_equal(leaf[first], leaf[second])


@pytest.mark.breadth
def test_models_side_by_side_equal_each_alone(family: str):
    check_side_by_side(three(family), normal(5, 16))


@pytest.mark.breadth
@pytest.mark.parametrize("family", LINEAR)  # in a mixture, products of stacked experts
def test_a_weight_array_notes_the_fans_of_its_product(family: str):
    check_fans(at(three(family), 0), normal(5, 16))


@pytest.mark.breadth
@pytest.mark.parametrize(
    "family",
    [pytest.param(each, marks=pytest.mark.slow if each in MIXTURES else ()) for each in FAMILIES],
)
def test_compiled_equals_eager(family: str):
    model, x = at(three(family), 0), normal(5, 16)
    np.testing.assert_allclose(call(model, x), model(x), rtol=1e-5, atol=1e-5)


@pytest.mark.breadth
@pytest.mark.parametrize(
    ("family", "d_in", "d_out"),
    [
        *((family, *widths) for family in LINEAR for widths in ((32, 64), (64, 32))),
        *((family, 32, 64) for family in MIXTURES),
    ],
)
def test_variance_at_initialisation_is_about_one(family: str, d_in: int, d_out: int):
    """Over many seeds, as the few numbers of a small factor scatter much: linear layers keep 1, and
    mixtures what their docstrings say."""
    x = normal(64, d_in)

    @jax.jit
    def mean(seeds: jax.Array) -> jax.Array:
        return jax.lax.map(lambda seed: build(family, seed, d_in, d_out)(x).var(), seeds).mean()

    low, high = VARIANCES.get(family, (0.85, 1.15))
    assert low <= mean(jnp.arange(200)) / x.var() <= high


@pytest.mark.breadth
@pytest.mark.parametrize(("d_in", "d_out"), WIDTHS)
def test_parameters_are_as_the_docstring_says(family: str, d_in: int, d_out: int):
    model = abstract(family, d_in=d_in, d_out=d_out)
    names = {"d_in": d_in, "d_out": d_out, **sizes(model)}
    if family in MIXTURES:
        names["expert"] = d_in * d_out
    stated = eval(formula(model, "Parameters"), {}, names)
    assert sum(leaf.size for leaf in parameters(model)) == stated


@pytest.mark.breadth
@pytest.mark.parametrize("family", LINEAR)  # mixtures: tests/measure
@pytest.mark.parametrize(("d_in", "d_out"), WIDTHS)
def test_products_are_as_the_docstring_says(family: str, d_in: int, d_out: int):
    model = abstract(family, d_in=d_in, d_out=d_out)
    counted = flops.count(lambda model, x: model(x), model, normal(7, d_in)).products
    names = {"d_in": d_in, "d_out": d_out, **sizes(model)}
    assert counted == 7 * eval(formula(model, "FLOPs"), {}, names)


@pytest.mark.breadth
def test_gradient_equals_finite_differences(family: str):
    check_gradient(at(three(family), 0), normal(4, 16))


@pytest.mark.breadth
@pytest.mark.parametrize(("family", "path"), TRACED, indirect=["family"])
def test_a_number_that_is_declared_so_may_be_traced(family: str, path: str):
    def output(value: jax.Array) -> jax.Array:
        traced = assign(factory(family), path, value)
        return traced(16, 32, rngs=nnx.Rngs(params=jax.random.key(0)))(normal(5, 16))

    shape = jax.eval_shape(jax.vmap(output), jnp.asarray([0.25, 0.5])).shape
    assert shape == (2, 5, 32)


def test_the_numbers_that_may_be_traced_are_found_in_every_branch():
    assert {family for family, _ in TRACED} == set(MIXTURES) - {"mixture/soft"}
    assert ("mixture/bias_balanced", "router.rate") in TRACED


def parameters(model: nnx.Module) -> list[nnx.Param]:
    leaves = jax.tree.leaves(model, is_leaf=is_variable)
    return [leaf for leaf in leaves if isinstance(leaf, nnx.Param)]


def formula(model: nnx.Module, name: str) -> str:
    """What the docstring of a model's class says behind ``name``."""
    stated = re.search(rf"^\s*{name}: (.+)$", type(model).__doc__ or "", re.MULTILINE)
    assert stated, f"{type(model).__name__} states no formula for its {name}"
    return stated[1]


def sizes(model: nnx.Module) -> dict[str, int]:
    return {name: value for name, value in vars(model).items() if isinstance(value, int)}

"""Counts of parameters against closed forms, on abstract arrays wherever possible."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from smallnets.measure.parameters import Parameters, by_part, parameter_bytes, parameters

sizes = st.integers(1, 10**6)
abstract = partial(nnx.eval_shape, graph=True, graph_updates=True)  # keeps aliases


class Layer(nnx.Module):
    def __init__(self, d_in: int, d_out: int):
        self.kernel = nnx.Param(jnp.zeros((d_in, d_out)))
        self.bias = nnx.Param(jnp.zeros((d_out,), jnp.bfloat16))


class Pair(nnx.Module):
    """Two layers; with ``tied`` the second is the first."""

    def __init__(self, width: int, *, tied: bool):
        self.first = Layer(width, width)
        self.second = self.first if tied else Layer(width, width)
        self.temperature = nnx.Variable(jnp.ones(()))  # no parameter


def experts(experts: int, top_k: int, width: int) -> nnx.Module:
    """Stacked layers of which each token uses ``top_k``, said by metadata."""
    model = jax.vmap(lambda _: Layer(width, width))(jnp.arange(experts))
    for parameter in (model.kernel, model.bias):
        parameter.set_metadata(active=top_k / experts)
    return model


@settings(deadline=None)
@given(d_in=sizes, d_out=sizes)
def test_a_layer_too_large_to_allocate_is_counted(d_in, d_out):
    model = jax.eval_shape(lambda: Layer(d_in, d_out))
    expected = d_in * d_out + d_out
    assert parameters(model) == Parameters(stored=expected, unique=expected, active=expected)


@pytest.mark.parametrize("build", [lambda make: make(), abstract])
def test_a_tied_layer_is_stored_twice_and_unique_once(build):
    one = 5 * 5 + 5
    assert parameters(build(lambda: Pair(5, tied=True))) == Parameters(
        stored=2 * one, unique=one, active=one
    )
    assert parameters(build(lambda: Pair(5, tied=False))) == Parameters(
        stored=2 * one, unique=2 * one, active=2 * one
    )


def test_parameters_in_plain_containers_count_once_each():
    shared = nnx.Param(jnp.zeros((3, 4)))
    tree = {"a": [shared, nnx.Param(jnp.zeros(2))], "b": (shared,), "c": jnp.zeros(100)}
    assert parameters(tree) == Parameters(stored=26, unique=14, active=14)


def test_two_parameters_that_began_as_one_array_are_two():
    zeros = jnp.zeros(3)
    tree = [nnx.Param(zeros), nnx.Param(zeros)]
    assert parameters(tree).unique == 6


@settings(deadline=None, max_examples=30)
@given(top_k=st.integers(1, 64), more=st.integers(0, 64), width=st.integers(1, 5000))
def test_of_stacked_experts_exactly_top_k_are_active(top_k, more, width):
    number = top_k + more
    model = jax.eval_shape(lambda: experts(number, top_k, width))
    one = width * width + width
    counted = parameters(model)
    assert (counted.unique, counted.active) == (number * one, top_k * one)


@pytest.mark.parametrize("share", [0, -0.5, 1.5, math.nan])
def test_an_active_share_outside_its_range_is_refused(share):
    with pytest.raises(ValueError, match=r"active share .* set it to top_k / experts"):
        parameters({"expert": nnx.Param(jnp.zeros(3), active=share)})


def test_a_tree_of_bare_arrays_is_refused_and_an_empty_one_has_none():
    with pytest.raises(ValueError, match=r"all 2 leaves .* wrap each parameter in nnx\.Param"):
        parameters({"kernel": jnp.zeros(3), "bias": jnp.zeros(1)})
    assert parameters({}) == Parameters(stored=0, unique=0, active=0)


@settings(deadline=None, max_examples=30)
@given(width=st.integers(1, 1000), depth=st.integers(0, 3), tied=st.booleans())
def test_parts_sum_to_the_whole(width, depth, tied):
    model = abstract(lambda: Pair(width, tied=tied))
    parts = by_part(model, depth=depth).values()
    total = parameters(model)
    assert sum(part.stored for part in parts) == total.stored
    assert sum(part.unique for part in parts) == total.unique


def test_parts_are_named_by_their_paths():
    model = abstract(lambda: Pair(3, tied=False))
    assert list(by_part(model)) == ["first", "second"]
    assert by_part(model, depth=2)["second.kernel"].stored == 9


def test_bytes_follow_the_types_or_the_bits():
    model = abstract(lambda: Pair(3, tied=True))
    assert parameter_bytes(model) == 9 * 4 + 3 * 2
    assert parameter_bytes(model, bits=8) == 12
    assert parameter_bytes(model, bits=4) == 5 + 2  # each array in whole bytes
    with pytest.raises(ValueError, match="bits must be at least 1"):
        parameter_bytes(model, bits=0)

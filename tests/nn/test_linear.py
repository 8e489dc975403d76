"""Merging: any linear layer, and any network of them, as the dense one that equals it."""

from functools import partial

import jax
import numpy as np
import pytest
from families import LINEAR, factory
from flax import nnx
from layers import call, drawn, normal, side_by_side

from smallnets.measure.parameters import parameters
from smallnets.nn.convolution import ConvolutionalNetwork
from smallnets.nn.linear import Dense, Linear, merge, merged
from smallnets.nn.mixture import Mixture
from smallnets.nn.residual import ResidualNetwork
from smallnets.nn.sharing import Relaxed


@pytest.fixture(params=LINEAR)
def linear(request: pytest.FixtureRequest):
    return factory(request.param)


@jax.jit
def whole_and_merged(network: nnx.Module, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    return network(x), merged(network)(x)


@pytest.mark.breadth
@pytest.mark.parametrize(("d_in", "d_out"), [(16, 16), (16, 32), (32, 16)])
def test_a_merged_layer_equals_the_layer(linear, d_in: int, d_out: int):
    layer, x = drawn(partial(linear, d_in, d_out)), normal(7, d_in)
    dense = jax.jit(merge)(layer)
    assert type(dense) is Dense
    assert dense.kernel.shape == (d_in, d_out)
    assert dense.kernel.get_metadata("fan_in") == d_in
    np.testing.assert_allclose(x @ dense.kernel[...], call(layer, x), rtol=1e-4, atol=1e-5)


@pytest.mark.breadth
def test_stacked_layers_merge_together(linear):
    def row(seed: int) -> nnx.Module:
        return side_by_side(*(drawn(partial(linear, 16, 32), seed + each) for each in range(3)))

    layers, x = side_by_side(row(0), row(3)), normal(5, 16)
    dense = jax.jit(merge)(layers)
    assert dense.kernel.shape == (2, 3, 16, 32)
    expected = jax.jit(jax.vmap(jax.vmap(lambda layer: layer(x))))(layers)
    found = np.einsum("ni,abio->abno", x, dense.kernel[...])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


SHARED_MIXTURE = {"unique": 2, "mixture": partial(Mixture, experts=3, top_k=2)}
NETWORK = partial(ResidualNetwork, (16,), 10, width=16, depth=4)


def abstract(linear, **options) -> nnx.Module:
    return jax.eval_shape(lambda: NETWORK(linear=linear, **options, rngs=nnx.Rngs(0)))


@pytest.mark.breadth
@pytest.mark.parametrize(
    "options",
    [{}, SHARED_MIXTURE, {"unique": 2, "relaxation": 2}, {**SHARED_MIXTURE, "relaxation": 2}],
    ids=["plain", "shared mixture", "relaxed", "relaxed mixture"],
)
def test_a_merged_network_is_the_dense_network_in_tree_and_size(linear, options):
    whole = jax.eval_shape(merged, abstract(linear, **options))
    dense = abstract(Dense, **options)
    assert parameters(whole) == parameters(dense)
    assert jax.tree.structure(whole) == jax.tree.structure(dense)
    assert jax.tree.leaves(whole) == jax.tree.leaves(dense)


@pytest.mark.breadth
@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("monarch", SHARED_MIXTURE),
        ("low_rank", {}),
        ("low_rank", {**SHARED_MIXTURE, "relaxation": 2}),
    ],
)
def test_a_merged_network_equals_the_network(family: str, options):
    network = drawn(partial(NETWORK, linear=factory(family), **options))
    one, other = whole_and_merged(network, normal(5, 16))
    np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.breadth
def test_a_merged_convolution_equals_the_convolution(linear):
    network = drawn(
        partial(
            ConvolutionalNetwork,
            (40, 1),
            10,
            width=16,
            sizes=[5, 3],
            stride=2,
            padding=1,
            linear=linear,
        )
    )
    one, other = whole_and_merged(network, normal(3, 40, 1))
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    nodes = jax.tree.leaves(
        jax.eval_shape(merged, network), is_leaf=lambda node: isinstance(node, Linear)
    )
    assert {type(node) for node in nodes if isinstance(node, Linear)} == {Dense}


def test_merging_leaves_the_model_as_it_was():
    network = drawn(
        partial(
            ResidualNetwork,
            (16,),
            10,
            width=16,
            depth=2,
            unique=1,
            relaxation=1,
            linear=factory("low_rank"),
        )
    )
    before = jax.tree.structure(network)
    whole = merged(network)
    assert jax.tree.structure(network) == before != jax.tree.structure(whole)
    assert isinstance(network.stack.blocks.layer.up, Relaxed)

from functools import partial

import jax
import numpy as np
import pytest
from families import LINEAR, factory
from flax import nnx

from smallnets.measure.parameters import parameters
from smallnets.nn.convolution import ConvolutionalNetwork
from smallnets.nn.linear import Dense, Linear, merge, merged
from smallnets.nn.mixture import Mixture
from smallnets.nn.parameter import stacked
from smallnets.nn.residual import ResidualNetwork
from smallnets.nn.sharing import Relaxed

X = jax.random.normal(jax.random.key(3), (5, 16))


@pytest.fixture(params=LINEAR)
def linear(request: pytest.FixtureRequest):
    return factory(request.param)


def linear_layers(model) -> list[Linear]:
    nodes = jax.tree.leaves(model, is_leaf=lambda node: isinstance(node, Linear))
    return [node for node in nodes if isinstance(node, Linear)]


@pytest.mark.parametrize(("d_in", "d_out"), [(16, 16), (16, 32), (32, 16)])
def test_a_merged_layer_equals_the_layer(linear, d_in: int, d_out: int):
    layer = linear(d_in, d_out, rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(1), (7, d_in))
    dense = merge(layer)
    assert type(dense) is Dense
    assert dense.kernel.shape == (d_in, d_out)
    assert dense.kernel.get_metadata("fan_in") == d_in
    np.testing.assert_allclose(dense(x), layer(x), rtol=1e-4, atol=1e-5)


def test_stacked_layers_merge_together(linear):
    nested = partial(stacked, partial(linear, 16, 32), count=3)
    layers = stacked(lambda rngs: nested(rngs.params()), jax.random.key(0), 2)
    together = jax.vmap(jax.vmap(lambda layer: layer(X)))
    dense = merge(layers)
    assert dense.kernel.shape == (2, 3, 16, 32)
    np.testing.assert_allclose(together(dense), together(layers), rtol=1e-4, atol=1e-5)


SHARED_MIXTURE = {"unique": 2, "mixture": partial(Mixture, experts=3, top_k=2)}


@pytest.mark.parametrize(
    ("family", "options"),
    [
        *((family, SHARED_MIXTURE) for family in LINEAR),
        ("low_rank", {}),
        ("low_rank", {"unique": 2, "relaxation": 2}),
        ("low_rank", {**SHARED_MIXTURE, "relaxation": 2}),
    ],
)
def test_a_merged_network_equals_the_network(family: str, options):
    build = partial(ResidualNetwork, (16,), 10, width=16, depth=4, **options)
    network = build(linear=factory(family), rngs=nnx.Rngs(0))
    whole = merged(network)
    call = jax.jit(lambda network: network(X))
    np.testing.assert_allclose(call(whole), call(network), rtol=1e-3, atol=1e-4)
    of_dense = jax.eval_shape(lambda: build(linear=Dense, rngs=nnx.Rngs(0)))
    assert parameters(whole) == parameters(of_dense)
    assert jax.tree.structure(whole) == jax.tree.structure(of_dense)


def test_a_merged_convolution_equals_the_convolution(linear):
    network = ConvolutionalNetwork(
        (40, 1), 10, width=16, sizes=[5, 3], stride=2, padding=1, linear=linear, rngs=nnx.Rngs(0)
    )
    x = jax.random.normal(jax.random.key(1), (3, 40, 1))
    whole = merged(network)
    assert {type(layer) for layer in linear_layers(whole)} == {Dense}
    np.testing.assert_allclose(whole(x), network(x), rtol=1e-4, atol=1e-5)


def test_merging_leaves_the_model_as_it_was():
    network = ResidualNetwork(
        (16,), 10, width=16, depth=2, unique=1, relaxation=1,
        linear=factory("low_rank"), rngs=nnx.Rngs(0),
    )  # fmt: skip
    before = jax.tree.structure(network)
    merged(network)
    assert jax.tree.structure(network) == before
    assert isinstance(network.stack.blocks.layer.up, Relaxed)

"""Residual connections, and the network of them, whose parts can each be exchanged."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from layers import call, drawn, normal

from smallnets.measure.parameters import parameters
from smallnets.nn.exits import Exits
from smallnets.nn.feed_forward import FeedForward
from smallnets.nn.linear import Dense, LowRank
from smallnets.nn.mixture import Mixture
from smallnets.nn.norm import LayerNorm, RMSNorm
from smallnets.nn.parameter import partition
from smallnets.nn.residual import PostNormResidual, Residual, ResidualNetwork

NETWORK = partial(ResidualNetwork, (3, 2), 5, width=8, depth=3, linear=Dense)
CONNECTIONS = {"norm before": Residual, "norm behind": PostNormResidual}
NORMS = {"root mean square": RMSNorm, "layer": LayerNorm}


def values(parameter: nnx.Param) -> np.ndarray:
    return np.asarray(parameter[...], float)


def normalised(norm: nnx.Module, x: np.ndarray) -> np.ndarray:
    """The two norms' equations."""
    if isinstance(norm, LayerNorm):
        x = x - x.mean(axis=-1, keepdims=True)
        scale, bias, epsilon = values(norm.norm.scale), values(norm.bias), norm.norm.epsilon
    else:
        assert isinstance(norm, RMSNorm)
        scale, bias, epsilon = values(norm.scale), 0.0, norm.epsilon
    return x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + epsilon) * scale + bias


@pytest.mark.parametrize("norm", NORMS.values(), ids=NORMS)
@pytest.mark.parametrize("connection", CONNECTIONS.values(), ids=CONNECTIONS)
def test_a_connection_is_its_equation(connection, norm):
    block = drawn(partial(connection, 8, layer=Dense, norm=norm))
    x = np.asarray(normal(5, 8), float)
    if connection is Residual:
        expected = x + normalised(block.norm, x) @ values(block.layer.kernel)
    else:
        expected = normalised(block.norm, x + x @ values(block.layer.kernel))
    found = call(block, x.astype(np.float32))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("norm", NORMS.values(), ids=NORMS)
@pytest.mark.parametrize("connection", CONNECTIONS.values(), ids=CONNECTIONS)
def test_the_network_is_embedding_blocks_norm_and_head(connection, norm):
    model, x = drawn(partial(NETWORK, connection=connection, norm=norm)), normal(4, 3, 2)
    assert type(model.stack.blocks) is connection
    assert isinstance(model.norm, norm)
    state = np.asarray(x, float).reshape(4, 6) @ values(model.embedding.kernel)
    for index in range(3):
        each = jax.tree.map(lambda leaf: np.asarray(leaf)[index], model.stack.blocks)  # noqa: B023
        state = np.asarray(call(each, state.astype(np.float32)), float)
    expected = normalised(model.norm, state) @ values(model.head.kernel)
    np.testing.assert_allclose(call(model, x), expected, rtol=1e-3, atol=1e-3)


def test_a_norm_behind_the_sum_leaves_each_block_normalised():
    """Whatever the layer and its input: so what a block gives has mean square 1."""
    block = drawn(partial(PostNormResidual, 8, layer=FEED_FORWARD))
    block.norm.scale[...] = np.ones(8, np.float32)
    y = np.asarray(call(block, 100 * np.asarray(normal(5, 8))))
    np.testing.assert_allclose((y**2).mean(axis=-1), 1, rtol=1e-4)


FEED_FORWARD = partial(FeedForward, linear=Dense)
VARIANTS = {  # and the parameters of a block: two of 8 x 16 and a norm of 8 in the plain one
    "plain": ({}, 2 * 128 + 8),
    "norm behind": ({"connection": PostNormResidual}, 2 * 128 + 8),
    "layer norm": ({"norm": LayerNorm}, 2 * 128 + 16),
    "norm behind, layer norm": ({"connection": PostNormResidual, "norm": LayerNorm}, 2 * 128 + 16),
    "wider": ({"feed_forward": partial(FeedForward, expansion=4)}, 2 * 256 + 8),
    "hidden": ({"hidden": 5}, 2 * 40 + 8),
    "gated": ({"feed_forward": partial(FeedForward, gated=True)}, 3 * 128 + 8),
    "low-rank": ({"linear": partial(LowRank, rank=2)}, 2 * 2 * 24 + 8),
    "mixture": ({"mixture": partial(Mixture, experts=4, top_k=2)}, 4 * 2 * 128 + 32 + 8),
}


@pytest.mark.parametrize(("options", "block"), VARIANTS.values(), ids=VARIANTS)
def test_each_part_can_be_exchanged_and_nothing_is_held_twice(options, block):
    def build() -> ResidualNetwork:
        model = NETWORK(**options, rngs=nnx.Rngs(0))
        assert not list(nnx.find_duplicates(model))
        return model

    model = jax.eval_shape(build)
    final = 16 if "norm" in options else 8
    assert parameters(model).stored == 6 * 8 + 3 * block + final + 8 * 5
    assert jax.eval_shape(call, model, jnp.ones((2, 4, 3, 2))).shape == (2, 4, 5)
    assert jax.eval_shape(call, model, jnp.ones((3, 2))).shape == (5,)


@pytest.mark.breadth
@pytest.mark.parametrize("unique", [None, 1])
def test_a_network_with_norms_behind_the_sums_trains_every_parameter(unique):
    """Shared or not: each one has a gradient, and the exits theirs."""
    model = drawn(
        partial(NETWORK, connection=PostNormResidual, norm=LayerNorm, unique=unique, exits=Exits)
    )
    x = normal(4, 3, 2)
    gradient = jax.jit(jax.grad(lambda model: (model(x) ** 2).sum()))(model)
    for leaf in jax.tree.leaves(partition(gradient)[0]):
        assert np.abs(np.asarray(leaf)).reshape(len(leaf), -1).max(axis=1).all()

"""Dropout, and the copy of a model that a training step calls."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from layers import call, drawn, normal

from smallnets.nn import (
    Attention,
    ConvolutionalNetwork,
    Dense,
    Dropout,
    Dropped,
    FeedForward,
    ResidualConvolutionalNetwork,
    ResidualNetwork,
    Stack,
    Transformer,
    training,
)
from smallnets.nn.parameter import partition


def dropped(rate: Any = 0.25) -> Dropped:
    layer = partial(Dropped, layer=Dense, dropout=rate)
    return layer(16, 16, rngs=nnx.Rngs(params=jax.random.key(0)))


def test_an_evaluation_drops_nothing():
    layer, x = dropped(), normal(5, 16)
    np.testing.assert_array_equal(layer(x), layer.layer(x))


def test_a_step_drops_the_share_and_keeps_the_mean():
    dropout = training(Dropout(0.25, rngs=nnx.Rngs(0)), jax.random.key(1))
    y = np.asarray(dropout(jnp.ones((100, 100))))
    assert set(np.unique(y)) == {0, np.float32(1 / 0.75)}
    assert abs(np.mean(y == 0) - 0.25) < 0.02  # 4 standard deviations


def test_the_bits_are_of_the_step_and_the_layer():
    one, x = dropped(), normal(5, 16)
    other = Dropped(16, 16, layer=Dense, dropout=0.25, rngs=nnx.Rngs(7))
    first, second = jax.random.split(jax.random.key(1))
    np.testing.assert_array_equal(training(one, first)(x), training(one, first)(x))
    masks = [np.asarray(each(x) == 0) for each in (training(one, first), training(one, second))]
    assert (masks[0] != masks[1]).any()
    assert (masks[0] != (np.asarray(training(other, first)(x)) == 0)).any()


def test_a_model_without_such_layers_is_the_very_same():
    model = Dense(4, 4, rngs=nnx.Rngs(0))
    assert training(model, jax.random.key(0)) is model


def test_the_model_itself_stays_as_it_was():
    model = dropped()
    salt = np.asarray(model.dropout.salt[...])
    copy = training(model, jax.random.key(0))
    assert model.dropout.deterministic
    assert not copy.dropout.deterministic
    np.testing.assert_array_equal(model.dropout.salt[...], salt)
    assert (np.asarray(copy.dropout.salt[...]) != salt).any()


def test_stacked_layers_draw_for_themselves():
    """A stack of layers that are the identity: a number survives if no layer drops it."""
    identity = partial(Dropped, 32, 32, layer=lambda a, b, rngs: Dense(a, b, rngs=rngs))
    stack = Stack(block=partial(identity, dropout=0.5), depth=3, rngs=nnx.Rngs(0))
    kernel = stack.blocks.layer.kernel
    kernel[...] = jnp.broadcast_to(jnp.eye(32), kernel.shape)
    y = np.asarray(training(stack, jax.random.key(2))(jnp.ones((64, 32))))
    assert set(np.unique(y)) == {0, 8}
    assert abs(np.mean(y > 0) - 1 / 8) < 0.03
    salts = np.asarray(stack.blocks.dropout.salt[...])
    assert len(np.unique(salts, axis=0)) == 3


def test_members_side_by_side_draw_for_themselves():
    def step(key: jax.Array, rate: Any) -> jax.Array:
        model = Dropped(16, 16, layer=Dense, dropout=rate, rngs=nnx.Rngs(params=key))
        return training(model, jax.random.fold_in(key, 0))(jnp.ones((50, 16)))

    rates = jnp.asarray([0.1, 0.5])
    y = jax.jit(jax.vmap(step))(jax.random.split(jax.random.key(0), 2), rates)
    np.testing.assert_allclose((y == 0).mean(axis=(1, 2)), rates, atol=0.07)


def test_a_salt_and_a_rate_are_no_parameters():
    parameters, rest = partition(dropped())
    assert len(jax.tree.leaves(parameters)) == 1
    assert len(jax.tree.leaves(rest)) == 2


@pytest.mark.parametrize("rate", [-0.1, 1, 1.5])
def test_a_rate_is_a_share(rate: float):
    with pytest.raises(ValueError, match=rf"dropout must lie in \[0, 1\), but is {rate}"):
        Dropout(rate, rngs=nnx.Rngs(0))


BLOCKS = {"width": 16, "depth": 2, "linear": Dense}
NETWORKS = {
    "residual": partial(ResidualNetwork, (8, 2), 5, **BLOCKS),
    "encoder": partial(
        Transformer, (8, 2), 5, **BLOCKS, attention=partial(Attention, head_dim=8),
        feed_forward=FeedForward, causal=False, tied=False,
    ),
    "convolutional": partial(
        ConvolutionalNetwork, (8, 2), 5, width=8, sizes=[3], stride=2, padding=1, linear=Dense
    ),
    "residual convolutional": partial(
        ResidualConvolutionalNetwork, (8, 2), 5, **BLOCKS, stages=2
    ),
}  # fmt: skip


@pytest.mark.breadth
@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_drops_in_training_alone(name: str):
    build = NETWORKS[name]
    without, x = drawn(build), normal(3, 8, 2)
    with_dropout = drawn(partial(build, dropout=0.5))
    y = call(with_dropout, x)
    np.testing.assert_array_equal(y, call(without, x))
    one, other = (call(training(with_dropout, jax.random.key(seed)), x) for seed in (0, 1))
    assert not np.allclose(one, y)
    assert not np.allclose(one, other)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_rate_of_zero_is_the_network_without(name: str):
    built = [
        jax.eval_shape(lambda options=options: NETWORKS[name](rngs=nnx.Rngs(0), **options))
        for options in ({}, {"dropout": 0}, {"dropout": 0.0})
    ]
    assert len({jax.tree.structure(each) for each in built}) == 1
    assert training(built[0], jax.random.key(0)) is built[0]

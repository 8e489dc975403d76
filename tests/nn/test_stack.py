from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from smallnets.measure import flops
from smallnets.measure.parameters import parameters
from smallnets.nn.linear import Dense, LowRank
from smallnets.nn.mixture import Mixture
from smallnets.nn.residual import Residual, ResidualNetwork
from smallnets.nn.sharing import Order, Relaxed, Stack

BLOCK = partial(Residual, 8, layer=Dense)
RELAXED = partial(Residual, 8, layer=partial(Relaxed, linear=Dense, rank=2))
ORDERS: dict[Order, list[int]] = {"cyclic": [0, 1, 0, 1, 0, 1], "consecutive": [0, 0, 0, 1, 1, 1]}
X = jax.random.normal(jax.random.key(3), (5, 8))


def at(blocks, index: int):
    return jax.tree.map(lambda leaf: leaf[index], blocks)


def randomised(model, seed: int = 9):
    """``model`` with other numbers, so that nothing is zero because it starts so."""
    leaves, tree = jax.tree.flatten(model)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    return tree.unflatten(
        [0.3 * jax.random.normal(key, x.shape) for key, x in zip(keys, leaves, strict=True)]
    )


@pytest.mark.parametrize(("depth", "unique"), [(1, 1), (4, 4), (4, 1), (6, 2), (3, None)])
def test_it_is_the_blocks_called_in_turn(depth: int, unique: int | None):
    stack = Stack(block=BLOCK, depth=depth, unique=unique, rngs=nnx.Rngs(0))
    count = unique or depth
    expected = X
    for index in range(depth):
        expected = at(stack.blocks, index % count)(expected)
    np.testing.assert_allclose(stack(X), expected, rtol=1e-5, atol=1e-5)
    assert stack.blocks.layer.kernel.shape == (count, 8, 8)


@pytest.mark.parametrize("order", ORDERS)
def test_the_order_says_which_block_comes_when(order):
    stack = Stack(block=BLOCK, depth=6, unique=2, order=order, rngs=nnx.Rngs(0))
    expected = X
    for index in ORDERS[order]:
        expected = at(stack.blocks, index)(expected)
    np.testing.assert_allclose(stack(X), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("depth", "unique"), [(3, 3), (3, 1)])
def test_orders_agree_where_there_is_but_one(depth: int, unique: int):
    stacks = [
        Stack(block=BLOCK, depth=depth, unique=unique, order=order, rngs=nnx.Rngs(0))
        for order in ORDERS
    ]
    np.testing.assert_allclose(stacks[0](X), stacks[1](X), rtol=1e-6, atol=1e-6)


def test_a_shared_block_gets_the_sum_of_the_gradients_of_its_calls():
    shared = Stack(block=BLOCK, depth=3, unique=1, rngs=nnx.Rngs(0))
    untied = Stack(block=BLOCK, depth=3, rngs=nnx.Rngs(0))
    untied = jax.tree.map(
        lambda one, three: jnp.broadcast_to(one, three.shape), shared.blocks, untied.blocks
    )

    def through(blocks):
        x = X
        for index in range(3):
            x = at(blocks, index)(x)
        return jnp.sum(x**2)

    each = jax.grad(through)(untied)
    summed = jax.tree.map(lambda leaf: leaf.sum(axis=0, keepdims=True), each)

    def called(stack):
        return jnp.sum(stack(X) ** 2)

    ours = jax.grad(called)(shared).blocks
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(summed), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4)


@pytest.mark.parametrize("order", ORDERS)
def test_each_call_of_a_relaxed_block_adds_its_own_difference(order):
    stack = Stack(block=RELAXED, depth=6, unique=2, order=order, rngs=nnx.Rngs(0))
    stack = randomised(stack)
    layers, differences = stack.blocks.layer.shared.kernel, stack.blocks.layer.difference
    assert layers.shape == (2, 8, 8)
    assert differences.down.shape == (6, 8, 2)
    expected = X
    for call, index in enumerate(ORDERS[order]):
        block = Residual(8, layer=Dense, rngs=nnx.Rngs(0))
        block.norm = at(stack.blocks.norm, index)
        block.layer.kernel[...] = layers[index] + differences.down[call] @ differences.up[call]
        expected = block(expected)
    np.testing.assert_allclose(stack(X), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("order", ORDERS)
def test_a_relaxation_starts_as_plain_sharing(order):
    relaxed = Stack(block=RELAXED, depth=6, unique=2, order=order, rngs=nnx.Rngs(0))
    plain = Stack(block=BLOCK, depth=6, unique=2, order=order, rngs=nnx.Rngs(0))
    plain.blocks.norm, plain.blocks.layer = relaxed.blocks.norm, relaxed.blocks.layer.shared
    np.testing.assert_array_equal(relaxed(X), plain(X))


@pytest.mark.filterwarnings("ignore::smallnets.nn.linear.LargerThanDense")
def test_a_relaxation_of_full_rank_expresses_any_unshared_stack():
    unshared = Stack(block=BLOCK, depth=3, rngs=nnx.Rngs(0))
    full = partial(Residual, 8, layer=partial(Relaxed, linear=Dense, rank=8))
    relaxed = Stack(block=full, depth=3, unique=1, rngs=nnx.Rngs(1))
    wanted = unshared.blocks.layer.kernel[...] - jnp.repeat(
        relaxed.blocks.layer.shared.kernel[...], 3, axis=0
    )
    left, scale, right = jnp.linalg.svd(wanted)
    relaxed.blocks.layer.difference.down[...] = left * jnp.broadcast_to(scale[:, None], left.shape)
    relaxed.blocks.layer.difference.up[...] = right
    np.testing.assert_allclose(relaxed(X), unshared(X), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("order", ORDERS)
def test_counts_of_a_relaxed_stack(order):
    stack = Stack(block=RELAXED, depth=6, unique=2, order=order, rngs=nnx.Rngs(0))
    counted = parameters(stack)
    assert counted.stored == counted.active == 2 * (64 + 8) + 6 * 2 * (8 + 8)
    forward = flops.count(lambda model, x: model(x), stack, X)
    assert forward.per(len(X)).products == 6 * 2 * (64 + 2 * (8 + 8))


def test_differences_of_experts_are_as_active_as_the_experts():
    mixture = partial(Mixture, experts=4, top_k=1)
    build = partial(ResidualNetwork, (3,), 2, width=8, depth=4, unique=2, relaxation=1)
    network = jax.eval_shape(
        lambda: build(linear=partial(LowRank, rank=2), mixture=mixture, rngs=nnx.Rngs(0))
    )
    assert network.stack.blocks.layer.expert.up.difference.down.shape == (4, 4, 8, 1)
    each = 2 * 3 * 8  # of an expert's two layers of 8 and 16: rank 1 of the difference
    shared = 2 * (2 * 2 * 3 * 8 + 8 * 4 + 8)
    rest = 3 * 8 + 8 + 8 * 2
    assert parameters(network).active == 4 * each + shared + rest
    assert jax.eval_shape(lambda network: network(jnp.ones((5, 3))), network).shape == (5, 2)


def test_a_relaxed_network_trains_its_shared_and_its_own_parameters():
    network = ResidualNetwork(
        (8,), 2, width=8, depth=4, unique=1, linear=Dense, relaxation=2, rngs=nnx.Rngs(0)
    )
    gradient = jax.grad(lambda network: jnp.sum(network(X) ** 2))(network).stack
    assert jnp.all(jnp.any(gradient.blocks.layer.up.difference.up[...] != 0, axis=(1, 2)))
    assert jnp.any(gradient.blocks.layer.up.shared.kernel[...] != 0)


@pytest.mark.parametrize(("depth", "unique"), [(4, 3), (4, 5), (4, 0)])
def test_sharing_that_does_not_divide_gets_one_line(depth: int, unique: int):
    with pytest.raises(ValueError, match=f"unique={unique} for depth={depth}"):
        Stack(block=BLOCK, depth=depth, unique=unique, rngs=nnx.Rngs(0))


def test_an_unknown_order_gets_one_line():
    with pytest.raises(ValueError, match="order must be cyclic or consecutive, but is 'abba'"):
        Stack(block=BLOCK, depth=4, order="abba", rngs=nnx.Rngs(0))  # pyright: ignore


def test_a_relaxation_of_what_is_not_shared_gets_one_line():
    with pytest.raises(ValueError, match="unique=4 for depth=4: lower unique"):
        Stack(block=RELAXED, depth=4, rngs=nnx.Rngs(0))

"""Blocks that are called again: in which order, with which differences of each call's own."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from layers import at, call, drawn, normal

from smallnets.measure import flops
from smallnets.measure.parameters import parameters
from smallnets.nn.linear import Dense, LowRank
from smallnets.nn.mixture import Mixture
from smallnets.nn.residual import Residual, ResidualNetwork
from smallnets.nn.sharing import Order, Relaxed, Stack

BLOCK = partial(Residual, 8, layer=Dense)
RELAXED = partial(Residual, 8, layer=partial(Relaxed, linear=Dense, rank=2))
ORDERS: dict[Order, list[int]] = {"cyclic": [0, 1, 0, 1, 0, 1], "consecutive": [0, 0, 0, 1, 1, 1]}
X = normal(5, 8)


def stack(depth: int, unique: int | None = None, *, block=BLOCK, **options) -> Stack:
    return drawn(partial(Stack, block=block, depth=depth, unique=unique, **options))


@pytest.mark.parametrize(("depth", "unique"), [(1, 1), (4, 4), (4, 1), (6, 2), (3, None)])
def test_it_is_the_blocks_called_in_turn(depth: int, unique: int | None):
    model = stack(depth, unique)
    count, expected = unique or depth, X
    for index in range(depth):
        expected = call(at(model.blocks, index % count), expected)
    np.testing.assert_allclose(call(model, X), expected, rtol=1e-5, atol=1e-5)
    assert model.blocks.layer.kernel.shape == (count, 8, 8)


@pytest.mark.parametrize("order", ORDERS)
def test_the_order_says_which_block_comes_when(order):
    model, expected = stack(6, 2, order=order), X
    for index in ORDERS[order]:
        expected = call(at(model.blocks, index), expected)
    np.testing.assert_allclose(call(model, X), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("depth", "unique"), [(3, 3), (3, 1)])
def test_orders_agree_where_there_is_but_one(depth: int, unique: int):
    one, other = (call(stack(depth, unique, order=order), X) for order in ORDERS)
    np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)


def test_a_shared_block_gets_the_sum_of_the_gradients_of_its_calls():
    shared = stack(3, 1)
    untied = jax.tree.map(lambda leaf: np.repeat(leaf, 3, axis=0), shared.blocks)

    def through(blocks):
        x = X
        for index in range(3):
            x = jax.tree.map(lambda leaf: leaf[index], blocks)(x)  # noqa: B023
        return jnp.sum(x**2)

    each = jax.jit(jax.grad(through))(untied)
    ours = jax.jit(jax.grad(lambda stack: jnp.sum(stack(X) ** 2)))(shared).blocks
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(each), strict=True):
        np.testing.assert_allclose(a, np.sum(b, axis=0, keepdims=True), rtol=1e-4)


@pytest.mark.parametrize("order", ORDERS)
def test_each_call_of_a_relaxed_block_adds_its_own_difference(order):
    model = stack(6, 2, block=RELAXED, order=order)
    shared, difference = model.blocks.layer.shared.kernel, model.blocks.layer.difference
    down, up = np.asarray(difference.down[...]), np.asarray(difference.up[...])
    assert (shared.shape, down.shape) == ((2, 8, 8), (6, 8, 2))
    expected, block = X, drawn(BLOCK)
    for number, index in enumerate(ORDERS[order]):
        block.norm = at(model.blocks.norm, index)
        block.layer.kernel[...] = np.asarray(shared[...])[index] + down[number] @ up[number]
        expected = call(block, expected)
    np.testing.assert_allclose(call(model, X), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.breadth
@pytest.mark.parametrize("order", ORDERS)
def test_a_relaxation_starts_as_plain_sharing(order):
    @jax.jit
    def relaxed_and_plain() -> tuple[jax.Array, jax.Array]:
        options = {"depth": 6, "unique": 2, "order": order}
        relaxed = Stack(block=RELAXED, **options, rngs=nnx.Rngs(0))
        plain = Stack(block=BLOCK, **options, rngs=nnx.Rngs(0))
        plain.blocks.norm, plain.blocks.layer = relaxed.blocks.norm, relaxed.blocks.layer.shared
        return relaxed(X), plain(X)

    relaxed, plain = relaxed_and_plain()
    np.testing.assert_array_equal(relaxed, plain)


@pytest.mark.filterwarnings("ignore::smallnets.nn.linear.LargerThanDense")
def test_a_relaxation_of_full_rank_expresses_any_unshared_stack():
    unshared = stack(3)
    full = partial(Residual, 8, layer=partial(Relaxed, linear=Dense, rank=8))
    relaxed = stack(3, 1, block=full)
    relaxed.blocks.norm = jax.tree.map(lambda leaf: leaf[:1], unshared.blocks.norm)
    unshared.blocks.norm = jax.tree.map(lambda leaf: np.repeat(leaf, 3, 0), relaxed.blocks.norm)
    layer = relaxed.blocks.layer
    wanted = np.asarray(unshared.blocks.layer.kernel[...]) - np.asarray(layer.shared.kernel[...])
    left, scale, right = np.linalg.svd(wanted)
    layer.difference.down[...], layer.difference.up[...] = left * scale[:, None], right
    np.testing.assert_allclose(call(relaxed, X), call(unshared, X), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("order", ORDERS)
def test_counts_of_a_relaxed_stack(order):
    model = stack(6, 2, block=RELAXED, order=order)
    counted = parameters(model)
    assert counted.stored == counted.active == 2 * (64 + 8) + 6 * 2 * (8 + 8)
    forward = flops.count(lambda model, x: model(x), model, X)
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
    assert jax.eval_shape(call, network, jnp.ones((5, 3))).shape == (5, 2)


def test_a_relaxed_network_trains_its_shared_and_its_own_parameters():
    build = partial(ResidualNetwork, (8,), 2, width=8, depth=4, unique=1, relaxation=2)
    network = drawn(partial(build, linear=Dense))
    gradient = jax.jit(jax.grad(lambda network: jnp.sum(network(X) ** 2)))(network).stack
    up = gradient.blocks.layer.up
    assert np.any(np.asarray(up.difference.up[...]) != 0, axis=(1, 2)).all()
    assert np.any(np.asarray(up.shared.kernel[...]) != 0)


@pytest.mark.parametrize(("depth", "unique"), [(4, 3), (4, 5), (4, 0)])
def test_sharing_that_does_not_divide_gets_one_line(depth: int, unique: int):
    with pytest.raises(ValueError, match=f"unique={unique} for depth={depth}"):
        stack(depth, unique)


def test_an_unknown_order_gets_one_line():
    with pytest.raises(ValueError, match="order must be cyclic or consecutive, but is 'abba'"):
        stack(4, order="abba")


def test_a_relaxation_of_what_is_not_shared_gets_one_line():
    with pytest.raises(ValueError, match="unique=4 for depth=4: lower unique"):
        stack(4, block=RELAXED)

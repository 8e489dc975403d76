from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from smallnets.nn.dense import Dense
from smallnets.nn.residual import Residual
from smallnets.nn.stack import Stack

BLOCK = partial(Residual, 8, map=Dense)
X = jax.random.normal(jax.random.key(3), (5, 8))


@pytest.mark.parametrize(("depth", "unique"), [(1, 1), (4, 4), (4, 1), (6, 2), (3, None)])
def test_it_is_the_blocks_called_in_turn(depth: int, unique: int | None):
    stack = Stack(block=BLOCK, depth=depth, unique=unique, rngs=nnx.Rngs(0))
    count = unique or depth
    blocks = [jax.tree.map(lambda leaf, i=i: leaf[i], stack.blocks) for i in range(count)]
    expected = X
    for index in range(depth):
        expected = blocks[index % count](expected)
    np.testing.assert_allclose(stack(X), expected, rtol=1e-5, atol=1e-5)
    assert stack.blocks.map.kernel.shape == (count, 8, 8)


def test_a_shared_block_gets_the_sum_of_the_gradients_of_its_calls():
    shared = Stack(block=BLOCK, depth=3, unique=1, rngs=nnx.Rngs(0))
    untied = Stack(block=BLOCK, depth=3, rngs=nnx.Rngs(0))
    untied = jax.tree.map(
        lambda one, three: jnp.broadcast_to(one, three.shape), shared.blocks, untied.blocks
    )

    def through(blocks):
        x = X
        for index in range(3):
            x = jax.tree.map(lambda leaf, i=index: leaf[i], blocks)(x)
        return jnp.sum(x**2)

    each = jax.grad(through)(untied)
    summed = jax.tree.map(lambda leaf: leaf.sum(axis=0, keepdims=True), each)

    def called(stack):
        return jnp.sum(stack(X) ** 2)

    ours = jax.grad(called)(shared).blocks
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(summed), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4)


@pytest.mark.parametrize(("depth", "unique"), [(4, 3), (4, 5), (4, 0)])
def test_sharing_that_does_not_divide_gets_one_line(depth: int, unique: int):
    with pytest.raises(ValueError, match=f"unique={unique} for depth={depth}"):
        Stack(block=BLOCK, depth=depth, unique=unique, rngs=nnx.Rngs(0))

"""The perceptron against its equation, and the published ones."""

from functools import partial

import jax
import numpy as np
import pytest
from flax import nnx
from layers import call, drawn, normal

from smallnets.nn.linear import Dense, LowRank
from smallnets.nn.perceptron import Perceptron


def test_it_is_affine_layers_with_relu_between_them():
    model, x = drawn(partial(Perceptron, (3, 2), 4, widths=[7, 5], linear=Dense)), normal(9, 3, 2)
    expected = np.asarray(x).reshape(9, 6)
    for index, layer in enumerate(model.layers):
        kernel, bias = np.asarray(layer.linear.kernel[...]), np.asarray(layer.bias[...])
        expected = (np.maximum(expected, 0) if index else expected) @ kernel + bias
    np.testing.assert_allclose(call(model, x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("widths", "count"), [([], 410), ([100, 100], 15_210)])
def test_published_ones_have_the_published_number_of_parameters(widths, count):
    build = partial(Perceptron, (40, 1), 10, widths=widths, linear=Dense)
    shapes = jax.eval_shape(lambda: build(rngs=nnx.Rngs(0)))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == count


def test_the_last_layer_is_dense_in_every_family():
    build = partial(Perceptron, (40, 1), 10, widths=[8, 8], linear=partial(LowRank, rank=2))
    model = jax.eval_shape(lambda: build(rngs=nnx.Rngs(0)))
    kinds = [type(layer.linear) for layer in model.layers]
    assert kinds == [LowRank, LowRank, Dense]

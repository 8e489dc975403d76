from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from smallnets.nn.convolution import (
    Convolution,
    DepthwiseConvolution,
    InvertedBottleneck,
    SeparableConvolution,
)
from smallnets.nn.linear import Dense, LowRank

random = np.random.default_rng(0)


def rngs() -> nnx.Rngs:
    return nnx.Rngs(params=0)


def drawn(model):
    """The same with every parameter drawn, so that biases count."""
    return jax.tree.map(lambda leaf: jnp.asarray(random.normal(size=leaf.shape), leaf.dtype), model)


@pytest.mark.parametrize("axes", [1, 2])
def test_depthwise_is_the_grouped_convolution(axes: int):
    layer = drawn(DepthwiseConvolution(4, axes=axes, size=3, stride=2, padding=1, rngs=rngs()))
    x = jnp.asarray(random.normal(size=(2, *[9] * axes, 4)), jnp.float32)
    positions = "HW"[:axes]
    expected = jax.lax.conv_general_dilated(
        x,
        layer.kernel[...].reshape(*[3] * axes, 1, 4),
        window_strides=[2] * axes,
        padding=[(1, 1)] * axes,
        dimension_numbers=(f"N{positions}C", f"{positions}IO", f"N{positions}C"),
        feature_group_count=4,
    )
    y = layer(x) - layer.bias[...].reshape(*[1] * (axes + 1), 4)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


def test_a_separable_convolution_is_a_convolution_of_rank_one_in_each_channel():
    """K[s, c] W[c, o] as one kernel over windows and channels gives the same."""
    layer = drawn(SeparableConvolution(3, 5, axes=1, size=3, padding=1, linear=Dense, rngs=rngs()))
    whole = Convolution(3, 5, axes=1, size=3, padding=1, linear=Dense, rngs=rngs())
    weight, window = layer.pointwise.linear.kernel[...], layer.depthwise.kernel[...]
    whole.layer.linear.kernel[...] = jnp.einsum("sc,co->sco", window, weight).reshape(9, 5)
    whole.layer.bias[...] = layer.pointwise.bias[...] + layer.depthwise.bias[...] @ weight
    x = jnp.asarray(random.normal(size=(2, 7, 3)), jnp.float32)
    np.testing.assert_allclose(layer(x), whole(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("stride", "d_out", "carried"), [(1, 4, True), (2, 4, False), (1, 5, False)]
)
def test_a_bottleneck_carries_its_input_where_the_shape_stays(stride, d_out, carried):
    build = partial(InvertedBottleneck, axes=1, size=3, padding=1, expansion=2, linear=Dense)
    layer = build(4, d_out, stride=stride, rngs=rngs())
    layer.project.linear.kernel[...] = jnp.zeros((8, d_out))
    x = jnp.asarray(random.normal(size=(2, 6, 4)), jnp.float32)
    y = layer(x)
    assert y.shape == (2, 6 // stride, d_out)
    np.testing.assert_array_equal(y, x if carried else jnp.zeros_like(y))


def test_a_bottleneck_with_a_stride_carries_nothing_even_at_one_position():
    build = partial(InvertedBottleneck, axes=1, size=3, padding=1, stride=2, linear=Dense)
    layer = build(4, 4, rngs=rngs())
    layer.project.linear.kernel[...] = jnp.zeros((24, 4))
    np.testing.assert_array_equal(layer(jnp.ones((2, 1, 4))), jnp.zeros((2, 1, 4)))


@pytest.mark.parametrize(
    ("build", "parameters"),
    [
        (partial(SeparableConvolution, linear=Dense), (9 + 1) * 8 + 8 * 6 + 6),
        (
            partial(InvertedBottleneck, linear=partial(LowRank, rank=2), expansion=3),
            2 * (8 + 24) + (9 + 2) * 24 + 2 * (24 + 6) + 6,
        ),
    ],
)
def test_parameters_as_documented(build, parameters: int):
    layer = build(8, 6, axes=2, size=3, rngs=rngs())
    assert sum(leaf.size for leaf in jax.tree.leaves(layer)) == parameters

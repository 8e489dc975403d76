"""Convolutions against JAX's own, and the network of them."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from layers import call, drawn, normal

from smallnets.nn.convolution import (
    Convolution,
    ConvolutionalNetwork,
    DepthwiseConvolution,
    InvertedBottleneck,
    SeparableConvolution,
)
from smallnets.nn.linear import Dense, LowRank


def convolved(x: jax.Array, kernel: np.ndarray, **options) -> jax.Array:
    """JAX's convolution of x[batch, *positions, channels] and kernel[*window, channels, d_out]."""
    axes = "HW"[: x.ndim - 2]
    numbers = (f"N{axes}C", f"{axes}IO", f"N{axes}C")
    return jax.lax.conv_general_dilated(
        x, jnp.asarray(kernel), dimension_numbers=numbers, **options
    )


@pytest.mark.parametrize(("axes", "size", "stride", "padding"), [(1, 5, 2, 1), (2, 3, 2, 0)])
def test_patches_and_a_dense_layer_are_a_convolution(axes, size, stride, padding):
    options = {"axes": axes, "size": size, "stride": stride, "padding": padding}
    ours = drawn(partial(Convolution, 3, 4, **options, linear=Dense))
    x = normal(2, *[11] * axes, 3)
    expected = convolved(
        x,
        np.asarray(ours.layer.linear.kernel[...]).reshape(*[size] * axes, 3, 4),
        window_strides=[stride] * axes,
        padding=[(padding, padding)] * axes,
    )
    expected = np.asarray(expected) + np.asarray(ours.layer.bias[...])
    np.testing.assert_allclose(call(ours, x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("axes", [1, 2])
def test_depthwise_is_the_grouped_convolution(axes: int):
    layer = drawn(partial(DepthwiseConvolution, 4, axes=axes, size=3, stride=2, padding=1))
    x = normal(2, *[9] * axes, 4)
    expected = convolved(
        x,
        np.asarray(layer.kernel[...]).reshape(*[3] * axes, 1, 4),
        window_strides=[2] * axes,
        padding=[(1, 1)] * axes,
        feature_group_count=4,
    )
    expected = np.asarray(expected) + np.asarray(layer.bias[...])
    np.testing.assert_allclose(call(layer, x), expected, rtol=1e-5, atol=1e-5)


def test_a_separable_convolution_is_a_convolution_of_rank_one_in_each_channel():
    """K[s, c] W[c, o] as one kernel over windows and channels gives the same."""
    options = {"axes": 1, "size": 3, "padding": 1, "linear": Dense}
    layer = drawn(partial(SeparableConvolution, 3, 5, **options))
    whole = drawn(partial(Convolution, 3, 5, **options))
    window, weight = (
        np.asarray(each.kernel[...]) for each in (layer.depthwise, layer.pointwise.linear)
    )
    whole.layer.linear.kernel[...] = np.einsum("sc,co->sco", window, weight).reshape(9, 5)
    carried = np.asarray(layer.depthwise.bias[...]) @ weight
    whole.layer.bias[...] = np.asarray(layer.pointwise.bias[...]) + carried
    x = normal(2, 7, 3)
    np.testing.assert_allclose(call(layer, x), call(whole, x), rtol=1e-4, atol=1e-4)


def bottleneck(d_out: int, **options) -> InvertedBottleneck:
    """One that adds nothing, so that what it carries is seen alone."""
    plain = {"axes": 1, "size": 3, "padding": 1, "expansion": 2, "linear": Dense}
    layer = drawn(partial(InvertedBottleneck, 4, d_out, **{**plain, **options}))
    layer.project.linear.kernel[...] = np.zeros(layer.project.linear.kernel.shape, np.float32)
    layer.project.bias[...] = np.zeros(d_out, np.float32)
    return layer


@pytest.mark.parametrize(
    ("stride", "d_out", "carried"), [(1, 4, True), (2, 4, False), (1, 5, False)]
)
def test_a_bottleneck_carries_its_input_where_the_shape_stays(stride, d_out, carried):
    x = normal(2, 6, 4)
    y = call(bottleneck(d_out, stride=stride), x)
    assert y.shape == (2, 6 // stride, d_out)
    np.testing.assert_array_equal(y, x if carried else np.zeros(y.shape))


def test_a_bottleneck_with_a_stride_carries_nothing_even_at_one_position():
    y = call(bottleneck(4, stride=2), normal(2, 1, 4))
    np.testing.assert_array_equal(y, np.zeros((2, 1, 4)))


@pytest.mark.parametrize(
    ("build", "parameters"),
    [
        (partial(SeparableConvolution, linear=Dense), (9 + 1) * 8 + 8 * 6 + 6),
        (
            partial(InvertedBottleneck, linear=partial(LowRank, rank=2), expansion=3),
            2 * (8 + 24) + (9 + 2) * 24 + 2 * (24 + 6) + 6,
        ),
        (partial(Convolution, linear=Dense), 9 * 8 * 6 + 6),
    ],
)
def test_parameters_are_as_documented(build, parameters: int):
    layer = jax.eval_shape(lambda: build(8, 6, axes=2, size=3, rngs=nnx.Rngs(0)))
    assert sum(leaf.size for leaf in jax.tree.leaves(layer)) == parameters


def network(shape: tuple[int, ...], **options) -> ConvolutionalNetwork:
    plain = {"width": 25, "sizes": [5, 3, 3], "stride": 2, "padding": 1, "linear": Dense}
    build = partial(ConvolutionalNetwork, shape, 10, **{**plain, **options})
    return jax.eval_shape(lambda: build(rngs=nnx.Rngs(0)))


def test_the_published_network_has_the_published_number_of_parameters():
    assert sum(leaf.size for leaf in jax.tree.leaves(network((40, 1)))) == 5_210


@pytest.mark.parametrize("convolution", [Convolution, SeparableConvolution, InvertedBottleneck])
@pytest.mark.parametrize("shape", [(40, 1), (12, 12, 3)])
def test_a_network_classifies_examples_of_any_axes_and_leading_axes(shape, convolution):
    model = network(shape, convolution=convolution, sizes=[3, 3])
    assert jax.eval_shape(call, model, jnp.ones((7, *shape))).shape == (7, 10)
    assert jax.eval_shape(call, model, jnp.ones(shape)).shape == (10,)


@pytest.mark.parametrize(
    ("shape", "options", "said"),
    [
        ((4, 1), {"sizes": [5, 5], "padding": 0}, "leave a position"),
        ((40,), {}, r"needs examples \[\*positions, channels\]"),
        ((40, 1), {"stride": 0}, "stride=0"),
        ((40, 1), {"padding": -1}, "padding=-1"),
        ((40, 1), {"sizes": [3, 0]}, r"sizes=\[3, 0\]"),
    ],
)
def test_what_can_not_be_gets_one_line(shape, options, said):
    with pytest.raises(ValueError, match=said) as raised:
        network(shape, **options)
    assert "\n" not in str(raised.value)

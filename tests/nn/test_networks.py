import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from smallnets.nn.convolution import Convolution, ConvolutionalNetwork
from smallnets.nn.linear import Dense, LowRank
from smallnets.nn.perceptron import Perceptron
from smallnets.nn.structured import Monarch


@pytest.mark.parametrize(("axes", "size", "stride", "padding"), [(1, 5, 2, 1), (2, 3, 2, 0)])
def test_patches_and_a_dense_layer_are_a_convolution(axes, size, stride, padding):
    x = jax.random.normal(jax.random.key(0), (2, *[11] * axes, 3))
    ours = Convolution(
        3, 4, axes=axes, size=size, stride=stride, padding=padding, linear=Dense, rngs=nnx.Rngs(0)
    )
    weights = ours.layer.linear.kernel[...].reshape(*[size] * axes, 3, 4)
    space = "HW"[:axes]
    expected = jax.lax.conv_general_dilated(
        x,
        weights,
        [stride] * axes,
        [(padding, padding)] * axes,
        dimension_numbers=(f"N{space}C", f"{space}IO", f"N{space}C"),
    )
    np.testing.assert_allclose(ours(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("network", "count"),
    [
        (lambda: Perceptron((40, 1), 10, widths=[], linear=Dense, rngs=nnx.Rngs(0)), 410),
        (
            lambda: Perceptron((40, 1), 10, widths=[100, 100], linear=Dense, rngs=nnx.Rngs(0)),
            15_210,
        ),
        (
            lambda: ConvolutionalNetwork(
                (40, 1),
                10,
                width=25,
                sizes=[5, 3, 3],
                stride=2,
                padding=1,
                linear=Dense,
                rngs=nnx.Rngs(0),
            ),
            5_210,
        ),
    ],
)
def test_published_networks_have_the_published_number_of_parameters(network, count):
    shapes = jax.eval_shape(network)
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == count


def test_monarch_is_two_block_diagonals_around_a_transpose():
    model = Monarch(6, 9, blocks=3, rngs=nnx.Rngs(0))
    left = jax.scipy.linalg.block_diag(*model.left[...])
    right = jax.scipy.linalg.block_diag(*model.right[...])
    transpose = np.eye(9)[np.arange(9).reshape(3, 3).T.reshape(-1)]  # its own inverse
    expected = left @ transpose @ right @ transpose
    np.testing.assert_allclose(model(jnp.eye(6)), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rank": 5}, "rank=5 for d_in=6, d_out=4: choose rank <= 4"),
        ({"rank": 0}, "rank=0"),
        ({"rank": 2, "ratio": 0.5}, "one of rank and ratio"),
        ({}, "one of rank and ratio"),
    ],
)
def test_a_rank_that_can_not_be_gets_one_line(options, said):
    with pytest.raises(ValueError, match=said):
        LowRank(6, 4, **options, rngs=nnx.Rngs(0))


@pytest.mark.parametrize("blocks", [0, 4, 5])
def test_blocks_that_do_not_divide_get_one_line(blocks):
    with pytest.raises(ValueError, match=f"blocks={blocks} for d_in=6, d_out=9"):
        Monarch(6, 9, blocks=blocks, rngs=nnx.Rngs(0))


def test_layers_that_leave_no_position_get_one_line():
    with pytest.raises(ValueError, match="leave a position"):
        ConvolutionalNetwork(
            (4, 1), 10, width=2, sizes=[5, 5], stride=2, padding=0, linear=Dense, rngs=nnx.Rngs(0)
        )


def test_examples_without_positions_get_one_line():
    with pytest.raises(ValueError, match=r"needs examples \[\*positions, channels\]"):
        ConvolutionalNetwork(
            (40,), 10, width=2, sizes=[5], stride=2, padding=0, linear=Dense, rngs=nnx.Rngs(0)
        )

"""Structured and low-rank layers: which contains which, exactly, by weights carried over."""

import math
import warnings
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from flax import nnx
from layers import drawn, normal

from smallnets.measure import flops
from smallnets.nn.linear import Dense, LargerThanDense, Linear, LowRank
from smallnets.nn.structured import BlockDiagonal, BlockTensorTrain, Kronecker, Monarch, TensorTrain

D_IN, D_OUT = 12, 8
MATRIX = np.asarray(normal(D_IN, D_OUT))

larger = pytest.mark.filterwarnings("ignore::smallnets.nn.linear.LargerThanDense")


def built(family, **options):
    return drawn(partial(family, D_IN, D_OUT, **options))


def values(parameter: nnx.Param) -> np.ndarray:
    return np.asarray(parameter[...])


def blocks(parameter: nnx.Param) -> np.ndarray:
    """The block-diagonal matrix of stacked blocks."""
    return np.asarray(scipy.linalg.block_diag(*values(parameter)))


@jax.jit
def both(layer: Linear) -> tuple[jax.Array, jax.Array]:
    """The matrix of a layer, as it is called and as it writes itself out."""
    return layer(jnp.eye(D_IN)), layer.matrix()


def assert_is(layer: Linear, matrix: np.ndarray):
    """``layer`` multiplies by ``matrix``."""
    for found in both(layer):
        np.testing.assert_allclose(found, matrix, rtol=1e-4, atol=1e-5)


def costs(layer: Linear) -> flops.Flops:
    """Of a call on 8 inputs."""
    return flops.count(lambda layer, x: layer(x), layer, MATRIX.T)


def halves(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """U, V with U V = matrix, by its singular values; for matrices on leading axes."""
    left, scale, right = np.linalg.svd(matrix, full_matrices=False)
    return left * scale[..., None, :], right


@larger
def test_low_rank_of_full_rank_expresses_any_matrix():
    layer = built(LowRank, rank=8)
    layer.down[...], layer.up[...] = halves(MATRIX)
    assert_is(layer, MATRIX)


@larger
def test_monarch_of_one_block_is_a_dense_layer_with_a_scale_for_each_output():
    layer = built(Monarch, blocks=1)
    layer.left[...], layer.right[...] = MATRIX[None], np.ones((D_OUT, 1, 1), np.float32)
    assert_is(layer, MATRIX)


@larger
def test_monarch_is_two_block_diagonals_around_a_transpose():
    layer = built(Monarch, blocks=4)
    left, right = (blocks(each) for each in (layer.left, layer.right))
    transpose = np.eye(8)[np.arange(8).reshape(4, 2).T.reshape(-1)]  # from [b, q] to [q, b]
    assert_is(layer, left @ transpose.T @ right @ transpose)


@larger
@pytest.mark.parametrize("blocks", [1, 2, 4])
def test_block_tensor_train_of_rank_one_is_monarch(blocks: int):
    monarch = built(Monarch, blocks=blocks)
    layer = built(BlockTensorTrain, blocks=blocks, rank=1)
    layer.left[...] = values(monarch.left).reshape(layer.left.shape)
    layer.right[...] = values(monarch.right).reshape(layer.right.shape)
    assert_is(layer, both(monarch)[1])
    assert costs(layer) == costs(monarch)


@larger
@pytest.mark.parametrize("rank", [1, 3, 8])
def test_block_tensor_train_of_one_block_and_one_group_is_low_rank(rank: int):
    low_rank = built(LowRank, rank=rank)
    layer = built(BlockTensorTrain, blocks=1, groups=1, rank=rank)
    layer.left[...] = values(low_rank.down).reshape(layer.left.shape)
    layer.right[...] = values(low_rank.up).reshape(layer.right.shape)
    assert_is(layer, both(low_rank)[1])
    assert costs(layer).products == 2 * 8 * rank * (D_IN + D_OUT)


@larger
@pytest.mark.parametrize(("blocks", "groups"), [(1, 1), (4, 2), (2, 8), (12, 4)])
def test_block_tensor_train_of_full_rank_expresses_any_matrix(blocks: int, groups: int):
    p, c = D_IN // blocks, D_OUT // groups
    layer = built(BlockTensorTrain, blocks=blocks, groups=groups, rank=min(p, c))
    each = MATRIX.reshape(blocks, p, c, groups).transpose(0, 3, 1, 2)  # [b, q, p, c]
    left, right = halves(each)
    layer.left[...] = left.transpose(0, 2, 1, 3)
    layer.right[...] = right.transpose(1, 0, 2, 3)
    assert_is(layer, MATRIX)


@larger
def test_kronecker_of_one_block_is_a_dense_layer_times_a_scalar():
    layer = built(Kronecker, blocks=1)
    layer.outer[...], layer.inner[...] = np.full((1, 1), 2.0, np.float32), MATRIX
    assert_is(layer, 2 * MATRIX)


def test_kronecker_is_the_kronecker_product_of_its_factors():
    layer = built(Kronecker, blocks=4)
    assert_is(layer, np.kron(values(layer.outer), values(layer.inner)))


def test_tensor_train_of_one_core_is_dense():
    layer = built(TensorTrain, blocks=2, cores=1, rank=1)
    layer.kernels[0][...] = MATRIX[None, :, :, None]
    assert_is(layer, MATRIX)
    dense = built(Dense)
    assert costs(layer).products == costs(dense).products


@pytest.mark.parametrize("blocks", [2, 4])
def test_tensor_train_of_two_cores_and_rank_one_is_kronecker(blocks: int):
    kronecker = built(Kronecker, blocks=blocks)
    layer = built(TensorTrain, blocks=blocks, cores=2, rank=1)
    layer.kernels[0][...] = values(kronecker.outer)[None, :, :, None]
    layer.kernels[1][...] = values(kronecker.inner)[None, :, :, None]
    assert_is(layer, both(kronecker)[1])


def test_tensor_train_of_three_cores_and_rank_one_is_a_kronecker_product_of_three():
    layer = built(TensorTrain, blocks=2, cores=3, rank=1)
    one, two, three = (values(core)[0, :, :, 0] for core in layer.kernels)
    assert_is(layer, np.kron(np.kron(one, two), three))


@larger
@pytest.mark.parametrize("blocks", [2, 4])
def test_tensor_train_of_full_rank_expresses_any_matrix(blocks: int):
    """Any matrix is a sum of Kronecker products (Van Loan & Pitsianis 1993)."""
    p, q = D_IN // blocks, D_OUT // blocks
    layer = built(TensorTrain, blocks=blocks, cores=2, rank=min(blocks**2, p * q))
    rearranged = MATRIX.reshape(blocks, p, blocks, q).transpose(0, 2, 1, 3)
    left, right = halves(rearranged.reshape(blocks**2, p * q))
    layer.kernels[0][...] = left.reshape(layer.kernels[0].shape)
    layer.kernels[1][...] = right.reshape(layer.kernels[1].shape)
    assert_is(layer, MATRIX)


@larger
def test_tensor_train_of_three_cores_and_full_rank_expresses_any_matrix():
    """By singular values, from the first bond to the last (Oseledets 2011, algorithm 1)."""
    layer = built(TensorTrain, blocks=2, cores=3, rank=6)
    rest = MATRIX.reshape(2, 2, 3, 2, 2, 2).transpose(0, 3, 1, 4, 2, 5)  # m_1 o_1 m_2 o_2 m_3 o_3
    left, rest = halves(rest.reshape(4, -1))
    layer.kernels[0][...] = padded(left.reshape(1, 2, 2, 4), (1, 2, 2, 6))
    left, rest = halves(rest.reshape(4 * 4, -1))
    layer.kernels[1][...] = padded(left.reshape(4, 2, 2, 6), (6, 2, 2, 6))
    layer.kernels[2][...] = rest.reshape(6, 3, 2, 1)
    assert_is(layer, MATRIX)


def padded(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return np.pad(array, [(0, to - of) for of, to in zip(array.shape, shape, strict=True)])


@larger
@pytest.mark.parametrize("cores", [2, 3])
def test_flops_of_a_tensor_train_are_as_its_docstring_says(cores: int):
    blocks, rank = 2, 2
    layer = built(TensorTrain, blocks=blocks, cores=cores, rank=rank)
    expected = D_IN * D_OUT // blocks ** (cores - 1)
    expected += D_OUT * blocks * (1 + (cores - 2) * rank)
    assert costs(layer).products == 8 * 2 * rank * expected


def test_block_diagonal_is_the_block_diagonal_of_its_kernels():
    layer = built(BlockDiagonal, blocks=4)
    assert_is(layer, blocks(layer.kernel))


def test_block_diagonal_of_one_block_is_dense():
    layer = built(BlockDiagonal, blocks=1)
    layer.kernel[...] = MATRIX[None]
    assert_is(layer, MATRIX)


CASES = {  # what a layer takes, the least that is larger than dense, and what is said to pay
    "low_rank": (LowRank, "rank", 5, "choose rank from 1 to 4"),
    "monarch": (Monarch, "blocks", 1, "choose blocks 2 or 4"),
    "kronecker": (Kronecker, "blocks", 1, "choose blocks 2 or 4"),
    "block tensor train": (
        partial(BlockTensorTrain, blocks=2, groups=2),
        "rank",
        3,
        "choose rank from 1 to 2",
    ),
    "tensor train": (
        partial(TensorTrain, blocks=2, cores=2),
        "rank",
        4,
        "choose rank from 1 to 3",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_layer_larger_than_dense_warns_in_one_line_from_where_it_pays(case: str):
    family, name, value, advice = CASES[case]
    with pytest.warns(LargerThanDense) as caught:
        layer = built(family, **{name: value})
    [said] = [str(each.message) for each in caught]
    size = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(layer))
    assert size > D_IN * D_OUT
    assert said.startswith(f"{name}={value} makes {size} parameters for d_in=12, d_out=8")
    assert said.endswith(advice)
    assert "\n" not in said
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        last = int(advice.split()[-1])
        built(family, **{name: last})


def test_where_nothing_pays_the_warning_says_so():
    with pytest.warns(LargerThanDense, match="no rank is smaller here"):
        LowRank(1, 1, rank=1, rngs=nnx.Rngs(0))


@pytest.mark.parametrize(
    ("family", "options", "said"),
    [
        (Kronecker, {"blocks": 3}, "blocks=3 for d_in=12, d_out=8"),
        (Monarch, {"blocks": 3}, "blocks=3 for d_in=12, d_out=8"),
        (Monarch, {"blocks": 0}, "blocks=0 for d_in=12, d_out=8"),
        (BlockDiagonal, {"blocks": 5}, "blocks=5 for d_in=12, d_out=8"),
        (BlockTensorTrain, {"blocks": 3, "rank": 1}, "blocks=3 for d_in=12, d_out=8"),
        (BlockTensorTrain, {"blocks": 3, "groups": 3, "rank": 1}, "blocks=3, groups=3"),
        (
            BlockTensorTrain,
            {"blocks": 4, "rank": 4},
            "rank=4 for blocks of 3 x 4: choose rank <= 3",
        ),
        (BlockTensorTrain, {"blocks": 4, "rank": 0}, "rank=0"),
        (TensorTrain, {"blocks": 2, "cores": 4, "rank": 1}, "multiples of 8"),
        (TensorTrain, {"blocks": 2, "cores": 0, "rank": 1}, "at least 1"),
        (TensorTrain, {"blocks": 2, "cores": 2, "rank": 5}, "choose rank <= 4"),
        (TensorTrain, {"blocks": 2, "cores": 1, "rank": 2}, "choose rank <= 1"),
        (TensorTrain, {"blocks": 2, "cores": 3, "rank": 7}, "choose rank <= 6"),
        (LowRank, {"ratio": -1}, "ratio must lie above 0"),
        (LowRank, {"rank": 9}, "rank=9 for d_in=12, d_out=8: choose rank <= 8"),
        (LowRank, {"rank": 0}, "rank=0"),
        (LowRank, {"rank": 2, "ratio": 0.5}, "one of rank and ratio"),
        (LowRank, {}, "one of rank and ratio"),
    ],
)
def test_what_does_not_fit_gets_one_line(family, options, said):
    with pytest.raises(ValueError, match=said) as raised:
        built(family, **options)
    assert "\n" not in str(raised.value)

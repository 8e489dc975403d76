"""Pooling against a loop over its windows, and its FLOPs against a count by hand."""

import itertools

import jax
import numpy as np
import pytest
from layers import call, normal

from smallnets.measure import flops
from smallnets.nn import MaxPool, MeanPool


def by_loop(x: np.ndarray, axes: int, size: int, stride: int, reduce) -> np.ndarray:
    counts = [(n - size) // stride + 1 for n in x.shape[1 : 1 + axes]]
    y = np.empty((x.shape[0], *counts, x.shape[-1]), np.float32)
    for window in itertools.product(*map(range, counts)):
        place = tuple(slice(w * stride, w * stride + size) for w in window)
        y[(slice(None), *window)] = reduce(x[(slice(None), *place)], axis=tuple(range(1, 1 + axes)))
    return y


@pytest.mark.parametrize(("pool", "reduce"), [(MaxPool, np.max), (MeanPool, np.mean)])
@pytest.mark.parametrize(("axes", "size", "stride"), [(1, 2, None), (2, 2, None), (2, 3, 2)])
def test_windows_of_signals_and_images(pool, reduce, axes, size, stride):
    x = normal(2, *[7] * axes, 3)
    layer = pool(axes=axes, size=size, stride=stride)
    expected = by_loop(np.asarray(x), axes, size, stride or size, reduce)
    np.testing.assert_allclose(call(layer, x), expected, rtol=1e-6, atol=1e-6)
    assert layer.windows((7,) * axes) == expected.shape[1:-1]
    np.testing.assert_allclose(call(layer, x[None])[0], expected, rtol=1e-6, atol=1e-6)


def test_the_largest_of_a_window_alone_gets_the_gradient():
    x = np.asarray([[1.0, 5.0, 2.0, 3.0]], np.float32)[..., None]
    gradient = jax.grad(lambda x: MaxPool(axes=1)(x).sum())(x)
    np.testing.assert_array_equal(gradient[0, :, 0], [0, 1, 0, 1])


@pytest.mark.parametrize(("pool", "operations"), [(MaxPool, 8), (MeanPool, 9)])
def test_flops_are_those_of_a_count_by_hand(pool, operations):
    """4 x 4 windows of 9 positions and 3 channels: 8 comparisons, or 8 sums and a division."""
    counted = flops.count(lambda x: pool(axes=2, size=3, stride=2)(x), normal(2, 9, 9, 3))
    assert counted.products == 0
    assert counted.elementwise == 2 * 4 * 4 * 3 * operations


def test_what_is_no_window_gets_one_line():
    with pytest.raises(ValueError, match=r"at least 1, but size=2, stride=0"):
        MaxPool(axes=1, stride=0)

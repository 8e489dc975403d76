"""Pooling: the largest number, or the mean, of every window of positions."""

import math

import jax
import jax.numpy as jnp
from flax import nnx


class MaxPool(nnx.Module):
    """The largest number of each channel in windows of ``size`` positions, ``stride`` apart.

    ``axes`` position axes lie before the channels; without ``stride`` windows do not overlap.
    Positions that fill no whole window are left out.

    Shapes: x[..., *positions, d] -> y[..., *windows, d], windows = (positions - size) // stride + 1
    along each axis.
    Parameters: 0
    FLOPs: no products; size^axes - 1 comparisons for each number of y.

    Raises ValueError for a size or stride below 1.
    """

    def __init__(self, *, axes: int, size: int = 2, stride: int | None = None):
        stride = size if stride is None else stride
        if size < 1 or stride < 1:
            raise ValueError(
                f"pooling needs a size and a stride of at least 1, but size={size}, "
                f"stride={stride}: mend them"
            )
        self.axes, self.size, self.stride = axes, size, stride

    def windows(self, positions: tuple[int, ...]) -> tuple[int, ...]:
        """How many windows there are along each axis of so many positions; 0 where none fits."""
        return tuple(max(0, (n - self.size) // self.stride + 1) for n in positions)

    def __call__(self, x: jax.Array) -> jax.Array:
        return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, *self._window(x), "VALID")

    def _window(self, x: jax.Array) -> tuple[tuple[int, ...], tuple[int, ...]]:
        lead = (1,) * (x.ndim - self.axes - 1)
        size, stride = (self.size,) * self.axes, (self.stride,) * self.axes
        return (*lead, *size, 1), (*lead, *stride, 1)


class MeanPool(MaxPool):
    """The mean of each channel in windows of ``size`` positions, as :class:`MaxPool` has them.

    Shapes: x[..., *positions, d] -> y[..., *windows, d]
    Parameters: 0
    FLOPs: no products; size^axes operations for each number of y.
    """

    def __call__(self, x: jax.Array) -> jax.Array:
        window, stride = self._window(x)
        return jax.lax.reduce_window(x, 0.0, jax.lax.add, window, stride, "VALID") / math.prod(
            window
        )

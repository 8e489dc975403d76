import itertools
import math

import jax
import jax.numpy as jnp
from flax import nnx

from smallnets.nn.affine import Affine
from smallnets.nn.dense import Dense
from smallnets.nn.parameter import Factory


def patches(x: jax.Array, *, axes: int, size: int, stride: int, padding: int) -> jax.Array:
    """Every window of ``size`` positions along the ``axes`` axes before the channels.

    Shapes: x[..., *positions, channels] -> [..., *windows, size^axes channels], with
    windows = (positions + 2 padding - size) // stride + 1 along each axis; zeros beyond the edge.
    Shifted slices, not ``lax.conv``: faster in a loop and under ``vmap`` on a CPU.
    """
    lead = x.ndim - axes - 1
    padded = jnp.pad(x, [(0, 0)] * lead + [(padding, padding)] * axes + [(0, 0)])
    windows = [(n + 2 * padding - size) // stride + 1 for n in x.shape[lead:-1]]
    shifts = []
    for offset in itertools.product(range(size), repeat=axes):
        starts = [0] * lead + list(offset) + [0]
        extent = [o + stride * (w - 1) + 1 for o, w in zip(offset, windows, strict=True)]
        limits = [*x.shape[:lead], *extent, x.shape[-1]]
        shifts.append(jax.lax.slice(padded, starts, limits, [1] * lead + [stride] * axes + [1]))
    return jnp.concatenate(shifts, axis=-1)


class Convolution(nnx.Module):
    """Patches and a linear map of any kind, so a low-rank or mixture convolution needs no class.

    Shapes: x[..., *positions, d_in] -> y[..., *windows, d_out]; ``linear`` maps
    size^axes d_in -> d_out.
    Parameters: those of Affine(size^axes d_in, d_out).
    """

    affine = True  # an activation is wanted behind it

    def __init__(
        self,
        d_in: int,
        d_out: int,
        *,
        axes: int,
        size: int,
        stride: int = 1,
        padding: int = 0,
        linear: Factory,
        rngs: nnx.Rngs,
    ):
        self.axes, self.size, self.stride, self.padding = axes, size, stride, padding
        self.map = Affine(size**axes * d_in, d_out, linear=linear, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        windows = patches(
            x, axes=self.axes, size=self.size, stride=self.stride, padding=self.padding
        )
        return self.map(windows)


class ConvolutionalNetwork(nnx.Module):
    """Strided convolutions with ReLU, then an affine map of all that is left to the logits.

    ``sizes`` gives the window of each layer; all have ``width`` channels, the same ``stride`` and
    ``padding``. As many position axes as the example has before its channels. ``convolution`` is
    the kind of layer, ``linear`` the map inside it; the first and the last map, whose widths are
    the task's, are dense in every family. ReLU stands behind layers that are ``affine``.

    Shapes: x[..., *positions, channels] -> logits[..., d_out].
    Raises ValueError for examples without positions, and where the layers leave none.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        d_out: int,
        *,
        width: int,
        sizes: list[int],
        stride: int,
        padding: int,
        linear: Factory,
        convolution: Factory = Convolution,
        rngs: nnx.Rngs,
    ):
        *positions, channels = shape
        if not positions:
            raise ValueError(
                f"a convolution needs examples [*positions, channels], but they are {shape}: "
                "choose another model for this task"
            )
        self.axes = len(positions)
        layers = []
        if stride < 1 or padding < 0 or min(sizes, default=1) < 1:
            raise ValueError(
                f"a convolution needs sizes and stride of at least 1 and no negative padding, but "
                f"sizes={list(sizes)}, stride={stride}, padding={padding}: mend them"
            )
        for size in sizes:
            positions = [(n + 2 * padding - size) // stride + 1 for n in positions]
            if min(positions) < 1:
                raise ValueError(
                    f"the convolutions must leave a position, but sizes={list(sizes)} with "
                    f"stride={stride} leave none of {shape}: use fewer or smaller layers"
                )
            layers.append(
                convolution(
                    channels,
                    width,
                    axes=self.axes,
                    size=size,
                    stride=stride,
                    padding=padding,
                    linear=linear if layers else Dense,
                    rngs=rngs,
                )
            )
            channels = width
        self.layers = nnx.List(layers)
        self.head = Affine(math.prod(positions) * channels, d_out, linear=Dense, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        for layer in self.layers:
            x = jax.nn.relu(layer(x)) if layer.affine else layer(x)
        return self.head(x.reshape(*x.shape[: x.ndim - self.axes - 1], -1))

"""Convolutions as patches and any linear layer, and the network of them."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
from flax import nnx

from smallnets.nn.dropout import Dropout, is_none
from smallnets.nn.linear import Affine, Dense
from smallnets.nn.parameter import Factory, kernel
from smallnets.traced import TracedShare


def patches(x: jax.Array, *, axes: int, size: int, stride: int, padding: int) -> jax.Array:
    """Every window of ``size`` positions along the ``axes`` axes before the channels.

    Shapes: x[..., *positions, channels] -> [..., *windows, size^axes channels], with
    windows = (positions + 2 padding - size) // stride + 1 along each axis; zeros beyond the edge.
    """
    return jnp.concatenate(shifts(x, axes=axes, size=size, stride=stride, padding=padding), axis=-1)


def shifts(x: jax.Array, *, axes: int, size: int, stride: int, padding: int) -> list[jax.Array]:
    """Of each place in a window, size^axes of them, what stands there: [..., *windows, channels].

    Shifted slices, not ``lax.conv``: faster in a loop and under ``vmap`` on a CPU.
    """
    lead = x.ndim - axes - 1
    padded = jnp.pad(x, [(0, 0)] * lead + [(padding, padding)] * axes + [(0, 0)])
    windows = [(n + 2 * padding - size) // stride + 1 for n in x.shape[lead:-1]]
    shifted = []
    for offset in itertools.product(range(size), repeat=axes):
        starts = [0] * lead + list(offset) + [0]
        extent = [o + stride * (w - 1) + 1 for o, w in zip(offset, windows, strict=True)]
        limits = [*x.shape[:lead], *extent, x.shape[-1]]
        shifted.append(jax.lax.slice(padded, starts, limits, [1] * lead + [stride] * axes + [1]))
    return shifted


class Convolution(nnx.Module):
    """Patches and a linear layer of any kind, so a low-rank or mixture convolution needs no class.

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
        self.layer = Affine(size**axes * d_in, d_out, linear=linear, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        windows = patches(
            x, axes=self.axes, size=self.size, stride=self.stride, padding=self.padding
        )
        return self.layer(windows)


class ConvolutionalNetwork(nnx.Module):
    """Strided convolutions with ReLU, then an affine layer of all that is left to the logits.

    ``sizes`` gives the window of each layer; all have ``width`` channels, the same ``stride`` and
    ``padding``. As many position axes as the example has before its channels. ``convolution`` is
    the kind of layer, ``linear`` the layer inside it; the first and the last layer, whose widths
    are the task's, are dense in every family. ReLU stands behind layers that are ``affine``.
    ``dropout`` is the rate at which a training step drops what goes into the last layer.

    Shapes: x[..., *positions, channels] -> logits[..., d_out].
    Raises ValueError for examples without positions, and where the layers leave none.
    """

    dropout: Dropout | None = None

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
        dropout: TracedShare = 0.0,
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
        if not is_none(dropout):
            self.dropout = Dropout(dropout, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        for layer in self.layers:
            x = jax.nn.relu(layer(x)) if layer.affine else layer(x)
        x = x.reshape(*x.shape[: x.ndim - self.axes - 1], -1)
        return self.head(x if self.dropout is None else self.dropout(x))


class DepthwiseConvolution(nnx.Module):
    """Each channel convolved by itself, y[w, c] = b[c] + sum_s x[window w, s, c] K[s, c].

    Shapes: x[..., *positions, d] -> y[..., *windows, d]; K[size^axes, d], b[d].
    Parameters: (size**axes + 1) * d
    FLOPs: 2 * size**axes * d for each window.
    """

    def __init__(
        self, d: int, *, axes: int, size: int, stride: int = 1, padding: int = 0, rngs: nnx.Rngs
    ):
        self.axes, self.size, self.stride, self.padding = axes, size, stride, padding
        self.kernel = kernel(rngs, size**axes, d, fan_in=size**axes, fan_out=size**axes)
        self.bias = nnx.Param(jnp.zeros(d))

    def __call__(self, x: jax.Array) -> jax.Array:
        places = shifts(x, axes=self.axes, size=self.size, stride=self.stride, padding=self.padding)
        # One product for each place: windows of many channels would take size^axes times the
        # memory, and twice the time.
        products = (
            jnp.einsum("...c,c->...c", place, self.kernel[index])
            for index, place in enumerate(places)
        )
        y = functools.reduce(jnp.add, products)
        return y + jnp.broadcast_to(self.bias[...], y.shape)


class SeparableConvolution(nnx.Module):
    """A depthwise convolution, then any layer from channels to channels at each window.

    Shapes: x[..., *positions, d_in] -> y[..., *windows, d_out]; ``linear`` maps d_in -> d_out.
    Parameters: (size**axes + 1) * d_in + linear + d_out

    Source: Howard et al. 2017 (MobileNets), arXiv:1704.04861, section 3.1, without the norm and the
    ReLU between the two.
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
        self.depthwise = DepthwiseConvolution(
            d_in, axes=axes, size=size, stride=stride, padding=padding, rngs=rngs
        )
        self.pointwise = Affine(d_in, d_out, linear=linear, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.pointwise(self.depthwise(x))


class InvertedBottleneck(nnx.Module):
    """Channels widened, convolved each by itself, and narrowed, each layer any linear one.

        y = project(relu6(depthwise(relu6(expand(x)))))

    plus x where the stride is 1 and widths and padding leave its shape as it is.

    Shapes: x[..., *positions, d_in] -> y[..., *windows, d_out], expansion d_in channels within.
    Parameters: with d = expansion * d_in, linear(d_in, d) + (size**axes + 2) * d + linear(d, d_out)
    + d_out

    Source: Sandler et al. 2018 (MobileNetV2), arXiv:1801.04381, table 1, without its norms.
    """

    affine = False  # linear at its end: none is wanted

    def __init__(
        self,
        d_in: int,
        d_out: int,
        *,
        axes: int,
        size: int,
        stride: int = 1,
        padding: int = 0,
        expansion: int = 6,
        linear: Factory,
        rngs: nnx.Rngs,
    ):
        d = expansion * d_in
        self.carries = stride == 1 and d_in == d_out and 2 * padding == size - 1
        self.expand = Affine(d_in, d, linear=linear, rngs=rngs)
        self.depthwise = DepthwiseConvolution(
            d, axes=axes, size=size, stride=stride, padding=padding, rngs=rngs
        )
        self.project = Affine(d, d_out, linear=linear, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        hidden = jax.nn.relu6(self.depthwise(jax.nn.relu6(self.expand(x))))
        y = self.project(hidden)
        return x + y if self.carries else y

import jax
import jax.numpy as jnp
from flax import nnx

from smallnets.nn.affine import Affine
from smallnets.nn.convolution import patches
from smallnets.nn.parameter import Factory, kernel


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
        windows = patches(
            x, axes=self.axes, size=self.size, stride=self.stride, padding=self.padding
        )
        windows = windows.reshape(*windows.shape[:-1], *self.kernel.shape)
        y = jnp.einsum("...sc,sc->...c", windows, self.kernel[...])
        return y + jnp.broadcast_to(self.bias[...], y.shape)


class SeparableConvolution(nnx.Module):
    """A depthwise convolution, then any map from channels to channels at each window.

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
    """Channels widened, convolved each by itself, and narrowed, each map any linear one.

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

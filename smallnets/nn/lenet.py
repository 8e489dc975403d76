"""LeNet-5: convolutions and pooling in turn, then a perceptron."""

from collections.abc import Sequence

import jax
from flax import nnx

from smallnets.nn.convolution import Convolution
from smallnets.nn.linear import Dense
from smallnets.nn.parameter import Factory
from smallnets.nn.perceptron import Perceptron
from smallnets.nn.pooling import MaxPool


class LeNet(nnx.Module):
    """Convolutions without padding, each with ReLU and ``pooling`` behind it, then a perceptron.

    ``channels`` gives the width of each convolution, ``size`` their windows, ``hidden`` the widths
    of the perceptron. With [20, 50], 5 and [500] it is LeNet-5 as Caffe has it and the pruning
    literature counts it: 431,080 parameters on images of 28 x 28 x 1 in 10 classes. (Caffe has ReLU
    behind the hidden layer alone; LeNet-5 of 1998 has fewer channels, and pools by weighted means.)
    The first convolution and the last layer, whose widths are the task's, are dense in every
    family. ReLU stands behind convolutions that are ``affine``.

    Shapes: x[..., *positions, channels] -> logits[..., d_out].
    Parameters: convolution for each of the channels + Perceptron

    Source: LeCun, Bottou, Bengio & Haffner 1998, Proceedings of the IEEE 86 (11), section II.B; the
    431K parameters: Han et al. 2015, arXiv:1506.02626, table 1. Raises ValueError for examples
    without positions, and where the layers leave none.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        d_out: int,
        *,
        channels: Sequence[int],
        hidden: Sequence[int],
        size: int,
        linear: Factory,
        convolution: Factory = Convolution,
        pooling: Factory = MaxPool,
        rngs: nnx.Rngs,
    ):
        *positions, width = shape
        if not positions:
            raise ValueError(
                f"a convolution needs examples [*positions, channels], but they are {shape}: "
                "choose another model for this task"
            )
        axes = len(positions)
        self.pooling = pooling(axes=axes)
        layers = []
        for wider in channels:
            linear_here = linear if layers else Dense
            layers.append(
                convolution(width, wider, axes=axes, size=size, linear=linear_here, rngs=rngs)
            )
            positions = self.pooling.windows(tuple(n - size + 1 for n in positions))
            if min(positions) < 1:
                raise ValueError(
                    f"the convolutions must leave a position, but {len(channels)} of size={size}, "
                    f"each pooled by {self.pooling.stride}, leave none of {shape}: use fewer or "
                    "smaller ones"
                )
            width = wider
        self.layers = nnx.List(layers)
        self.perceptron = Perceptron(
            (*positions, width), d_out, widths=list(hidden), linear=linear, rngs=rngs
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        for layer in self.layers:
            x = self.pooling(jax.nn.relu(layer(x)) if layer.affine else layer(x))
        return self.perceptron(x)

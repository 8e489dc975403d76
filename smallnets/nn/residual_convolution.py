"""Residual convolutional networks: stages of blocks, with pooling between them."""

from functools import partial

import jax
from flax import nnx

from smallnets.nn.convolution import Convolution
from smallnets.nn.dropout import Dropout, is_none
from smallnets.nn.linear import Affine, Dense
from smallnets.nn.norm import RMSNorm
from smallnets.nn.parameter import Factory
from smallnets.nn.pooling import MaxPool
from smallnets.nn.residual import Residual
from smallnets.nn.sharing import Stack
from smallnets.traced import TracedShare


class TwoConvolutions(nnx.Module):
    """Two convolutions of any kind, to ``hidden`` channels and back, positions kept.

        y = second(dropout(relu(norm(first(relu(x))))))

    Without the ReLU where ``convolution`` is not ``affine`` and so has activations of its own.

    Shapes: x[..., *positions, d_in] -> y[..., *positions, d_out]; ``size`` is odd.
    Parameters: convolution(d_in, hidden) + norm(hidden) + convolution(hidden, d_out)

    Source of the dropout's place: Zagoruyko & Komodakis 2016, arXiv:1605.07146, section 2.4.
    """

    def __init__(
        self,
        d_in: int,
        d_out: int,
        *,
        hidden: int,
        axes: int,
        size: int,
        linear: Factory,
        convolution: Factory = Convolution,
        norm: Factory = RMSNorm,
        dropout: TracedShare = 0.0,
        rngs: nnx.Rngs,
    ):
        layer = partial(convolution, axes=axes, size=size, padding=size // 2, linear=linear)
        self.first = layer(d_in, hidden, rngs=rngs)
        self.norm = norm(hidden)
        self.dropout = None if is_none(dropout) else Dropout(dropout, rngs=rngs)
        self.second = layer(hidden, d_out, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.norm(self.first(self._activated(x)))
        x = self._activated(x)
        return self.second(x if self.dropout is None else self.dropout(x))

    def _activated(self, x: jax.Array) -> jax.Array:
        return jax.nn.relu(x) if self.first.affine else x


class ResidualConvolutionalNetwork(nnx.Module):
    """A residual network of convolutions: ``stages`` stages of ``depth`` blocks.

    A dense convolution to ``width`` channels; then each stage's blocks, two convolutions each, with
    a ``connection`` and a ``norm`` around them; before each stage but the first, ``pooling`` and a
    pointwise layer to twice the channels. At the end a norm and ReLU, the mean over positions, and
    the head. ``unique`` blocks of each stage are shared over its depth, as ``stack`` says.

    With the connection pre-norm it is the pre-activation network of He et al. 2016: nothing stands
    on the way of what is carried, so that any depth starts near the identity. The norms are over
    the channels of one position, as in ConvNeXt, not over a batch: an example's answer is its own,
    the same in training and afterwards, in a batch of any size and in runs trained side by side.

    ``hidden`` is the number of channels between the two convolutions of a block of the first stage,
    and doubles with the width. ``features`` is the width of a dense pointwise layer before the mean
    (as in MobileNetV2), by which parameters are added finely. ``convolution`` is the kind of the
    convolutions, ``linear`` the layer in them and in the pointwise ones, ``head_linear`` that of
    the head; the first convolution, ``features``, and the head without that are dense in every
    family.

    Shapes: x[..., *positions, channels] -> logits[..., d_out], for as many position axes as the
    examples have.

    Source: He et al. 2015, arXiv:1512.03385; before activations: He et al. 2016, arXiv:1603.05027;
    norms over channels: Liu et al. 2022, arXiv:2201.03545; features: Sandler et al. 2018,
    arXiv:1801.04381, table 2. Raises ValueError for examples without positions, where the stages
    leave none, for an even size, and for fewer features than the last stage has channels.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        d_out: int,
        *,
        width: int,
        depth: int,
        stages: int,
        linear: Factory,
        size: int = 3,
        hidden: int | None = None,
        features: int | None = None,
        unique: int | None = None,
        convolution: Factory = Convolution,
        pooling: Factory = MaxPool,
        norm: Factory = RMSNorm,
        connection: Factory = Residual,
        stack: Factory = Stack,
        head_linear: Factory = Dense,
        dropout: TracedShare = 0.0,
        rngs: nnx.Rngs,
    ):
        *positions, channels = shape
        self.axes = len(positions)
        last = width * 2 ** (stages - 1)
        _check(shape, stages, size, features, last)
        self.stem = Convolution(
            channels, width, axes=self.axes, size=size, padding=size // 2, linear=Dense, rngs=rngs
        )
        self.pooling = pooling(axes=self.axes)
        wideners, stacks = [], []
        for stage in range(stages):
            if stage:
                positions = self.pooling.windows(tuple(positions))
                if min(positions) < 1:
                    raise ValueError(
                        f"the stages must leave a position, but stages={stages} with pooling by "
                        f"{self.pooling.stride} leave none of {shape}: use fewer stages"
                    )
                wideners.append(Affine(width, 2 * width, linear=linear, rngs=rngs))
                width, hidden = 2 * width, hidden and 2 * hidden
            layer = partial(
                TwoConvolutions,
                hidden=width if hidden is None else hidden,
                axes=self.axes,
                size=size,
                linear=linear,
                convolution=convolution,
                norm=norm,
                dropout=dropout,
            )
            block = partial(connection, width, layer=layer, norm=norm)
            stacks.append(stack(block=block, depth=depth, unique=unique, rngs=rngs))
        self.wideners, self.stacks = nnx.List(wideners), nnx.List(stacks)
        self.norm = norm(width)
        pointwise = partial(Affine, width, linear=Dense, rngs=rngs)
        self.features = None if features is None else pointwise(features)
        self.head = head_linear(features or width, d_out, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.stem(x)
        for stage, stack in enumerate(self.stacks):
            if stage:
                x = self.wideners[stage - 1](self.pooling(x))
            x = stack(x)
        x = self.norm(x)
        x = jax.nn.relu(x if self.features is None else self.features(x))
        return self.head(x.mean(axis=tuple(range(-1 - self.axes, -1))))


def _check(shape: tuple[int, ...], stages: int, size: int, features: int | None, last: int) -> None:
    """Raise ValueError where a number has nothing to act on."""
    if len(shape) < 2:
        raise ValueError(
            f"a convolution needs examples [*positions, channels], but they are {shape}: "
            "choose another model for this task"
        )
    if stages < 1:
        raise ValueError(f"stages must be at least 1, but is {stages}: choose 1 or more")
    if size < 1 or size % 2 == 0:
        raise ValueError(
            f"size must be odd, so that positions are kept, but is {size}: choose 1, 3 or 5"
        )
    if features is not None and features < last:
        raise ValueError(
            f"features must be as many as the last stage's channels or more, but features="
            f"{features} for {last}: choose {last} or more, or null for none"
        )

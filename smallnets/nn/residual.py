import math
from functools import partial
from typing import Any

import jax
from flax import nnx

from smallnets.nn.dropout import dropped
from smallnets.nn.exits import Exit, call_and_self_distill
from smallnets.nn.feed_forward import FeedForward
from smallnets.nn.linear import Dense
from smallnets.nn.mixture import SoftMixture
from smallnets.nn.norm import RMSNorm
from smallnets.nn.parameter import Factory
from smallnets.nn.sharing import Relaxed, Stack
from smallnets.traced import TracedShare


class Residual(nnx.Module):
    """A layer around which its input is carried, y = x + layer(norm(x)).

    Shapes: x[..., d] -> y[..., d]. ``norm(d)`` builds the norm.
    Parameters: layer + norm
    """

    def __init__(self, d: int, *, layer: Factory, norm: Factory = RMSNorm, rngs: nnx.Rngs):
        self.norm = norm(d)
        self.layer = layer(d, d, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return x + self.layer(self.norm(x))

    def decode(self, x: jax.Array, cache: Any, at: jax.Array | int) -> tuple[jax.Array, Any]:
        """As :meth:`smallnets.nn.Attention.decode`, around attention."""
        y, cache = self.layer.decode(self.norm(x), cache, at)
        return x + y, cache


class PostNormResidual(nnx.Module):
    """The same with the norm behind the sum, y = norm(x + layer(x)), as in the first transformers.

    Shapes: x[..., d] -> y[..., d]. ``norm(d)`` builds the norm.
    Parameters: layer + norm

    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.1.
    """

    def __init__(self, d: int, *, layer: Factory, norm: Factory = RMSNorm, rngs: nnx.Rngs):
        self.norm = norm(d)
        self.layer = layer(d, d, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.norm(x + self.layer(x))

    def decode(self, x: jax.Array, cache: Any, at: jax.Array | int) -> tuple[jax.Array, Any]:
        """As :meth:`smallnets.nn.Attention.decode`, around attention."""
        y, cache = self.layer.decode(x, cache, at)
        return self.norm(x + y), cache


class ResidualNetwork(nnx.Module):
    """A deep network of feed-forward blocks: embed, ``depth`` residual blocks, norm, head.

    ``linear`` is the layer inside the blocks, in ``feed_forward`` layers, with a ``connection``
    and a ``norm(width)`` around each; with ``mixture`` (a factory that takes ``expert``)
    each block mixes such feed-forward layers. ``unique`` blocks are shared over the depth, as
    ``stack`` says; with a ``relaxation`` each of their calls adds a difference of that rank to each
    layer. The first and the last layer, which depend on the task, are dense in every family. With
    ``exits`` (:class:`smallnets.nn.exits.Exits`) each block but the last has a head of its own.
    ``dropout`` is the rate at which a training step drops what a block adds.

    Shapes: x[..., *shape] -> logits[..., d_out]; each example is flattened. Raises ValueError for a
    soft mixture, which here would mix examples with each other.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        d_out: int,
        *,
        width: int,
        depth: int,
        linear: Factory,
        unique: int | None = None,
        stack: Factory = Stack,
        relaxation: int = 0,
        hidden: int | None = None,
        feed_forward: Factory = FeedForward,
        norm: Factory = RMSNorm,
        connection: Factory = Residual,
        mixture: Factory | None = None,
        exits: Factory | None = None,
        dropout: TracedShare = 0.0,
        rngs: nnx.Rngs,
    ):
        if relaxation:
            linear = partial(Relaxed, linear=linear, rank=relaxation)
        feed_forward = partial(feed_forward, linear=linear, hidden=hidden)
        block = partial(
            connection,
            width,
            layer=dropped(
                feed_forward if mixture is None else partial(mixture, expert=feed_forward), dropout
            ),
            norm=norm,
        )
        self.axes = len(shape)
        self.embedding = Dense(math.prod(shape), width, rngs=rngs)
        self.stack = stack(block=block, depth=depth, unique=unique, rngs=rngs)
        if any(isinstance(module, SoftMixture) for _, module in nnx.iter_modules(self.stack)):
            raise ValueError(
                "a soft mixture mixes positions, but the examples of a residual network have none, "
                "so it would mix examples: choose model=encoder, or another mixture"
            )
        self.norm = norm(width)
        self.head = Dense(width, d_out, rngs=rngs)
        exit = partial(Exit, width, d_out, norm=norm)
        self.exits = None if exits is None else exits(depth - 1, exit=exit, rngs=rngs)

    def embed(self, x: jax.Array) -> jax.Array:
        """What goes into the first block."""
        return self.embedding(x.reshape(*x.shape[: x.ndim - self.axes], -1))

    def readout(self, x: jax.Array) -> jax.Array:
        """The logits of what comes out of the last block."""
        return self.head(self.norm(x))

    def __call__(self, x: jax.Array) -> jax.Array:
        return call_and_self_distill(self, x)

import math
from functools import partial

import jax
from flax import nnx

from smallnets.nn.dense import Dense
from smallnets.nn.exits import Exit, call_and_teach
from smallnets.nn.feed_forward import FeedForward
from smallnets.nn.norm import RMSNorm
from smallnets.nn.parameter import Factory
from smallnets.nn.relaxed import Relaxed
from smallnets.nn.soft_mixture import SoftMixture
from smallnets.nn.stack import Stack


class Residual(nnx.Module):
    """A map around which its input is carried, y = x + map(norm(x)).

    Shapes: x[..., d] -> y[..., d]. ``norm(d)`` builds the norm.
    Parameters: map + norm
    """

    def __init__(self, d: int, *, map: Factory, norm: Factory = RMSNorm, rngs: nnx.Rngs):
        self.norm = norm(d)
        self.map = map(d, d, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return x + self.map(self.norm(x))


class PostNormResidual(nnx.Module):
    """The same with the norm behind the sum, y = norm(x + map(x)), as in the first transformers.

    Shapes: x[..., d] -> y[..., d]. ``norm(d)`` builds the norm.
    Parameters: map + norm

    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.1.
    """

    def __init__(self, d: int, *, map: Factory, norm: Factory = RMSNorm, rngs: nnx.Rngs):
        self.norm = norm(d)
        self.map = map(d, d, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.norm(x + self.map(x))


class ResidualNetwork(nnx.Module):
    """A deep network of feed-forward blocks: embed, ``depth`` residual blocks, norm, head.

    ``linear`` is the map inside the blocks; with ``mixture`` (a factory that takes ``expert``)
    each block mixes such feed-forward maps. ``unique`` blocks are shared over the depth, as
    ``stack`` says; with a ``relaxation`` each of their calls adds a difference of that rank to each
    map. The first and the last map, which depend on the task, are dense in every family. With
    ``exits`` (:class:`smallnets.nn.exits.Exits`) each block but the last has a head of its own.

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
        expansion: int = 2,
        hidden: int | None = None,
        mixture: Factory | None = None,
        exits: Factory | None = None,
        rngs: nnx.Rngs,
    ):
        if relaxation:
            linear = partial(Relaxed, linear=linear, rank=relaxation)
        feed_forward = partial(FeedForward, linear=linear, expansion=expansion, hidden=hidden)
        block = partial(
            Residual,
            width,
            map=feed_forward if mixture is None else partial(mixture, expert=feed_forward),
        )
        self.axes = len(shape)
        self.embed = Dense(math.prod(shape), width, rngs=rngs)
        self.stack = stack(block=block, depth=depth, unique=unique, rngs=rngs)
        if any(isinstance(module, SoftMixture) for _, module in nnx.iter_modules(self.stack)):
            raise ValueError(
                "a soft mixture mixes positions, but the examples of a residual network have none, "
                "so it would mix examples: choose model=encoder, or another mixture"
            )
        self.norm = RMSNorm(width)
        self.head = Dense(width, d_out, rngs=rngs)
        exit = partial(Exit, width, d_out, norm=RMSNorm)
        self.exits = None if exits is None else exits(depth - 1, exit=exit, rngs=rngs)

    def enter(self, x: jax.Array) -> jax.Array:
        """What goes into the first block."""
        return self.embed(x.reshape(*x.shape[: x.ndim - self.axes], -1))

    def leave(self, x: jax.Array) -> jax.Array:
        """The logits of what comes out of the last block."""
        return self.head(self.norm(x))

    def __call__(self, x: jax.Array) -> jax.Array:
        return call_and_teach(self, x)

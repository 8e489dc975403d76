import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from smallnets.nn.dropout import dropped
from smallnets.nn.embedding import Embedding, LearnedPositions
from smallnets.nn.exits import Exit, call_and_self_distill
from smallnets.nn.linear import Dense
from smallnets.nn.mixture import Mixture, SoftMixture
from smallnets.nn.norm import RMSNorm
from smallnets.nn.parameter import Factory
from smallnets.nn.residual import Residual
from smallnets.nn.routing import ExpertChoice
from smallnets.nn.sharing import Relaxed, Stack
from smallnets.traced import TracedShare


class Block(nnx.Module):
    """Attention between positions, then a feed-forward layer at each, both residual.

    Shapes: x[..., T, d] -> y[..., T, d].
    Parameters: attention + feed_forward, each with its norm.
    """

    def __init__(self, *, attention: Factory, feed_forward: Factory, rngs: nnx.Rngs):
        self.attention = attention(rngs=rngs)
        self.feed_forward = feed_forward(rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.feed_forward(self.attention(x))

    def decode(self, x: jax.Array, cache: Any, at: jax.Array | int) -> tuple[jax.Array, Any]:
        """As :meth:`smallnets.nn.Attention.decode`, of the whole block."""
        y, cache = self.attention.decode(x, cache, at)
        return self.feed_forward(y), cache


class Transformer(nnx.Module):
    """A transformer: a decoder of tokens if ``causal``, else an encoder that classifies.

    Embed, ``depth`` blocks with the norm before each layer, norm, head. A decoder gives the logits
    of each position, which depend on that position and those before it alone (and with a mixture
    that drops first choices, on the sequences before it in the call); an encoder those of the mean
    over positions.

    ``linear`` is the layer inside the blocks; ``attention_linear``, where given, that of the
    attention's projections instead. ``attention`` and ``feed_forward`` are factories that take
    ``linear``, and ``causal`` or ``hidden``. With ``mixture`` (a factory that takes ``expert``)
    each block mixes such feed-forward layers. ``stack`` holds the blocks and says how the
    ``unique`` ones are shared over the depth; with a ``relaxation`` each of their calls adds a
    difference of that rank to each layer. ``norm(width)`` builds a norm, and ``connection`` is what
    carries the input around each layer.

    Inputs of shape (T,) are tokens, embedded by a table of ``vocabulary`` rows (as many as
    ``classes`` without it), which is ``tied`` to the logits or not and of the inner width
    ``embedding_width`` where that is given; inputs of shape (T, ...) are vectors, mapped by a dense
    layer. Positions are those of the attention, and learned vectors too with ``learned_positions``.
    With ``exits`` (:class:`smallnets.nn.exits.Exits`) each block of an encoder but the last has a
    head of its own. ``dropout`` is the rate at which a training step drops what attention and
    feed-forward layers add (Vaswani et al. 2017, section 5.4).

    Shapes: tokens[..., T] or x[..., T, *channels] -> logits[..., T, classes] if causal, else
    [..., classes].

    Source: Vaswani et al. 2017, arXiv:1706.03762; the norm before the layers: Xiong et al. 2020,
    arXiv:2002.04745. Raises ValueError where what is tied or factorised is not there, where a
    decoder has exits or a mixture that sees later positions (expert choice; soft; one that drops
    second choices, as later tokens' first choices take their slots), and for inputs of shape
    [..., T] that are no integers.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        classes: int,
        *,
        width: int,
        depth: int,
        linear: Factory,
        attention: Factory,
        feed_forward: Factory,
        causal: bool,
        tied: bool,
        attention_linear: Factory | None = None,
        mixture: Factory | None = None,
        stack: Factory = Stack,
        unique: int | None = None,
        relaxation: int = 0,
        hidden: int | None = None,
        norm: Factory = RMSNorm,
        connection: Factory = Residual,
        embedding_width: int | None = None,
        vocabulary: int | None = None,
        learned_positions: bool = False,
        exits: Factory | None = None,
        dropout: TracedShare = 0.0,
        rngs: nnx.Rngs,
    ):
        length, *channels = shape
        _check(bool(channels), classes, causal, tied, embedding_width, vocabulary)
        self.causal = causal
        self.axes = len(channels)
        self.embedding: Any
        if channels:
            self.embedding = Dense(math.prod(channels), width, rngs=rngs)
        else:
            rows = classes if vocabulary is None else vocabulary
            self.embedding = Embedding(rows, width, factor=embedding_width, tied=tied, rngs=rngs)
        self.positions = LearnedPositions(length, width, rngs=rngs) if learned_positions else None
        attention_linear = linear if attention_linear is None else attention_linear
        if relaxation:
            linear = partial(Relaxed, linear=linear, rank=relaxation)
            attention_linear = partial(Relaxed, linear=attention_linear, rank=relaxation)
        mixing = partial(attention, linear=attention_linear, causal=causal)
        feeding = partial(feed_forward, linear=linear, hidden=hidden)
        block = partial(
            Block,
            attention=partial(connection, width, layer=dropped(mixing, dropout), norm=norm),
            feed_forward=partial(
                connection,
                width,
                layer=dropped(
                    feeding if mixture is None else partial(mixture, expert=feeding), dropout
                ),
                norm=norm,
            ),
        )
        self.stack = stack(block=block, depth=depth, unique=unique, rngs=rngs)
        self.norm = norm(width)
        self.head = None if tied else Dense(width, classes, rngs=rngs)
        if causal:
            _check_causal(self, exits)
        exit = partial(Exit, width, classes, norm=norm, pooled=True)
        self.exits = None if exits is None else exits(depth - 1, exit=exit, rngs=rngs)

    def embed(self, x: jax.Array, at: jax.Array | int = 0) -> jax.Array:
        """What goes into the first block; the first position is ``at``."""
        if self.axes:
            x = x.reshape(*x.shape[: x.ndim - self.axes], -1)
        elif not jnp.issubdtype(x.dtype, jnp.integer):
            raise ValueError(
                f"inputs of shape [..., T] must be tokens, but are {x.dtype} {x.shape}: give "
                "integers, or vectors [..., T, channels]"
            )
        x = self.embedding(x)
        return x if self.positions is None else self.positions(x, at)

    def readout(self, x: jax.Array) -> jax.Array:
        """The logits of what comes out of the last block."""
        x = self.norm(x)
        x = x if self.causal else x.mean(axis=-2)
        return self.embedding.logits(x) if self.head is None else self.head(x)

    def __call__(self, x: jax.Array) -> jax.Array:
        return call_and_self_distill(self, x)


def _check_causal(model: "Transformer", exits: Factory | None) -> None:
    """Raise ValueError where a layer inside sees later positions, and for exits."""
    if exits is not None:
        raise ValueError(
            "a decoder's positions need each other at every depth, so that none can leave early: "
            "choose an encoder, or leave exits out"
        )
    for _, module in nnx.iter_modules(model):
        if isinstance(module, (ExpertChoice, SoftMixture)):
            raise ValueError(
                f"a decoder's positions must not see later ones, but {type(module).__name__} mixes "
                "all of a call: choose a mixture with another router, or set causal to false"
            )
        if isinstance(module, Mixture) and module.drops_second_choices():
            raise ValueError(
                "a decoder's positions must not see later ones, but with "
                f"capacity_factor={module.capacity_factor} first choices of later tokens take the "
                f"slots of second ones (top_k={module.top_k} of {module.experts}): set "
                "capacity_factor to null, which drops nothing, or top_k to 1 with the router TopK"
            )


def _check(
    vectors: bool,
    classes: int,
    causal: bool,
    tied: bool,
    embedding_width: int | None,
    vocabulary: int | None,
) -> None:
    """Raise ValueError where an option has nothing to act on."""
    if tied and (vectors or not causal or vocabulary not in (None, classes)):
        raise ValueError(
            "a tied embedding gives the logits of a decoder's own tokens, but "
            f"the inputs are {'vectors' if vectors else 'tokens'}, causal={causal}, "
            f"vocabulary={vocabulary} for {classes} classes: set tied to false"
        )
    if vectors and not (embedding_width is None and vocabulary is None):
        raise ValueError(
            f"a table of tokens needs tokens, but embedding_width={embedding_width}, "
            f"vocabulary={vocabulary} for inputs that are vectors: set both to null"
        )

"""An encoder of sentences: tokens in, one vector of unit length out."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from smallnets.nn.attention import Attention
from smallnets.nn.embedding import Embedding, LearnedPositions
from smallnets.nn.feed_forward import FeedForward
from smallnets.nn.linear import Affine, Dense
from smallnets.nn.norm import LayerNorm
from smallnets.nn.parameter import Factory
from smallnets.nn.residual import PostNormResidual
from smallnets.nn.sharing import Stack


class PaddedBlock(nnx.Module):
    """A transformer's block over sequences that end in padding, which no position attends to.

    Shapes: (x[..., T, d], counted[..., T]) -> (y[..., T, d], counted), so that a stack carries both
    through its blocks.
    Parameters: attention + feed_forward, each with its norm, which stands behind the sum.
    """

    def __init__(self, *, attention: Factory, feed_forward: Factory, rngs: nnx.Rngs):
        self.attention = attention(rngs=rngs)
        self.feed_forward = feed_forward(rngs=rngs)

    def __call__(self, state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        x, counted = state
        x = self.attention.norm(x + self.attention.layer(x, counted))
        return self.feed_forward(x), counted


class SentenceEncoder(nnx.Module):
    """BERT's encoder, the mean over the tokens that are no padding, and unit length:

        x = norm(table[tokens] + positions),   y = mean of blocks(x)_t over tokens_t != padding,
        embedding = y / |y|

    The norm stands behind the sums, layers have biases, GELU is exact. BERT's vector for the kind
    of a segment is one for all tokens of a single sentence, and so part of ``positions``.

    Shapes: tokens[..., T] (integers below ``vocabulary``) -> [..., width], for T up to ``length``.
    Parameters: (vocabulary + length + 2) width + depth blocks
    FLOPs: those of the blocks.

    Source: Devlin et al. 2018, arXiv:1810.04805; mean over tokens: Reimers & Gurevych 2019,
    arXiv:1908.10084. Raises ValueError as :class:`smallnets.nn.Attention` does.
    """

    def __init__(
        self,
        *,
        vocabulary: int,
        length: int,
        width: int,
        depth: int,
        hidden: int,
        head_dim: int,
        epsilon: float = 1e-12,
        padding: int = 0,
        rngs: nnx.Rngs,
    ):
        self.padding = padding
        self.embedding = Embedding(vocabulary, width, tied=False, rngs=rngs)
        self.positions = LearnedPositions(length, width, rngs=rngs)
        norm = partial(LayerNorm, epsilon=epsilon)
        self.norm = norm(width)
        linear = partial(Affine, linear=Dense)
        attention = partial(
            Attention, linear=linear, head_dim=head_dim, causal=False, rotary_base=None
        )
        feed_forward = partial(FeedForward, linear=linear, hidden=hidden, exact=True)
        block = partial(
            PaddedBlock,
            attention=partial(PostNormResidual, width, layer=attention, norm=norm),
            feed_forward=partial(PostNormResidual, width, layer=feed_forward, norm=norm),
        )
        self.stack: Any = Stack(block=block, depth=depth, rngs=rngs)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        counted = tokens != self.padding
        x = self.norm(self.positions(self.embedding(tokens)))
        x, _ = self.stack((x, counted))
        weights = counted.astype(x.dtype)[..., None]
        mean = jnp.sum(x * weights, axis=-2) / jnp.maximum(jnp.sum(weights, axis=-2), 1)
        return mean / jnp.maximum(jnp.linalg.norm(mean, axis=-1, keepdims=True), 1e-12)

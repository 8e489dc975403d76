"""Parameter counts that others published, from our modules, without allocating memory."""

from functools import partial

import jax
import pytest
from flax import nnx

from smallnets.measure.parameters import parameters
from smallnets.nn.attention import Attention
from smallnets.nn.convolution import ConvolutionalNetwork
from smallnets.nn.embedding import Embedding, LearnedPositions
from smallnets.nn.feed_forward import FeedForward
from smallnets.nn.linear import Affine, Dense
from smallnets.nn.mixture import Mixture
from smallnets.nn.norm import LayerNorm
from smallnets.nn.perceptron import Perceptron
from smallnets.nn.residual import Residual
from smallnets.nn.sharing import Stack
from smallnets.nn.transformer import Block, Transformer

AFFINE = partial(Affine, linear=Dense)
LLAMA = partial(
    Transformer,
    linear=Dense,
    feed_forward=partial(FeedForward, gated=True),
    causal=True,
    tied=False,
)


class Albert(nnx.Module):
    """ALBERT's encoder: one block at every depth, a factorised embedding, a pooler."""

    def __init__(self, *, rngs: nnx.Rngs):
        self.words = Embedding(30_000, 128, tied=False, rngs=rngs)
        self.positions = LearnedPositions(512, 128, rngs=rngs)
        self.segments = Embedding(2, 128, tied=False, rngs=rngs)
        self.norm = LayerNorm(128)
        self.up = AFFINE(128, 768, rngs=rngs)
        attention = partial(Attention, linear=AFFINE, head_dim=64, causal=False, rotary_base=None)
        feed_forward = partial(FeedForward, linear=AFFINE, expansion=4)
        block = partial(
            Block,
            attention=partial(Residual, 768, layer=attention, norm=LayerNorm),
            feed_forward=partial(Residual, 768, layer=feed_forward, norm=LayerNorm),
        )
        self.stack = Stack(block=block, depth=12, unique=1, rngs=rngs)
        self.pooler = AFFINE(768, 768, rngs=rngs)


# name: parameters stored, those that one token uses, and the network
NETWORKS = {
    # Greydanus & Kobak 2020 (MNIST-1D), arXiv:2011.14439, models.py of its repository
    "MNIST-1D logistic regression": (
        410,
        410,
        partial(Perceptron, (40,), 10, widths=[], linear=Dense),
    ),
    "MNIST-1D MLP": (
        15_210,
        15_210,
        partial(Perceptron, (40,), 10, widths=[100, 100], linear=Dense),
    ),
    "MNIST-1D CNN": (
        5_210,
        5_210,
        partial(
            ConvolutionalNetwork,
            (40, 1),
            10,
            width=25,
            sizes=[5, 3, 3],
            stride=2,
            padding=1,
            linear=Dense,
        ),
    ),
    # LeCun et al. 1998; "267K" in Han et al. 2015, arXiv:1506.02626, table 1
    "LeNet-300-100": (
        266_610,
        266_610,
        partial(Perceptron, (28, 28), 10, widths=[300, 100], linear=Dense),
    ),
    # Radford et al. 2019; the released weights "gpt2". One table for inputs and logits.
    "GPT-2 small": (
        124_439_808,
        124_439_808,
        partial(
            Transformer,
            (1024,),
            50_257,
            width=768,
            depth=12,
            linear=AFFINE,
            attention=partial(Attention, head_dim=64, rotary_base=None),
            feed_forward=partial(FeedForward, expansion=4),
            norm=LayerNorm,
            causal=True,
            tied=True,
            learned_positions=True,
        ),
    ),
    # Zhang et al. 2024, arXiv:2401.02385; the released weights. Grouped-query attention.
    "TinyLlama 1.1B": (
        1_100_048_384,
        1_100_048_384,
        partial(
            LLAMA,
            (2048,),
            32_000,
            width=2048,
            depth=22,
            hidden=5632,
            attention=partial(Attention, head_dim=64, key_value_heads=4),
        ),
    ),
    # Gemma team 2024, arXiv:2403.08295; the released weights. Multi-query attention, one table.
    "Gemma 2B": (
        2_506_172_416,
        2_506_172_416,
        partial(
            LLAMA,
            (8192,),
            256_000,
            width=2048,
            depth=18,
            hidden=16_384,
            attention=partial(Attention, head_dim=256, key_value_heads=1),
            tied=True,
        ),
    ),
    # Jiang et al. 2024, arXiv:2401.04088; the released weights. "47B" stored, "13B" active.
    "Mixtral 8x7B": (
        46_702_792_704,
        12_879_925_248,
        partial(
            LLAMA,
            (32_768,),
            32_000,
            width=4096,
            depth=32,
            hidden=14_336,
            attention=partial(Attention, head_dim=128, key_value_heads=8),
            mixture=partial(Mixture, experts=8, top_k=2, capacity_factor=None),
        ),
    ),
    # Lan et al. 2019, arXiv:1909.11942; the released weights "albert-base-v2" without the head of
    # the masked language model. One block at all depths, a factorised embedding.
    "ALBERT base": (11_683_584, 11_683_584, Albert),
}


@pytest.mark.parametrize(("stored", "active", "network"), NETWORKS.values(), ids=NETWORKS)
def test_published_counts(stored, active, network):
    model = jax.eval_shape(lambda key: network(rngs=nnx.Rngs(params=key)), jax.random.key(0))
    found = parameters(model)
    assert (found.stored, found.unique, found.active) == (stored, stored, active)

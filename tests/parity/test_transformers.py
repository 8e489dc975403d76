"""Blocks that others trust, with the weights copied over: the same numbers, the same routes.

The reference is the library transformers on torch: ``pip install .[parity]``, ``pytest -m parity``.
"""

import warnings
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from smallnets.nn.attention import Attention
from smallnets.nn.feed_forward import FeedForward
from smallnets.nn.linear import Affine, Dense
from smallnets.nn.mixture import Mixture
from smallnets.nn.norm import LayerNorm
from smallnets.nn.parameter import training
from smallnets.nn.residual import PostNormResidual
from smallnets.nn.routing import TopK
from smallnets.nn.sharing import Stack
from smallnets.nn.transformer import Block, Transformer

pytestmark = pytest.mark.parity
TOLERANCE = 1e-5
AFFINE = partial(Affine, linear=Dense)


@pytest.fixture(scope="module")
def torch() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch = pytest.importorskip("torch")
        pytest.importorskip("transformers")
    torch.manual_seed(0)
    return torch


def rngs() -> nnx.Rngs:
    return nnx.Rngs(params=0)


def draw(torch: Any, module: Any) -> Any:
    """Every parameter of a torch module at random, norms and biases too, so that each counts."""
    with torch.no_grad():
        for parameter in module.parameters():
            size = 0.5 if parameter.ndim == 1 else parameter.shape[-1] ** -0.5
            parameter.copy_((parameter.ndim == 1) + size * torch.randn(parameter.shape))
    return module.eval()


def numbers(tensor: Any) -> np.ndarray:
    return tensor.detach().numpy()


def put(parameter: nnx.Param, *tensors: Any) -> None:
    """Set a parameter, stacked blocks from several tensors; a torch kernel is [d_out, d_in]."""
    arrays = [numbers(tensor).T if tensor.ndim == 2 else numbers(tensor) for tensor in tensors]
    value = (
        np.stack(arrays) if len(arrays) > 1 or parameter[...].ndim > arrays[0].ndim else arrays[0]
    )
    assert value.shape == parameter[...].shape
    parameter[...] = jnp.asarray(value)


def put_affine(affine: Any, *linears: Any) -> None:
    put(affine.linear.kernel, *(linear.weight for linear in linears))
    put(affine.bias, *(linear.bias for linear in linears))


def close(ours: Any, theirs: Any) -> None:
    np.testing.assert_allclose(ours, numbers(theirs), rtol=TOLERANCE, atol=TOLERANCE)


def test_llama(torch):
    """The whole decoder: two blocks with grouped queries, rotary positions, gated feed-forward."""
    from transformers import LlamaConfig, LlamaForCausalLM  # pyright: ignore[reportMissingImports]

    config = LlamaConfig(
        vocab_size=50,
        hidden_size=32,
        intermediate_size=88,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        rms_norm_eps=1e-6,
    )
    theirs = draw(torch, LlamaForCausalLM(config))
    ours = Transformer(
        (12,),
        50,
        width=32,
        depth=2,
        hidden=88,
        linear=Dense,
        attention=partial(Attention, head_dim=8, key_value_heads=2),
        feed_forward=partial(FeedForward, gated=True),
        causal=True,
        tied=False,
        rngs=rngs(),
    )
    model, layers = theirs.model, list(theirs.model.layers)
    ours.embedding.table[...] = jnp.asarray(numbers(model.embed_tokens.weight))
    put(ours.norm.scale, model.norm.weight)
    assert isinstance(ours.head, Dense)
    put(ours.head.kernel, theirs.lm_head.weight)
    blocks = ours.stack.blocks
    put(blocks.attention.norm.scale, *(each.input_layernorm.weight for each in layers))
    put(blocks.feed_forward.norm.scale, *(each.post_attention_layernorm.weight for each in layers))
    for name, proj in (("query", "q"), ("key", "k"), ("value", "v"), ("output", "o")):
        weights = [getattr(each.self_attn, f"{proj}_proj").weight for each in layers]
        put(getattr(blocks.attention.layer, name).kernel, *weights)
    for name in ("gate", "up", "down"):
        weights = [getattr(each.mlp, f"{name}_proj").weight for each in layers]
        put(getattr(blocks.feed_forward.layer, name).kernel, *weights)
    tokens = np.random.default_rng(0).integers(0, 50, (3, 12))
    close(ours(jnp.asarray(tokens, jnp.int32)), theirs(torch.tensor(tokens)).logits)


def test_mixtral(torch):
    """Two of eight gated experts for each token, weighted by their softmax among the two."""
    from transformers import MixtralConfig  # pyright: ignore[reportMissingImports]
    from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock  # pyright: ignore[reportMissingImports]

    config = MixtralConfig(
        hidden_size=16, intermediate_size=40, num_local_experts=8, num_experts_per_tok=2
    )
    theirs = draw(torch, MixtralSparseMoeBlock(config))
    expert = partial(FeedForward, linear=Dense, hidden=40, gated=True)
    ours = Mixture(
        16, 16, expert=expert, experts=8, top_k=2, capacity_factor=4.0, rngs=rngs()
    )  # room for all tokens in one expert: nothing is dropped
    put(ours.router.score.kernel, theirs.gate.weight)
    gate, up = np.split(numbers(theirs.experts.gate_up_proj), 2, axis=1)
    ours.expert.gate.kernel[...] = jnp.asarray(gate.swapaxes(1, 2))
    ours.expert.up.kernel[...] = jnp.asarray(up.swapaxes(1, 2))
    ours.expert.down.kernel[...] = jnp.asarray(numbers(theirs.experts.down_proj).swapaxes(1, 2))
    x = np.random.default_rng(0).normal(size=(3, 20, 16)).astype(np.float32)
    close(ours(jnp.asarray(x)), theirs(torch.tensor(x)))
    _, weights, chosen = theirs.gate(torch.tensor(x))
    _, routing = ours.router(jnp.asarray(x.reshape(-1, 16)))
    np.testing.assert_array_equal(routing.expert.reshape(2, -1).T, numbers(chosen))
    close(routing.weight.reshape(2, -1).T, weights)


def test_switch(torch):
    """One of four experts for each token, times its probability; beyond its capacity none."""
    from transformers import SwitchTransformersConfig  # pyright: ignore[reportMissingImports]
    from transformers.models.switch_transformers import (  # pyright: ignore[reportMissingImports]
        modeling_switch_transformers as switch,
    )

    config = SwitchTransformersConfig(
        d_model=16,
        d_ff=40,
        num_experts=4,
        expert_capacity=7,
        dropout_rate=0.0,
        dense_act_fn="gelu_new",
    )
    theirs = draw(torch, switch.SwitchTransformersSparseMLP(config))
    ours = Mixture(
        16,
        16,
        expert=partial(FeedForward, linear=Dense, hidden=40),
        router=partial(TopK, normalized=False),
        experts=4,
        top_k=1,
        capacity_factor=7 / 6,  # 7 slots for a fair share of 24 / 4 tokens
        rngs=rngs(),
    )
    put(ours.router.score.kernel, theirs.router.classifier.weight)
    experts = [theirs.experts[f"expert_{index}"] for index in range(4)]
    put(ours.expert.up.kernel, *(each.wi.weight for each in experts))
    put(ours.expert.down.kernel, *(each.wo.weight for each in experts))
    x = np.random.default_rng(0).normal(size=(1, 24, 16)).astype(np.float32)
    expected = theirs(torch.tensor(x))
    chosen, weights, _ = theirs.router(torch.tensor(x))
    dropped = numbers(chosen).sum(axis=-1)[0] == 0
    assert dropped.any()
    close(training(ours, jax.random.key(0))(jnp.asarray(x)), expected)  # with its capacity
    _, routing = ours.router(jnp.asarray(x[0]))
    kept = numbers(chosen)[0].argmax(axis=-1)[~dropped]
    np.testing.assert_array_equal(np.asarray(routing.expert)[~dropped], kept)
    close(routing.weight, weights[0, :, 0])


def test_albert(torch):
    """One block at every depth, the norm behind each layer, affine projections."""
    from transformers import AlbertConfig  # pyright: ignore[reportMissingImports]
    from transformers.models.albert.modeling_albert import AlbertLayer  # pyright: ignore[reportMissingImports]

    config = AlbertConfig(
        hidden_size=32,
        num_attention_heads=4,
        intermediate_size=64,
        attn_implementation="eager",  # pyright: ignore[reportCallIssue]
    )
    theirs = draw(torch, AlbertLayer(config))
    attention = partial(Attention, linear=AFFINE, head_dim=8, causal=False, rotary_base=None)
    feed_forward = partial(FeedForward, linear=AFFINE, hidden=64)
    norm = partial(LayerNorm, epsilon=config.layer_norm_eps)
    block = partial(
        Block,
        attention=partial(PostNormResidual, 32, layer=attention, norm=norm),
        feed_forward=partial(PostNormResidual, 32, layer=feed_forward, norm=norm),
    )
    ours = Stack(block=block, depth=3, unique=1, rngs=rngs())
    inner = theirs.attention
    for name, linear in (
        ("query", inner.query),
        ("key", inner.key),
        ("value", inner.value),
        ("output", inner.dense),
    ):
        put_affine(getattr(ours.blocks.attention.layer, name), linear)
    put_affine(ours.blocks.feed_forward.layer.up, theirs.ffn)
    put_affine(ours.blocks.feed_forward.layer.down, theirs.ffn_output)
    for residual, reference in (
        (ours.blocks.attention, inner.LayerNorm),
        (ours.blocks.feed_forward, theirs.full_layer_layer_norm),
    ):
        put(residual.norm.norm.scale, reference.weight)
        put(residual.norm.bias, reference.bias)
    x = np.random.default_rng(0).normal(size=(3, 12, 32)).astype(np.float32)
    expected = torch.tensor(x)
    for _ in range(3):
        expected = theirs(expected)
    close(ours(jnp.asarray(x)), expected)

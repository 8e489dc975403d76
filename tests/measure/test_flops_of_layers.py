"""FLOPs and parameters of the project's own layers against the formulas in their docstrings."""

from functools import partial

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from smallnets.measure import flops
from smallnets.measure.parameters import parameters
from smallnets.nn.convolution import Convolution
from smallnets.nn.dispatch import capacity
from smallnets.nn.feed_forward import FeedForward
from smallnets.nn.linear import Dense, LowRank
from smallnets.nn.mixture import Mixture
from smallnets.nn.parameter import training
from smallnets.nn.residual import Residual, ResidualNetwork
from smallnets.nn.sharing import Stack
from smallnets.nn.structured import Monarch

sizes = st.integers(1, 40)
KEY = jax.random.key(0)


def abstract(factory, *arguments, **options) -> nnx.Module:
    return jax.eval_shape(
        lambda key: factory(*arguments, rngs=nnx.Rngs(params=key), **options), jax.random.key(0)
    )


def forward(model: nnx.Module, *shape: int) -> float:
    x = jax.ShapeDtypeStruct(shape, "float32")
    return flops.count(lambda model, x: model(x), model, x).products


def executed(model: nnx.Module, *shape: int) -> float:
    """FLOPs of the compiled forward pass in XLA's own count."""
    x = jax.ShapeDtypeStruct(shape, "float32")
    analysis = jax.jit(lambda model, x: model(x)).lower(model, x).compile().cost_analysis()
    assert analysis is not None
    return analysis["flops"]


@pytest.mark.filterwarnings("ignore::smallnets.nn.linear.LargerThanDense")
@settings(deadline=None, max_examples=25)
@given(tokens=sizes, d_in=sizes, d_out=sizes, rank=sizes)
def test_linear_layers(tokens, d_in, d_out, rank):
    rank = min(rank, d_in, d_out)
    dense, low_rank = abstract(Dense, d_in, d_out), abstract(LowRank, d_in, d_out, rank=rank)
    assert forward(dense, tokens, d_in) == 2 * tokens * d_in * d_out
    assert forward(low_rank, tokens, d_in) == 2 * tokens * rank * (d_in + d_out)


@pytest.mark.filterwarnings("ignore::smallnets.nn.linear.LargerThanDense")
@settings(deadline=None, max_examples=25)
@given(tokens=sizes, blocks=st.integers(1, 6), p=st.integers(1, 9), q=st.integers(1, 9))
def test_monarch(tokens, blocks, p, q):
    d_in, d_out = blocks * p, blocks * q
    model = abstract(Monarch, d_in, d_out, blocks=blocks)
    expected = 2 * (d_in * d_out // blocks + d_out * blocks)
    assert forward(model, tokens, d_in) == tokens * expected


def test_linear_layers_agree_with_xla():
    for model in (
        abstract(Dense, 24, 36),
        abstract(LowRank, 24, 36, rank=5),
        abstract(Monarch, 24, 36, blocks=4),
    ):
        assert forward(model, 7, 24) == executed(model, 7, 24)


@settings(deadline=None, max_examples=15)
@given(loops=st.integers(1, 6), unique=st.integers(1, 6), d=st.integers(1, 12))
def test_a_stack_stores_its_unique_blocks_and_runs_its_depth(loops, unique, d):
    block = partial(Residual, d, layer=Dense)
    model = abstract(Stack, block=block, depth=loops * unique, unique=unique)
    assert forward(model, 3, d) == loops * unique * 3 * 2 * d * d
    assert parameters(model).unique == unique * (d * d + d)


@settings(deadline=None, max_examples=6)
@given(top_k=st.integers(1, 4), more=st.integers(0, 4), tokens=st.integers(1, 40))
def test_a_mixture_computes_its_slots_and_its_router(top_k, more, tokens):
    d, experts = 6, top_k + more
    expert = partial(FeedForward, linear=Dense)
    model = abstract(Mixture, d, d, expert=expert, experts=experts, top_k=top_k)
    model = training(model, KEY)
    choices, slots = tokens * top_k, experts * capacity(tokens, experts, top_k, 1.25)
    slots = choices if choices <= experts else slots
    each = 2 * (d * 2 * d + 2 * d * d)
    assert forward(model, tokens, d) == slots * each + tokens * 2 * d * experts


def test_a_mixture_agrees_with_xla_up_to_what_is_elementwise():
    """Wide experts, so that the products are nearly all of what runs."""
    expert = partial(FeedForward, linear=Dense)
    model = training(abstract(Mixture, 128, 128, expert=expert, experts=8, top_k=2), KEY)
    assert forward(model, 256, 128) == pytest.approx(executed(model, 256, 128), rel=0.02)


@settings(deadline=None, max_examples=6)
@given(top_k=st.integers(1, 4), more=st.integers(0, 4), inner=st.integers(1, 3))
def test_of_a_mixture_of_mixtures_the_chosen_experts_are_active(top_k, more, inner):
    d, experts = 6, top_k + more
    within = partial(Mixture, expert=Dense, experts=3, top_k=inner)
    model = abstract(Mixture, d, d, expert=within, experts=experts, top_k=top_k)
    counted = parameters(model)
    router, inner_router = d * experts, d * 3
    assert counted.unique == experts * (3 * d * d + inner_router) + router
    assert counted.active == top_k * (inner * d * d + inner_router) + router


@settings(deadline=None, max_examples=15)
@given(size=st.integers(1, 3), stride=st.integers(1, 2), d_in=sizes, d_out=sizes)
def test_a_convolution_of_patches(size, stride, d_in, d_out):
    model = abstract(
        Convolution, d_in, d_out, axes=2, size=size, stride=stride, padding=1, linear=Dense
    )
    windows = ((8 + 2 - size) // stride + 1) * ((5 + 2 - size) // stride + 1)
    assert forward(model, 3, 8, 5, d_in) == 3 * windows * 2 * size**2 * d_in * d_out


def test_a_whole_training_step_takes_three_forward_passes_less_the_gradient_of_the_input():
    width, depth, batch = 16, 6, 10
    model = abstract(ResidualNetwork, (40,), 10, width=width, depth=depth, unique=2, linear=Dense)
    x = jax.ShapeDtypeStruct((batch, 40), "float32")
    step = flops.training_step(lambda model, x: jnp.square(model(x)).sum(), model, x)
    embed, blocks, head = 2 * 40 * width, depth * 2 * 4 * width * width, 2 * width * 10
    assert step.per(batch).products == 3 * (embed + blocks + head) - embed

"""Routers: who is chosen and how much it counts; and the losses that keep routers healthy."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from layers import call, drawn, normal

from smallnets.nn.linear import Dense
from smallnets.nn.mixture import Mixture
from smallnets.nn.parameter import Buffer, combine, partition
from smallnets.nn.routing import (
    BiasBalanced,
    ExpertChoice,
    Routing,
    TopK,
    attach_loss,
    balance_loss,
    router_z_loss,
    token_choice,
)

X = normal(24, 8)


def softmax(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("normalized", [True, False])
def test_a_token_goes_to_its_likeliest_experts_weighted_among_them_or_all(normalized):
    router = drawn(partial(TopK, 8, 4, top_k=2, normalized=normalized))
    logits, routing = jax.device_get(call(router, X))
    np.testing.assert_allclose(logits, X @ router.score.kernel[...], rtol=1e-5, atol=1e-5)
    order = np.argsort(-logits, axis=1)[:, :2]
    np.testing.assert_array_equal(routing.expert.reshape(2, 24).T, order)
    best = np.take_along_axis(softmax(logits), order, axis=1)
    expected = best / best.sum(axis=1, keepdims=True) if normalized else best
    np.testing.assert_allclose(routing.weight.reshape(2, 24).T, expected, rtol=1e-5)
    np.testing.assert_allclose(routing.probabilities, softmax(logits), rtol=1e-5)


def test_each_expert_chooses_its_likeliest_tokens():
    router = drawn(partial(ExpertChoice, 8, 4, top_k=2))
    logits, routing = jax.device_get(call(router, X))
    np.testing.assert_array_equal(np.bincount(routing.expert, minlength=4), [12, 12, 12, 12])
    probabilities = softmax(logits)
    for expert in range(4):
        taken = routing.tokens_of(np.arange(48))[routing.expert == expert]
        assert len(set(taken)) == 12
        others = np.setdiff1d(np.arange(24), taken)
        assert probabilities[taken, expert].min() >= probabilities[others, expert].max()


def test_where_experts_choose_the_drops_are_the_tokens_that_none_took():
    _, routing = call(drawn(partial(ExpertChoice, 8, 4, top_k=1)), X)
    left_out = np.setdiff1d(np.arange(24), np.asarray(routing.token))
    assert len(left_out) > 0
    dropped = jax.jit(Routing.dropped)(routing, np.ones(24, bool))
    assert dropped == pytest.approx(len(left_out) / 24)


def test_the_bias_decides_who_is_chosen_and_is_in_no_weight():
    router = drawn(partial(BiasBalanced, 8, 4, top_k=2))
    _, plain = jax.device_get(call(router, X))
    router.bias[...] = np.asarray([0.0, 0.0, 0.0, 2.0], np.float32)  # more than any affinity
    logits, biased = jax.device_get(call(router, X))
    assert (biased.expert[:24] == 3).all()
    assert not (plain.expert[:24] == 3).all()
    affinities = (1 / (1 + np.exp(-logits)))[np.arange(24), biased.expert.reshape(2, 24)]
    np.testing.assert_allclose(
        biased.weight.reshape(2, 24), affinities / affinities.sum(axis=0), rtol=1e-5
    )


def test_affinities_too_small_for_a_number_still_give_weights():
    router = drawn(partial(BiasBalanced, 8, 4, top_k=2))
    router.score.kernel[...] = np.full((8, 4), -1000.0, np.float32)
    _, routing = call(router, np.ones((3, 8), np.float32))
    np.testing.assert_allclose(routing.weight, 0.5)
    np.testing.assert_allclose(routing.probabilities, 0.25)


def test_the_bias_reports_the_sign_of_the_load_error():
    """DeepSeek-V3's update, past the gradient of the loss: with it or without, the same."""
    router = partial(BiasBalanced, rate=0.25)
    model = drawn(partial(Mixture, 8, 8, expert=Dense, experts=4, top_k=2, router=router))
    buffers, rest = partition(model, Buffer)

    @jax.jit
    @jax.grad
    def told(buffers: nnx.Module, scale: float) -> jax.Array:
        return scale * jnp.sum(combine(buffers, rest)(X))

    _, routing = call(model.router, X)
    share = np.bincount(np.asarray(routing.expert), minlength=4) / 48
    for scale in (0.0, 1.0):
        reported = told(buffers, scale).router.bias[...]
        np.testing.assert_array_equal(reported, 0.25 * np.sign(0.25 - share))


def first_choices(logits: np.ndarray) -> Routing:
    experts = logits.argmax(axis=1, keepdims=True)
    weights = np.ones(experts.shape, np.float32)
    return token_choice(*map(jnp.asarray, (weights, experts, softmax(logits))))


def test_balance_loss_is_1_when_even_and_the_number_of_experts_when_all_go_to_one():
    even = 40 * np.tile(np.eye(4, dtype=np.float32), (2, 1))
    one_sided = np.tile(np.asarray([40.0, 0, 0, 0], np.float32), (8, 1))
    loss = jax.jit(lambda routing: balance_loss(routing))
    assert loss(first_choices(even)) == pytest.approx(1)
    assert loss(first_choices(one_sided)) == pytest.approx(4)


def test_router_z_loss_by_hand():
    expected = (np.log(2) ** 2 + (1 + np.log(2)) ** 2) / 2
    found = jax.jit(router_z_loss)(np.asarray([[0.0, 0.0], [1.0, 1.0]], np.float32))
    assert found == pytest.approx(expected)


def test_an_attached_loss_trains_without_being_in_the_value():
    """What the custom gradient gives and what it costs, as its docstring says."""

    def attached(x):
        return attach_loss(x, jnp.sum(x**3))

    @jax.jit
    @jax.grad
    def gradient(x, scale):
        return scale * jnp.sum(attached(x))

    x = np.asarray([1.0, 2.0], np.float32)
    np.testing.assert_array_equal(jax.jit(attached)(x), x)
    np.testing.assert_allclose(gradient(x, 1.0), 1 + 3 * x**2)
    np.testing.assert_allclose(gradient(x, 2.0), 2 + 3 * x**2)  # not doubled itself
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(attached, (x,), (x,))


@pytest.mark.slow
@pytest.mark.parametrize("top_k", [1, 2])
def test_a_router_learns_from_the_task_however_many_are_chosen(top_k):
    options = {"expert": Dense, "experts": 4, "top_k": top_k, "capacity_factor": None}
    weights = {"balance_weight": 0.0, "router_z_weight": 0.0}
    model = drawn(partial(Mixture, 8, 8, **options, **weights))
    gradient = jax.jit(jax.grad(lambda model: jnp.sum(jnp.square(model(X)))))(model)
    assert np.abs(gradient.router.score.kernel[...]).max() > 1e-3


@pytest.mark.parametrize("router", [partial(TopK, normalized=True), BiasBalanced])
def test_a_router_that_could_not_learn_from_the_task_is_refused(router):
    with pytest.raises(ValueError, match="top_k=1 a weight normalized over the chosen is always 1"):
        drawn(partial(router, 8, 4, top_k=1))

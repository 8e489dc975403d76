"""Mixtures that are honest: what they compute, what they cost, what their losses do."""

from functools import partial
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from layers import at, call, drawn, normal, side_by_side

from smallnets.measure import flops
from smallnets.nn.dispatch import block_rows, capacity
from smallnets.nn.feed_forward import FeedForward
from smallnets.nn.linear import Dense, LowRank
from smallnets.nn.mixture import Mixture, SoftMixture
from smallnets.nn.parameter import Buffer, combine, means, partition, training
from smallnets.nn.routing import BiasBalanced, ExpertChoice, TopK, balance_loss, router_z_loss

X = normal(24, 8)
KEY = jax.random.key(0)
POSITIONS = normal(2, 5, 8)
FEED_FORWARD = partial(FeedForward, linear=Dense)


def mixture(**options) -> Any:
    settings = {"expert": Dense, "experts": 4, "top_k": 2, **options}
    return training(drawn(partial(Mixture, 8, 8, **settings)), KEY)  # with its capacity


def dense_experts(model: Mixture) -> np.ndarray:
    """What each of its dense experts gives for X, [experts, 24, 8]."""
    return np.asarray(X) @ np.asarray(model.expert.kernel[...])


def products(model: Any, x: jax.Array) -> float:
    return flops.count(lambda model, x: model(x), model, x).products


@pytest.mark.breadth
@pytest.mark.parametrize("expert", [Dense, partial(LowRank, rank=2), FEED_FORWARD])
def test_one_expert_is_that_expert_exactly(expert):
    model = mixture(expert=expert, experts=1, top_k=1)
    np.testing.assert_array_equal(call(model, X), call(at(model.expert, 0), X))


@pytest.mark.breadth
@pytest.mark.parametrize("router", [TopK, BiasBalanced, ExpertChoice])
def test_one_expert_is_that_expert_with_any_router(router):
    """Exactly in its slots; in blocks, which XLA compiles into a loop, to rounding."""
    options = {"experts": 1, "top_k": 1, "router": router}
    model = mixture(**options)
    np.testing.assert_array_equal(call(model, X), call(at(model.expert, 0), X))
    dropless = mixture(capacity_factor=None, expert=FEED_FORWARD, **options)
    expected = call(at(dropless.expert, 0), X)
    np.testing.assert_allclose(call(dropless, X), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("capacity_factor", [4.0, None])
def test_it_is_the_weighted_sum_over_the_best_experts(capacity_factor):
    """With room for all tokens, against the sum written out over every expert."""
    model = mixture(capacity_factor=capacity_factor)
    logits = np.asarray(X) @ np.asarray(model.router.score.kernel[...])
    weights = np.where(logits >= np.sort(logits, axis=1)[:, -2:-1], np.exp(logits), 0)
    weights /= weights.sum(axis=1, keepdims=True)
    expected = np.einsum("te,eto->to", weights, dense_experts(model))
    np.testing.assert_allclose(call(model, X), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("capacity_factor", [1.25, None])
def test_a_token_alone_pays_for_the_experts_that_it_chose(capacity_factor):
    model = mixture(experts=64, capacity_factor=capacity_factor)
    assert products(model, X[:1]) == 2 * 2 * 8 * 8 + 2 * 8 * 64  # two experts and the router
    _, routing = call(model.router, X[:1])
    outputs = dense_experts(model)[:, 0]
    pairs = zip(np.asarray(routing.expert), np.asarray(routing.weight), strict=True)
    expected = sum(weight * outputs[expert] for expert, weight in pairs)
    np.testing.assert_allclose(call(model, X[:1])[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("router", [TopK, BiasBalanced])
def test_a_token_has_one_answer_beside_any_others_but_in_training(router):
    """With as little capacity as there may be, so that a third of the choices are dropped."""
    seen = mixture(router=router, capacity_factor=1.0)
    model = drawn(partial(Mixture, 8, 8, expert=Dense, experts=4, top_k=2, router=router))
    together = call(model, X)
    for size in (1, 5):
        alone = jnp.concatenate([call(model, X[i : i + size]) for i in range(0, 20, size)])
        np.testing.assert_allclose(alone, together[:20], rtol=1e-5, atol=1e-6)
    assert np.abs(call(seen, X) - together).max() > 0.1


def test_rows_without_a_choice_do_not_load_the_experts_of_an_inner_mixture():
    """Three quarters of the rows hold no choice; zeros would all go to one inner expert."""
    inner = partial(Mixture, expert=Dense, experts=4, top_k=1, capacity_factor=None)
    buffers, rest = partition(mixture(expert=inner, top_k=1, capacity_factor=4.0), Buffer)
    told = jax.jit(jax.grad(lambda buffers: jnp.sum(combine(buffers, rest)(X))))(buffers)
    load, calls = np.asarray(told.expert.load[...]).sum(axis=0)
    assert 1 <= load / calls < 2.5


@pytest.mark.breadth
@pytest.mark.parametrize("router", [TopK, BiasBalanced, ExpertChoice])
@pytest.mark.parametrize("capacity_factor", [1.0, 1.25, None])
def test_what_runs_is_what_is_counted(router, capacity_factor):
    """Our count is the rows of the plan and the router; XLA, which counts the body of a loop once,
    counts the same of the compiled call, where all experts on all tokens would be seen."""
    tokens, d, experts = 256, 32, 8
    options = {"router": router, "capacity_factor": capacity_factor, "experts": experts, "top_k": 2}
    expert = partial(FeedForward, linear=Dense, expansion=4)
    model = training(drawn(partial(Mixture, d, d, expert=expert, **options)), KEY)
    x = jnp.ones((tokens, d))
    if capacity_factor is None:
        block = block_rows(2 * tokens, experts)
        rows, turns = (2 * tokens + experts * (block - 1)) // block * block, block
        assert rows < 2 * tokens + experts * block
    else:
        rows = turns = experts * capacity(tokens, experts, 2, capacity_factor)
    each, routed = 2 * 2 * d * 4 * d, tokens * 2 * d * experts
    assert products(model, x) == rows * each + routed
    counted = turns * each + routed
    elementwise = rows * 4 * d * 20 + tokens * 2000
    assert counted <= by_xla(model, x) <= counted + elementwise
    assert counted + elementwise < experts * tokens * each


def by_xla(model: Mixture, x: jax.Array) -> float:
    """The FLOPs of a call as XLA counts them in the compiled program."""
    compiled = jax.jit(lambda model, x: model(x)).lower(model, x).compile()
    analysis: Any = compiled.cost_analysis()
    return analysis["flops"]


def test_a_forward_pass_neither_runs_nor_counts_losses_and_statistics():
    model, x = mixture(experts=8), jnp.ones((64, 8))

    def counts() -> tuple[flops.Flops, float]:
        return flops.count(lambda model, x: model(x), model, x), by_xla(model, x)

    found = counts()
    with (
        mock.patch("smallnets.nn.mixture.attach_loss", lambda y, loss: y),
        mock.patch("smallnets.nn.mixture.report", lambda y, buffer, value: y),
    ):
        assert found == counts()
    best, softmax, weighted, summed = 64 * 8 * 3, 64 * 9, 8 * 20 * 8, 64 * 8
    assert found[0].elementwise == best + softmax + weighted + summed


def test_a_training_step_counts_three_times_the_products_of_a_call():
    """The blocks in turn keep the products of the forward pass: none runs a second time."""
    model = mixture(expert=FEED_FORWARD, capacity_factor=None)
    step = flops.training_step(lambda model, x: jnp.sum(model(x) ** 2), model, X).products
    block = block_rows(2 * len(X), 4)
    rows = (2 * len(X) + 4 * (block - 1)) // block * block
    unasked = 2 * len(X) * 8 * 4 + 2 * rows * 8 * 16  # gradients of X, by router and first layer
    assert step == 3 * products(model, X) - unasked


@pytest.mark.parametrize("capacity_factor", [1.0, None])
def test_expert_choice_by_hand(capacity_factor):
    model = mixture(router=ExpertChoice, capacity_factor=capacity_factor)
    _, routing = jax.device_get(call(model.router, X))
    outputs, expected = dense_experts(model), np.zeros((24, 8), np.float32)
    for choice, (expert, weight) in enumerate(zip(routing.expert, routing.weight, strict=True)):
        token = routing.tokens_of(choice)
        expected[token] += weight * outputs[expert, token]
    np.testing.assert_allclose(call(model, X), expected, rtol=1e-4, atol=1e-5)


def test_shared_experts_are_added_to_the_routed_ones():
    """Alone where the routed ones are zero, and on top of them where they are not."""
    model = mixture(shared=2)
    shared = (np.asarray(X) @ np.asarray(model.shared_expert.kernel[...])).sum(axis=0)
    routed = mixture()
    routed.router, routed.expert = model.router, model.expert
    expected = np.asarray(call(routed, X)) + shared
    np.testing.assert_allclose(call(model, X), expected, rtol=1e-4, atol=1e-5)
    model.expert.kernel[...] = np.zeros((4, 8, 8), np.float32)
    np.testing.assert_allclose(call(model, X), shared, rtol=1e-4, atol=1e-5)


@pytest.mark.breadth
@pytest.mark.parametrize("capacity_factor", [1.0, None])
def test_statistics_by_hand(capacity_factor):
    """In one stacked call for each of three blocks that are called twice, the mean over calls."""
    model = mixture(capacity_factor=capacity_factor)
    _, routing = jax.device_get(call(model.router, X))
    loads, probabilities = np.bincount(routing.expert, minlength=4), routing.probabilities
    expected = {
        "routing_load": loads.max() / 12,
        "routing_drops": 0 if capacity_factor is None else np.maximum(loads - 12, 0).sum() / 48,
        "routing_entropy": -(probabilities * np.log(probabilities)).sum(axis=1).mean(),
    }
    assert 0 < expected["routing_entropy"] < np.log(4)
    assert expected["routing_load"] > 1

    def reported(run, model):
        buffers, rest = partition(model, Buffer)

        @jax.jit
        def told(buffers):
            found = jax.grad(lambda buffers: jnp.sum(run(combine(buffers, rest))))(buffers)
            return found, means(found)

        return told(buffers)

    def twice_each(model):
        def call(total, model):
            return total + model(X).sum() + model(X).sum(), None

        return jax.lax.scan(call, 0.0, model)[0]

    _, found = reported(lambda model: model(X), model)
    assert found == pytest.approx(expected, rel=1e-5)
    told, found = reported(twice_each, side_by_side(model, model, model))
    assert found == pytest.approx(expected, rel=1e-5)
    np.testing.assert_array_equal(np.asarray(told.load[...])[:, 1], [2, 2, 2])


def test_the_mixture_gets_the_gradient_of_the_losses_added_to_the_total():
    """Through the layer inside too: the same as adding both losses to the caller's by hand."""
    model = mixture(balance_weight=0.3, router_z_weight=0.2, capacity_factor=4.0)
    parameters, rest = partition(model)
    silent = jax.tree.map(np.zeros_like, rest)

    def attached(parameters):
        return jnp.mean(combine(parameters, rest)(X) ** 2)

    def added(parameters):
        network = combine(parameters, silent)
        logits, routing = network.router(X)
        losses = 0.3 * balance_loss(routing)
        return jnp.mean(network(X) ** 2) + losses + 0.2 * router_z_loss(logits)

    ours, by_hand = (jax.jit(jax.grad(loss))(parameters) for loss in (attached, added))
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(by_hand), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"top_k": 5}, "top_k=5 for experts=4"),
        ({"top_k": 0}, "top_k=0"),
        ({"capacity_factor": 0.5}, "capacity_factor must be at least 1"),
        ({"shared": -1}, "shared must be at least 0"),
        ({"experts": 0}, "experts must be at least 1"),
    ],
)
def test_bad_settings_get_one_line(options, said):
    with pytest.raises(ValueError, match=said) as caught:
        mixture(**options)
    assert "\n" not in str(caught.value)


def test_experts_note_the_share_that_one_token_uses():
    nested = mixture(expert=partial(Mixture, expert=Dense, experts=2, top_k=1))
    assert nested.router.score.kernel.get_metadata().get("active", 1.0) == 1.0
    assert nested.expert.router.score.kernel.get_metadata()["active"] == 0.5
    assert nested.expert.expert.kernel.get_metadata()["active"] == 0.25


def soft(**options) -> Any:
    settings = {"expert": Dense, "experts": 3, "slots": 2, **options}
    return drawn(partial(SoftMixture, 8, 6, **settings))


def test_a_soft_mixture_is_its_formula_for_each_example():
    model = soft()
    kernel, experts = (np.asarray(each[...], float) for each in (model.kernel, model.expert.kernel))
    for x, y in zip(np.asarray(POSITIONS, float), call(model, POSITIONS), strict=True):
        weights = np.exp(x @ kernel)
        slots = (weights / weights.sum(axis=0)).T @ x
        outputs = np.concatenate([slots[2 * i : 2 * i + 2] @ experts[i] for i in range(3)])
        expected = weights / weights.sum(axis=1, keepdims=True) @ outputs
        np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


def test_a_soft_mixture_of_one_expert_and_one_position_is_that_expert():
    model, x = soft(experts=1, slots=1), POSITIONS[:, :1]
    np.testing.assert_allclose(call(model, x), call(at(model.expert, 0), x), rtol=1e-5)


def test_what_runs_in_a_soft_mixture_is_what_is_counted():
    expected = 2 * (6 * 2 * 8 * 6) + 2 * (2 * 5 * 6 * (2 * 8 + 6))
    assert products(soft(), POSITIONS) == expected


def test_a_soft_mixture_reports_the_entropy_of_each_positions_weights_of_the_experts():
    model = soft()
    logits = np.asarray(POSITIONS, float) @ np.asarray(model.kernel[...], float)
    weights = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    weights = weights.reshape(2, 5, 3, 2).sum(axis=-1)
    buffers, rest = partition(model, Buffer)
    told = jax.jit(jax.grad(lambda buffers: jnp.sum(combine(buffers, rest)(POSITIONS))))(buffers)
    expected = -(weights * np.log(weights)).sum(axis=-1).mean()
    np.testing.assert_allclose(told.entropy[...], [expected, 1], rtol=1e-5)


@pytest.mark.parametrize("options", [{"slots": 0}, {"experts": 0}])
def test_bad_settings_of_a_soft_mixture_get_one_line(options):
    with pytest.raises(ValueError, match=r"\w+=0") as caught:
        soft(**options)
    assert "\n" not in str(caught.value)


def test_no_parameter_of_a_nested_mixture_is_held_twice():
    def build() -> None:
        inner = partial(Mixture, expert=Dense, experts=2, top_k=1, shared=1)
        model = Mixture(8, 8, expert=inner, experts=4, top_k=2, shared=2, rngs=nnx.Rngs(0))
        assert not list(nnx.find_duplicates(model))

    jax.eval_shape(build)

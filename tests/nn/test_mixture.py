"""A mixture that is honest: what it computes, what it costs, what its losses do."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from smallnets.nn.dense import Dense
from smallnets.nn.dispatch import CapacityDispatch, capacity
from smallnets.nn.feed_forward import FeedForward
from smallnets.nn.low_rank import LowRank
from smallnets.nn.mixture import Mixture
from smallnets.nn.parameter import combine, partition
from smallnets.nn.routing import attach_loss, balance_loss, router_z_loss, top_k_routing

X = jax.random.normal(jax.random.key(3), (24, 8))


def mixture(**options) -> Mixture:
    settings = {"expert": Dense, "experts": 4, "top_k": 2, **options}
    return Mixture(8, 8, **settings, rngs=nnx.Rngs(params=jax.random.key(0)))


def expert_of(model: Mixture, index: int) -> nnx.Module:
    return jax.tree.map(lambda leaf: leaf[index], model.expert)


@pytest.mark.parametrize(
    "expert", [Dense, partial(LowRank, rank=2), partial(FeedForward, linear=Dense)]
)
def test_one_expert_is_that_expert_exactly(expert):
    model = mixture(expert=expert, experts=1, top_k=1)
    np.testing.assert_array_equal(model(X), expert_of(model, 0)(X))


def test_it_is_the_weighted_sum_over_the_best_experts():
    """With room for all tokens, against the sum written out over every expert."""
    model = mixture(capacity_factor=4.0)
    logits = X @ model.router.kernel[...]
    kept = np.sort(logits, axis=1)[:, -2:-1]
    weights = jax.nn.softmax(jnp.where(logits >= kept, logits, -jnp.inf))
    outputs = jnp.stack([expert_of(model, index)(X) for index in range(4)])
    expected = jnp.einsum("te,eto->to", weights, outputs)
    np.testing.assert_allclose(model(X), expected, rtol=1e-5, atol=1e-5)


def test_a_full_expert_drops_the_later_tokens_of_later_choices():
    experts = jnp.asarray([[0, 1], [0, 1], [1, 0], [0, 1]])  # 0 is chosen first by three tokens
    plan = CapacityDispatch.plan(
        top_k_routing(jnp.zeros((4, 2)), 2)._replace(experts=experts), experts=2, slots=2
    )
    np.testing.assert_array_equal(plan.token, [[0, 1], [2, 0]])
    np.testing.assert_array_equal(plan.filled, [[True, True], [True, True]])
    np.testing.assert_array_equal(plan.weight, [[0.5, 0.5, 0.5, 0], [0.5, 0, 0, 0]])


def test_what_runs_is_what_is_counted():
    """XLA counts the products of the compiled call: those of the filled-up slots and the router.

    All experts on all tokens would be 1.6 times the products here, so that it would be seen.
    """
    tokens, d = 64, 32

    def call(model, x):
        return model(x)

    build = partial(FeedForward, linear=Dense, expansion=4)
    model = Mixture(d, d, expert=build, experts=4, top_k=2, rngs=nnx.Rngs(0))
    analysis: Any = jax.jit(call).lower(model, jnp.ones((tokens, d))).compile().cost_analysis()
    counted = analysis["flops"]
    slots = capacity(tokens, 4, 2, 1.25)
    products = 4 * slots * 2 * (d * 4 * d) * 2 + tokens * 2 * d * 4
    elementwise = 4 * slots * 4 * d * 20 + tokens * 1000
    assert products <= counted <= products + elementwise
    assert products + elementwise < 4 * tokens * 2 * (d * 4 * d) * 2


@pytest.mark.parametrize(
    ("tokens", "experts", "top_k", "factor", "slots"),
    [
        (64, 4, 2, 1.25, 40),
        (64, 4, 2, 8.0, 64),
        (1, 8, 2, 1.25, 1),
        (10, 1, 1, 1.0, 10),
        (100, 10, 1, 1.1, 11),
    ],
)
def test_capacity(tokens, experts, top_k, factor, slots):
    assert capacity(tokens, experts, top_k, factor) == slots


def test_balance_loss_is_1_when_even_and_the_number_of_experts_when_all_go_to_one():
    even = 40 * jnp.tile(jnp.eye(4), (2, 1))
    assert balance_loss(even, jax.lax.top_k(even, 1)[1]) == pytest.approx(1)
    one_sided = jnp.tile(jnp.asarray([40.0, 0, 0, 0]), (8, 1))
    assert balance_loss(one_sided, jax.lax.top_k(one_sided, 1)[1]) == pytest.approx(4)


def test_router_z_loss_by_hand():
    logits = jnp.asarray([[0.0, 0.0], [1.0, 1.0]])
    expected = (np.log(2) ** 2 + (1 + np.log(2)) ** 2) / 2
    assert router_z_loss(logits) == pytest.approx(expected)


def test_an_attached_loss_trains_without_being_in_the_value():
    """What the custom gradient gives and what it costs, as its docstring says."""

    def attached(x):
        return attach_loss(x, jnp.sum(x**3))

    x = jnp.asarray([1.0, 2.0])
    np.testing.assert_array_equal(attached(x), x)
    gradient = jax.grad(lambda x: jnp.sum(attached(x)))(x)
    np.testing.assert_allclose(gradient, 1 + 3 * x**2)
    doubled = jax.grad(lambda x: 2 * jnp.sum(attached(x)))(x)
    np.testing.assert_allclose(doubled, 2 + 3 * x**2)  # not doubled itself
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(attached, (x,), (x,))


def test_the_mixture_gets_the_gradient_of_the_losses_added_to_the_total():
    """Through the nested map too: the same as adding both losses to the caller's by hand."""
    model = mixture(balance_weight=0.3, router_z_weight=0.2, capacity_factor=4.0)
    silent = mixture(balance_weight=0.0, router_z_weight=0.0, capacity_factor=4.0)

    def attached(parameters, rest):
        return jnp.mean(combine(parameters, rest)(X) ** 2)

    def added(parameters, rest):
        network = combine(parameters, rest)
        logits = network.router(X)
        losses = 0.3 * balance_loss(logits, jax.lax.top_k(logits, 2)[1])
        return jnp.mean(network(X) ** 2) + losses + 0.2 * router_z_loss(logits)

    ours = jax.grad(attached)(*partition(model))
    by_hand = jax.grad(added)(*partition(silent))
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(by_hand), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"top_k": 5}, "top_k=5 for experts=4"),
        ({"top_k": 0}, "top_k=0"),
        ({"capacity_factor": 0.5}, "capacity_factor must be at least 1"),
    ],
)
def test_bad_settings_get_one_line(options, said):
    with pytest.raises(ValueError, match=said) as caught:
        mixture(**options)
    assert "\n" not in str(caught.value)


def test_experts_note_the_share_that_one_token_uses():
    nested = mixture(expert=partial(Mixture, expert=Dense, experts=2, top_k=1))
    assert nested.router.kernel.get_metadata().get("active", 1.0) == 1.0
    assert nested.expert.router.kernel.get_metadata()["active"] == 0.5
    assert nested.expert.expert.kernel.get_metadata()["active"] == 0.25

"""A mixture that is honest: what it computes, what it costs, what its losses do."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from smallnets.measure import flops
from smallnets.nn.dispatch import (
    block_rows,
    capacity,
    capacity_plan,
    dropless_plan,
    in_turn,
    side_by_side,
)
from smallnets.nn.feed_forward import FeedForward
from smallnets.nn.linear import Dense, LowRank
from smallnets.nn.mixture import Mixture
from smallnets.nn.parameter import Buffer, combine, means, partition
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


@pytest.mark.parametrize("router", [TopK, BiasBalanced, ExpertChoice])
def test_one_expert_is_that_expert_with_any_router(router):
    """Exactly in its slots; in blocks, which XLA compiles into a loop, to rounding."""
    options = {"experts": 1, "top_k": 1, "router": router}
    model = mixture(**options)
    np.testing.assert_array_equal(model(X), expert_of(model, 0)(X))
    dropless = mixture(capacity_factor=None, expert=partial(FeedForward, linear=Dense), **options)
    np.testing.assert_allclose(dropless(X), expert_of(dropless, 0)(X), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("capacity_factor", [4.0, None])
def test_it_is_the_weighted_sum_over_the_best_experts(capacity_factor):
    """With room for all tokens, against the sum written out over every expert."""
    model = mixture(capacity_factor=capacity_factor)
    logits = X @ model.router.score.kernel[...]
    kept = np.sort(logits, axis=1)[:, -2:-1]
    weights = jax.nn.softmax(jnp.where(logits >= kept, logits, -jnp.inf))
    outputs = jnp.stack([expert_of(model, index)(X) for index in range(4)])
    expected = jnp.einsum("te,eto->to", weights, outputs)
    np.testing.assert_allclose(model(X), expected, rtol=1e-5, atol=1e-5)


def test_a_full_expert_drops_the_later_tokens_of_later_choices():
    experts = jnp.asarray([[0, 1], [0, 1], [1, 0], [0, 1]])  # 0 is chosen first by three tokens
    routing = token_choice(jnp.full((4, 2), 0.5), experts, jnp.full((4, 2), 0.5))
    plan = capacity_plan(routing, experts=2, slots=2)
    np.testing.assert_array_equal(routing.tokens_of(plan.choice), [[0, 1], [2, 0]])
    np.testing.assert_array_equal(plan.kept(), [1, 1, 1, 0, 1, 0, 0, 0])  # first choices first


@pytest.mark.parametrize("experts", [1, 3, 8])
@pytest.mark.parametrize("block", [1, 4, 16])
@pytest.mark.parametrize("one_sided", [False, True])
def test_a_dropless_plan_has_every_choice_in_a_block_of_its_expert(experts, block, one_sided):
    chosen = jax.random.randint(jax.random.key(1), (20, 2), 0, 1 if one_sided else experts)
    routing = token_choice(jnp.ones((20, 2)), chosen, jnp.ones((20, experts)))
    plan = dropless_plan(routing, experts=experts, block=block)
    assert plan.kept().all()
    assert plan.choice.shape[0] == (40 + experts * (block - 1)) // block
    np.testing.assert_array_equal(plan.choice.reshape(-1)[plan.row], np.arange(40))
    assert plan.expert is not None
    np.testing.assert_array_equal(plan.expert[plan.row // block], routing.expert)


@pytest.mark.parametrize("capacity_factor", [1.25, None])
def test_a_token_alone_pays_for_the_experts_that_it_chose(capacity_factor):
    build = {"experts": 64, "top_k": 2, "capacity_factor": capacity_factor}
    model, x = mixture(**build), X[:1]
    counted = flops.count(lambda model, x: model(x), model, x).products
    assert counted == 2 * 2 * 8 * 8 + 2 * 8 * 64  # two experts and the router
    _, routing = model.router(x)
    pairs = zip(routing.expert, routing.weight, strict=True)
    expected = sum(weight * expert_of(model, int(expert))(x) for expert, weight in pairs)
    np.testing.assert_allclose(model(x), expected, rtol=1e-5, atol=1e-5)


def test_rows_without_a_choice_do_not_load_the_experts_of_an_inner_mixture():
    """Three quarters of the rows hold no choice; zeros would all go to one inner expert."""
    inner = partial(Mixture, expert=Dense, experts=4, top_k=1, capacity_factor=None)
    model = mixture(expert=inner, top_k=1, capacity_factor=4.0)
    states, rest = partition(model, Buffer)
    told = jax.grad(lambda states: jnp.sum(combine(states, rest)(X)))(states)
    load, calls = np.asarray(told.expert.load[...]).sum(axis=0)
    assert 1 <= load / calls < 2.5


@pytest.mark.parametrize("router", [TopK, BiasBalanced, ExpertChoice])
@pytest.mark.parametrize("capacity_factor", [1.0, 1.25, None])
def test_what_runs_is_what_is_counted(router, capacity_factor):
    """Our count is the rows of the plan and the router; XLA, which counts the body of a loop once,
    counts the same of the compiled call, where all experts on all tokens would be seen."""
    tokens, d, experts = 256, 32, 8

    def call(model, x):
        return model(x)

    build = partial(FeedForward, linear=Dense, expansion=4)
    options = {"router": router, "capacity_factor": capacity_factor}
    model = Mixture(d, d, expert=build, experts=experts, top_k=2, **options, rngs=nnx.Rngs(0))
    x = jnp.ones((tokens, d))
    if capacity_factor is None:
        block = block_rows(2 * tokens, experts)
        rows, turns = (2 * tokens + experts * (block - 1)) // block * block, block
        assert rows < 2 * tokens + experts * block
    else:
        rows = turns = experts * capacity(tokens, experts, 2, capacity_factor)
    each, routed = 2 * 2 * d * 4 * d, tokens * 2 * d * experts
    assert flops.count(call, model, x).products == rows * each + routed
    analysis: Any = jax.jit(call).lower(model, x).compile().cost_analysis()
    products = turns * each + routed
    elementwise = rows * 4 * d * 20 + tokens * 2000
    assert products <= analysis["flops"] <= products + elementwise
    assert products + elementwise < experts * tokens * each


def test_a_training_step_counts_three_times_the_products_of_a_call():
    """The blocks in turn keep the products of the forward pass: none runs a second time."""
    model = mixture(expert=partial(FeedForward, linear=Dense), capacity_factor=None)

    def call(model, x):
        return model(x)

    forward = flops.count(call, model, X).products
    step = flops.training_step(lambda model, x: jnp.sum(model(x) ** 2), model, X).products
    block = block_rows(2 * len(X), 4)
    rows = (2 * len(X) + 4 * (block - 1)) // block * block
    unasked = 2 * len(X) * 8 * 4 + 2 * rows * 8 * 16  # the gradient of X, of router and first layer
    assert step == 3 * forward - unasked


@pytest.mark.parametrize("expert", [Dense, partial(Mixture, expert=Dense, experts=2, top_k=1)])
def test_blocks_in_turn_equal_blocks_side_by_side(expert):
    """The two ways of the two kinds of device, and their gradients, also for members under vmap."""
    model = mixture(expert=expert).expert
    rows = jax.random.normal(jax.random.key(5), (6, 3, 8))
    which = jnp.asarray([0, 0, 2, 3, 3, 3])

    def gradient(run, model, rows):
        return jax.grad(lambda *of: jnp.sum(run(*of, which) ** 3), argnums=(0, 1))(model, rows)

    members = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), (model, rows))

    @partial(jax.jit, static_argnums=0)
    def results(run, model, rows, members):
        alone = run(model, rows, which), gradient(run, model, rows)
        return alone, jax.vmap(partial(gradient, run))(*members)

    found = [results(run, model, rows, members) for run in (side_by_side, in_turn)]
    for one, other in zip(*map(jax.tree.leaves, found), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def test_each_expert_chooses_its_likeliest_tokens():
    router = ExpertChoice(8, 4, top_k=2, rngs=nnx.Rngs(0))
    logits, routing = router(X)
    np.testing.assert_array_equal(jnp.bincount(routing.expert, length=4), [12, 12, 12, 12])
    probabilities = jax.nn.softmax(logits)
    for expert in range(4):
        mine = routing.expert == expert
        taken = np.asarray(routing.tokens_of(jnp.arange(48))[mine])
        assert len(set(taken)) == 12
        others = np.setdiff1d(np.arange(24), taken)
        assert probabilities[taken, expert].min() >= probabilities[others, expert].max()


@pytest.mark.parametrize("capacity_factor", [1.0, None])
def test_expert_choice_by_hand(capacity_factor):
    model = mixture(router=ExpertChoice, capacity_factor=capacity_factor)
    _, routing = model.router(X)
    expected = np.zeros((24, 8), np.float32)
    for choice, (expert, weight) in enumerate(zip(routing.expert, routing.weight, strict=True)):
        token = int(routing.tokens_of(jnp.asarray(choice)))
        expected[token] += weight * expert_of(model, int(expert))(X[token])
    np.testing.assert_allclose(model(X), expected, rtol=1e-5, atol=1e-5)


def test_where_experts_choose_the_drops_are_the_tokens_that_none_took():
    _, routing = ExpertChoice(8, 4, top_k=1, rngs=nnx.Rngs(0))(X)
    left_out = np.setdiff1d(np.arange(24), np.asarray(routing.token))
    assert len(left_out) > 0
    assert routing.dropped(jnp.ones(24, bool)) == pytest.approx(len(left_out) / 24)


def test_shared_experts_are_added_to_the_routed_ones():
    """Alone where the routed ones are zero, and on top of them where they are not."""
    model = mixture(shared=2)
    shared = jax.vmap(lambda expert: expert(X))(model.shared_expert).sum(axis=0)
    routed = mixture(shared=0)
    np.testing.assert_allclose(model(X), routed(X) + shared, rtol=1e-5, atol=1e-5)
    model.expert.kernel[...] = jnp.zeros_like(model.expert.kernel[...])
    np.testing.assert_array_equal(model(X), shared)


def test_the_bias_decides_who_is_chosen_and_is_in_no_weight():
    router = BiasBalanced(8, 4, top_k=2, rngs=nnx.Rngs(0))
    _, plain = router(X)
    router.bias[...] = jnp.asarray([0.0, 0.0, 0.0, 2.0])  # more than any affinity
    logits, biased = router(X)
    assert (biased.expert[:24] == 3).all()
    assert not (plain.expert[:24] == 3).all()
    chosen = np.asarray(biased.expert).reshape(2, 24)
    affinities = np.asarray(jax.nn.sigmoid(logits))[np.arange(24), chosen]
    np.testing.assert_allclose(
        biased.weight.reshape(2, 24), affinities / affinities.sum(axis=0), rtol=1e-6
    )


def test_affinities_too_small_for_a_number_still_give_weights():
    router = BiasBalanced(8, 4, top_k=2, rngs=nnx.Rngs(0))
    router.score.kernel[...] = jnp.full((8, 4), -1000.0)
    _, routing = router(jnp.ones((3, 8)))
    np.testing.assert_allclose(routing.weight, 0.5)
    np.testing.assert_allclose(routing.probabilities, 0.25)


def test_the_bias_reports_the_sign_of_the_load_error():
    """DeepSeek-V3's update, past the gradient of the loss: with it or without, the same."""
    model = mixture(router=partial(BiasBalanced, rate=0.25))
    _, routing = model.router(X)

    def of_bias(bias, scale):
        states, rest = partition(model, Buffer)
        states.router.bias = bias
        return scale * jnp.sum(combine(states, rest)(X))

    share = np.bincount(np.asarray(routing.expert), minlength=4) / 48
    for scale in (0.0, 1.0):
        told = jax.grad(of_bias)(model.router.bias, scale)
        np.testing.assert_array_equal(told[...], 0.25 * np.sign(0.25 - share))


@pytest.mark.parametrize("capacity_factor", [1.0, None])
def test_statistics_by_hand(capacity_factor):
    """In one stacked call for each of three blocks that are called twice, the mean over calls."""
    model = mixture(capacity_factor=capacity_factor)
    logits, routing = model.router(X)
    loads = np.bincount(np.asarray(routing.expert), minlength=4)
    probabilities = np.asarray(jax.nn.softmax(logits), float)
    expected = {
        "routing_load": loads.max() / 12,
        "routing_drops": 0 if capacity_factor is None else np.maximum(loads - 12, 0).sum() / 48,
        "routing_entropy": -(probabilities * np.log(probabilities)).sum(axis=1).mean(),
    }
    assert 0 < expected["routing_entropy"] < np.log(4)
    assert expected["routing_load"] > 1

    def reported(run, model):
        states, rest = partition(model, Buffer)
        told = jax.grad(lambda states: jnp.sum(run(combine(states, rest))))(states)
        return told, means(told)

    _, found = reported(lambda model: model(X), model)
    assert found == pytest.approx(expected, rel=1e-5)

    def twice_each(model):
        def call(total, model):
            return total + model(X).sum() + model(X).sum(), None

        return jax.lax.scan(call, 0.0, model)[0]

    three = jax.tree.map(lambda leaf: jnp.stack([leaf] * 3), model)
    told, found = reported(twice_each, three)
    assert found == pytest.approx(expected, rel=1e-5)
    np.testing.assert_array_equal(told.load[..., 1], [2, 2, 2])


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


def best(logits: jax.Array, top_k: int) -> Routing:
    weights, experts = jax.lax.top_k(logits, top_k)
    return token_choice(weights, experts, jax.nn.softmax(logits))


def test_balance_loss_is_1_when_even_and_the_number_of_experts_when_all_go_to_one():
    even = 40 * jnp.tile(jnp.eye(4), (2, 1))
    assert balance_loss(best(even, 1)) == pytest.approx(1)
    one_sided = jnp.tile(jnp.asarray([40.0, 0, 0, 0]), (8, 1))
    assert balance_loss(best(one_sided, 1)) == pytest.approx(4)


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
    """Through the nested layer too: the same as adding both losses to the caller's by hand."""
    model = mixture(balance_weight=0.3, router_z_weight=0.2, capacity_factor=4.0)
    silent = mixture(balance_weight=0.0, router_z_weight=0.0, capacity_factor=4.0)

    def attached(parameters, rest):
        return jnp.mean(combine(parameters, rest)(X) ** 2)

    def added(parameters, rest):
        network = combine(parameters, rest)
        logits, routing = network.router(X)
        losses = 0.3 * balance_loss(routing)
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
        ({"shared": -1}, "shared must be at least 0"),
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

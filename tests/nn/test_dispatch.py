"""Plans of which row holds which choice, and the two ways to run blocks of rows."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from layers import drawn, normal

from smallnets.compress import in_code
from smallnets.nn.dispatch import (
    Plan,
    capacity,
    capacity_plan,
    dropless_plan,
    in_turn,
    side_by_side,
)
from smallnets.nn.linear import Affine, Dense
from smallnets.nn.mixture import Mixture
from smallnets.nn.quantised import Quantised
from smallnets.nn.routing import Routing, token_choice


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


def test_a_full_expert_drops_the_later_tokens_of_later_choices():
    @jax.jit
    def planned(experts: jax.Array) -> tuple[jax.Array, jax.Array]:
        routing = token_choice(jnp.full((4, 2), 0.5), experts, jnp.full((4, 2), 0.5))
        plan = capacity_plan(routing, experts=2, slots=2)
        return routing.tokens_of(plan.choice), plan.kept()

    # expert 0 is the first choice of three tokens
    tokens, kept = planned(np.asarray([[0, 1], [0, 1], [1, 0], [0, 1]], np.int32))
    np.testing.assert_array_equal(tokens, [[0, 1], [2, 0]])
    np.testing.assert_array_equal(kept, [1, 1, 1, 0, 1, 0, 0, 0])  # first choices first


@partial(jax.jit, static_argnames=("experts", "block"))
def dropless(chosen: jax.Array, *, experts: int, block: int) -> tuple[Routing, Plan]:
    routing = token_choice(jnp.ones((20, 2)), chosen, jnp.ones((20, experts)))
    return routing, dropless_plan(routing, experts=experts, block=block)


@pytest.mark.parametrize(("experts", "block"), [(1, 4), (3, 1), (3, 16), (8, 4), (8, 16)])
@pytest.mark.parametrize("one_sided", [False, True])
def test_a_dropless_plan_has_every_choice_in_a_block_of_its_expert(experts, block, one_sided):
    chosen = np.random.default_rng(1).integers(0, 1 if one_sided else experts, (20, 2), np.int32)
    routing, plan = jax.device_get(dropless(chosen, experts=experts, block=block))
    assert plan.kept().all()
    assert plan.choice.shape[0] == (40 + experts * (block - 1)) // block
    np.testing.assert_array_equal(plan.choice.reshape(-1)[plan.row], np.arange(40))
    np.testing.assert_array_equal(plan.expert[plan.row // block], routing.expert)


@pytest.mark.parametrize(
    ("expert", "members"),
    [
        pytest.param(Dense, False, marks=pytest.mark.slow),
        (Dense, True),
        pytest.param(
            partial(Mixture, expert=Dense, experts=2, top_k=1), True, marks=pytest.mark.slow
        ),
    ],
    ids=["alone", "members", "members of mixtures"],
)
def test_blocks_in_turn_equal_blocks_side_by_side(expert, members):
    """The two ways of the two kinds of device, and their gradients, also for members under vmap."""
    layers = drawn(partial(Mixture, 8, 8, expert=expert, experts=4, top_k=2)).expert
    rows, which = normal(6, 3, 8), np.asarray([0, 0, 2, 3, 3, 3], np.int32)
    if members:
        layers, rows = jax.tree.map(lambda leaf: np.stack([leaf, 2 * leaf]), (layers, rows))

    def results(run):
        def value(layers, rows):
            y = run(layers, rows, which)
            return jnp.sum(y**3), y

        each = jax.value_and_grad(value, argnums=(0, 1), has_aux=True)
        return jax.jit(jax.vmap(each) if members else each)(layers, rows)

    one, other = (jax.tree.leaves(results(run)) for run in (side_by_side, in_turn))
    for ours, theirs in zip(one, other, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_blocks_of_quantised_experts_pass_gradients_on_to_their_rows():
    """As a pass asks for them that looks at what goes into a model in a code."""
    affine = partial(Affine, linear=Dense)
    layers = drawn(partial(Mixture, 8, 8, expert=affine, experts=4, top_k=2)).expert
    coded = jax.jit(in_code)(layers)
    assert isinstance(coded.linear.kernel, Quantised)
    rows, which = normal(6, 3, 8), np.asarray([0, 0, 2, 3, 3, 3], np.int32)

    def value(bias, rows, run):
        experts = jax.tree.map(lambda leaf: leaf, coded)
        experts.bias = bias
        return jnp.sum(run(experts, rows, which) ** 3)

    both = jax.jit(jax.grad(value, argnums=(0, 1)), static_argnums=2)
    one, other = (jax.tree.leaves(both(coded.bias, rows, run)) for run in (side_by_side, in_turn))
    assert len(one) == 2
    for ours, theirs in zip(one, other, strict=True):
        assert np.abs(ours).max() > 0
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)

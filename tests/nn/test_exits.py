"""Exits against a plain loop over blocks, and what they cost."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from layers import at, call, drawn, normal

from smallnets.measure import flops
from smallnets.nn.attention import Attention
from smallnets.nn.exits import Exits, buckets, exit_early
from smallnets.nn.feed_forward import FeedForward
from smallnets.nn.linear import Dense
from smallnets.nn.parameter import partition
from smallnets.nn.residual import ResidualNetwork
from smallnets.nn.sharing import SharedPart, Stack
from smallnets.nn.transformer import Transformer
from smallnets.training.fit import Arrays, Fit
from smallnets.training.objective import cross_entropy, label_loss
from smallnets.training.optimizer import cosine_schedule, gradient_transformation

RESIDUAL = partial(ResidualNetwork, (8,), 5, width=16, depth=4, linear=Dense, exits=Exits)
ENCODER = partial(
    Transformer,
    (6, 2),
    5,
    width=16,
    depth=4,
    linear=Dense,
    attention=partial(Attention, head_dim=8),
    feed_forward=FeedForward,
    causal=False,
    tied=False,
    exits=Exits,
)
NETWORKS = {
    "residual": RESIDUAL,
    "shared": partial(RESIDUAL, unique=2),
    "consecutive": partial(RESIDUAL, unique=2, stack=partial(Stack, order="consecutive")),
    "relaxed": partial(RESIDUAL, unique=1, relaxation=2),
    "encoder": ENCODER,
    "shared_attention": partial(ENCODER, stack=partial(SharedPart, part="attention")),
}


def inputs(model: Any, count: int = 24) -> jax.Array:
    shape = (6, 2) if isinstance(model, Transformer) else (8,)
    return normal(count, *shape)


@jax.jit
def embed(model: Any, x: jax.Array) -> jax.Array:
    return model.embed(x)


@jax.jit
def readout(model: Any, x: jax.Array) -> jax.Array:
    return model.readout(x)


leave = jax.jit(exit_early)


def through_the_blocks(model: Any, x: jax.Array) -> list[jax.Array]:
    """What comes out of each block, one call after another."""
    states, blocks = [embed(model, x)], model.stack.calls()
    for index in range(4):
        states.append(call(at(blocks, index), states[-1]))
    return states[1:]


@pytest.mark.breadth
@pytest.mark.parametrize("name", NETWORKS)
def test_calls_are_the_stack(name: str):
    model = drawn(NETWORKS[name])
    x = inputs(model)
    expected = call(model.stack, embed(model, x))
    *_, last = through_the_blocks(model, x)
    np.testing.assert_allclose(last, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["residual", "shared_attention"])
def test_an_example_leaves_at_the_first_exit_that_is_sure(name: str):
    """As every example through every block has it, and then the first answer that is sure."""
    model = drawn(NETWORKS[name])
    x = inputs(model)
    *states, last = through_the_blocks(model, x)
    answers = [call(at(model.exits.heads, index), state) for index, state in enumerate(states)]
    answers = np.stack([*answers, readout(model, last)])
    confidences = np.asarray(jax.nn.softmax(answers).max(axis=-1))
    confidence = np.quantile(confidences[:-1], 0.7)
    sure = confidences >= confidence
    sure[-1] = True
    first = sure.argmax(axis=0)
    assert len(set(first.tolist())) > 2  # else this shows little
    logits, depth = leave(model, x, float(confidence))
    np.testing.assert_array_equal(depth, first + 1)
    expected = answers[first, np.arange(len(first))]
    np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.breadth
@pytest.mark.parametrize("count", [1, 17, 24])
def test_all_leave_at_the_end_or_at_once(count: int):
    model = drawn(RESIDUAL)
    x = inputs(model, count)
    for confidence, blocks in ((0.0, 1), (1.1, 4)):
        logits, depth = leave(model, x, confidence)
        assert depth.tolist() == [blocks] * count
    np.testing.assert_allclose(logits, call(model, x), rtol=1e-4, atol=1e-4)


def test_buckets_are_eighths_then_halves_down_to_a_few():
    assert buckets(100) == [25, 38, 50, 63, 75, 88, 100]
    assert buckets(800) == [25, 50, *range(100, 801, 100)]
    assert buckets(16) == [16]
    assert buckets(1) == [1]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["residual", "encoder"])
def test_a_forward_pass_costs_what_it_costs_without_exits(name: str):
    model, plain = drawn(NETWORKS[name]), drawn(partial(NETWORKS[name], exits=None))
    for part in ("embedding", "stack", "norm", "head"):
        setattr(plain, part, getattr(model, part))
    x = inputs(plain)
    np.testing.assert_allclose(call(model, x), call(plain, x), rtol=1e-5, atol=1e-5)
    with_exits, without = (flops.count(lambda m, x: m(x), each, x) for each in (model, plain))
    assert with_exits == without


@pytest.mark.slow
def test_the_exits_add_their_divergence_to_the_loss():
    """And the share ``joint`` of it to the blocks; at 0 they are trained as without exits."""
    model = drawn(partial(RESIDUAL, exits=partial(Exits, weight=0.7)))
    x, labels = inputs(model, 20), jnp.asarray(np.arange(20) % 5)

    def found(model):
        return label_loss(model(x), labels)

    def expected(model):
        state, states, joint = model.embed(x), [], model.exits.joint[...]
        for index in range(4):
            state = jax.tree.map(lambda leaf: leaf[index], model.stack.blocks)(state)  # noqa: B023
            states.append(state)
        logits = model.readout(state)
        target = jax.lax.stop_gradient(jax.nn.softmax(logits))
        divergences = []
        for index in range(3):
            read = joint * states[index] + (1 - joint) * jax.lax.stop_gradient(states[index])
            head = jax.tree.map(lambda leaf: leaf[index], model.exits.heads)  # noqa: B023
            answer = jax.nn.log_softmax(head(read))
            divergences.append((target * (jnp.log(target) - answer)).sum(axis=-1).mean())
        return label_loss(logits, labels) + 0.7 * sum(divergences) / 3

    gradients = [jax.jit(jax.grad(function)) for function in (found, expected)]
    for joint in (0.0, 0.5):
        model.exits.joint[...] = jnp.asarray(joint)
        leaves = (jax.tree.leaves(partition(gradient(model))[0]) for gradient in gradients)
        for one, other in zip(*leaves, strict=True):
            assert np.abs(other).max() > 0
            np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_training_teaches_the_first_exit():
    x = normal(400, 8)
    labels = np.asarray(x)[:, :5].argmax(axis=1)

    @jax.jit
    def answers(weight: float) -> jax.Array:
        model, _ = Fit(
            optimizer=partial(
                gradient_transformation,
                rule=optax.adam,
                learning_rate=1e-2,
                schedule=cosine_schedule,
            ),
            objective=cross_entropy,
            steps=120,
            batch_size=50,
            evaluations=1,
        ).run(
            partial(RESIDUAL, depth=2, exits=partial(Exits, weight=weight)),
            Arrays(x, jnp.asarray(labels)),
            {},
            seed=0,
        )
        block, head = (
            jax.tree.map(lambda leaf: leaf[0], each)
            for each in (model.stack.blocks, model.exits.heads)
        )
        return head(block(model.embed(x)))

    def error(weight: float) -> float:
        return (np.asarray(answers(weight)).argmax(axis=1) != labels).mean()

    assert error(1.0) < 0.2 < 0.5 < error(0.0)


@pytest.mark.slow
def test_exits_that_only_read_leave_the_network_as_it_is():
    x = normal(64, 8)
    train = Arrays(x, jnp.asarray(np.asarray(x)[:, :5].argmax(axis=1)))

    def losses(exits) -> jax.Array:
        _, curves = Fit(
            optimizer=partial(
                gradient_transformation,
                rule=optax.adam,
                learning_rate=1e-2,
                schedule=cosine_schedule,
            ),
            objective=cross_entropy,
            steps=20,
            batch_size=16,
            evaluations=4,
        ).run(partial(RESIDUAL, depth=2, exits=exits), train, {}, seed=0)
        return curves["train_loss"]

    plain = jax.jit(lambda: losses(None))()
    read = jax.jit(lambda joint: losses(partial(Exits, joint=joint)))
    np.testing.assert_allclose(read(0.0), plain, rtol=1e-4)
    assert np.abs(read(1.0) - plain).max() > 1e-3


def test_what_has_no_exit_says_so():
    plain = drawn(partial(RESIDUAL, exits=None))
    with pytest.raises(ValueError, match="needs a network with exits"):
        exit_early(plain, inputs(plain), 0.9)
    with pytest.raises(ValueError, match="set depth to 2 or more"):
        drawn(partial(RESIDUAL, depth=1))
    with pytest.raises(ValueError, match="choose an encoder"):
        drawn(partial(ENCODER, causal=True))

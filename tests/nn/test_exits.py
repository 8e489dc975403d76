"""Exits against a plain loop over blocks, and what they cost."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from smallnets.measure import flops
from smallnets.nn.attention import Attention
from smallnets.nn.exits import Exits, buckets, exit_early
from smallnets.nn.feed_forward import FeedForward
from smallnets.nn.linear import Dense
from smallnets.nn.parameter import partition
from smallnets.nn.residual import ResidualNetwork
from smallnets.nn.sharing import SharedPart, Stack
from smallnets.nn.transformer import Transformer
from smallnets.training.fit import Arrays, fit
from smallnets.training.objective import cross_entropy
from smallnets.training.optimizer import adamw

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


def network(name: str):
    return NETWORKS[name](rngs=nnx.Rngs(0))


def inputs(model, count: int = 100) -> jax.Array:
    shape = (6, 2) if isinstance(model, Transformer) else (8,)
    return jax.random.normal(jax.random.key(1), (count, *shape))


def at(tree, index: int):
    return jax.tree.map(lambda leaf: leaf[index], tree)


def by_hand(model, x: jax.Array, confidence: float) -> tuple[np.ndarray, np.ndarray]:
    """Every example through every block; then the answer of the first exit that is sure."""
    x = model.embed(x)
    answers = []
    for index in range(3):
        x = at(model.stack.calls(), index)(x)
        answers.append(at(model.exits.heads, index)(x))
    answers = np.stack([*answers, model.readout(at(model.stack.calls(), 3)(x))])
    sure = np.array(jax.nn.softmax(answers).max(axis=-1) >= confidence)
    sure[-1] = True
    first = sure.argmax(axis=0)
    return answers[first, np.arange(len(first))], first + 1


@pytest.mark.parametrize("name", NETWORKS)
def test_calls_are_the_stack(name: str):
    model = network(name)
    x = model.embed(inputs(model))
    expected = model.stack(x)
    for index in range(4):
        x = at(model.stack.calls(), index)(x)
    np.testing.assert_allclose(x, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_an_example_leaves_at_the_first_exit_that_is_sure(name: str):
    model = network(name)
    x = inputs(model)
    logits, depth = jax.jit(exit_early)(model, x, 0.45)
    expected, first = by_hand(model, x, 0.45)
    assert len(set(first.tolist())) > 2  # else this shows little
    np.testing.assert_array_equal(depth, first)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("confidence", "blocks"), [(1.1, 4), (0.0, 1)])
@pytest.mark.parametrize("count", [1, 17, 100])
def test_all_leave_at_the_end_or_at_once(confidence: float, blocks: int, count: int):
    model = network("residual")
    x = inputs(model, count)
    logits, depth = exit_early(model, x, confidence)
    assert depth.tolist() == [blocks] * count
    if confidence > 1:
        np.testing.assert_allclose(logits, model(x), rtol=1e-4, atol=1e-5)


def test_buckets_are_eighths_then_halves_down_to_a_few():
    assert buckets(100) == [25, 38, 50, 63, 75, 88, 100]
    assert buckets(800) == [25, 50, *range(100, 801, 100)]
    assert buckets(16) == [16]
    assert buckets(1) == [1]


@pytest.mark.parametrize("name", ["residual", "encoder"])
def test_a_forward_pass_costs_what_it_costs_without_exits(name: str):
    plain = NETWORKS[name](exits=None, rngs=nnx.Rngs(0))
    x = inputs(plain)

    def forward(model, x):
        return model(x)

    np.testing.assert_allclose(network(name)(x), plain(x), rtol=1e-5, atol=1e-5)
    assert flops.count(forward, network(name), x) == flops.count(forward, plain, x)


@pytest.mark.parametrize("joint", [0.0, 0.5])
def test_the_exits_add_their_divergence_to_the_loss(joint: float):
    """And the share ``joint`` of it to the blocks; at 0 they are trained as without exits."""
    model = RESIDUAL(exits=partial(Exits, weight=0.7, joint=joint), rngs=nnx.Rngs(0))
    x = inputs(model, 20)
    labels = jnp.arange(20) % 5

    def found(model):
        return cross_entropy(model(x), labels)

    def expected(model):
        state, states = model.embed(x), []
        for index in range(4):
            state = at(model.stack.blocks, index)(state)
            states.append(state)
        logits = model.readout(state)
        target = jax.lax.stop_gradient(jax.nn.softmax(logits))
        divergences = []
        for index in range(3):
            read = joint * states[index] + (1 - joint) * jax.lax.stop_gradient(states[index])
            answer = jax.nn.log_softmax(at(model.exits.heads, index)(read))
            divergences.append((target * (jnp.log(target) - answer)).sum(axis=-1).mean())
        return cross_entropy(logits, labels) + 0.7 * sum(divergences) / 3

    gradients = [partition(jax.grad(function)(model))[0] for function in (found, expected)]
    leaves = zip(*map(jax.tree.leaves, gradients), strict=True)
    for one, other in leaves:
        assert np.abs(other).max() > 0
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_training_teaches_the_first_exit():
    random = np.random.default_rng(0)
    x = jnp.asarray(random.normal(size=(400, 8)), jnp.float32)
    labels = x[:, :5].argmax(axis=1)

    def error(weight: float) -> float:
        model, _ = fit(
            partial(RESIDUAL, exits=partial(Exits, weight=weight)),
            Arrays(x, labels),
            {},
            seed=0,
            optimizer=partial(adamw, learning_rate=1e-2),
            loss=cross_entropy,
            steps=120,
            batch_size=50,
            evaluations=1,
        )
        logits, depth = exit_early(model, x, 0.0)
        assert set(depth.tolist()) == {1}
        return float((logits.argmax(axis=1) != labels).mean())

    assert error(1.0) < 0.2 < 0.5 < error(0.0)


def test_exits_that_only_read_leave_the_network_as_it_is():
    random = np.random.default_rng(0)
    x = random.normal(size=(64, 8)).astype(np.float32)
    train = Arrays(x, x[:, :5].argmax(axis=1).astype(np.int32))

    def losses(exits) -> jax.Array:
        options = {"seed": 0, "optimizer": partial(adamw, learning_rate=1e-2)}
        options |= {"loss": cross_entropy, "steps": 20, "batch_size": 16, "evaluations": 4}
        network = partial(RESIDUAL, exits=exits)
        return jax.jit(lambda train: fit(network, train, {}, **options)[1]["train_loss"])(train)

    np.testing.assert_allclose(losses(Exits), losses(None), rtol=1e-4)
    assert np.abs(losses(partial(Exits, joint=1.0)) - losses(None)).max() > 1e-3


def test_what_has_no_exit_says_so():
    plain = RESIDUAL(exits=None, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="needs a network with exits"):
        exit_early(plain, inputs(plain), 0.9)
    with pytest.raises(ValueError, match="set depth to 2 or more"):
        RESIDUAL(depth=1, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="choose an encoder"):
        ENCODER(causal=True, rngs=nnx.Rngs(0))

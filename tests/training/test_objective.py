"""Objectives are their formulas; a label of -1 counts neither in loss, gradient nor error."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from smallnets.tasks.metrics import scores
from smallnets.training.fit import Arrays, evaluate
from smallnets.training.objective import (
    absolute_error,
    balanced,
    binary_cross_entropy,
    cross_entropy,
    huber,
    label_loss,
    squared_error,
)

KEY = jax.random.key(0)


def sequences() -> tuple[jax.Array, jax.Array]:
    """Logits and labels of 11 sequences, of which each has another number of labels."""
    logits = jax.random.normal(jax.random.key(0), (11, 12, 7))
    labels = jax.random.randint(jax.random.key(1), (11, 12), 0, 7)
    place = jnp.arange(12)[None, :].repeat(11, axis=0)
    return logits, jnp.where(place > jnp.arange(11)[:, None].repeat(12, axis=1), labels, -1)


@pytest.mark.slow
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_the_mean_over_the_labels_that_are_given(smoothing):
    logits, labels = sequences()
    given = labels >= 0
    expected = label_loss(logits[given], labels[given], label_smoothing=smoothing)
    found = label_loss(logits, labels, label_smoothing=smoothing)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.slow
def test_no_gradient_comes_from_a_position_without_a_label():
    logits, labels = sequences()
    gradient = np.asarray(jax.grad(label_loss)(logits, labels))
    given = np.asarray(labels >= 0)
    assert not gradient[~given].any()
    assert (np.abs(gradient[given]).max(axis=-1) > 0).all()


@pytest.mark.breadth
@pytest.mark.parametrize("batch_size", [1, 4, 11])
def test_sequences_of_unequal_numbers_of_labels_count_by_their_labels(batch_size):
    logits, labels = sequences()
    inputs = jnp.repeat(jnp.arange(11)[:, None], labels.shape[1], axis=1)
    split = Arrays(inputs, labels)
    found = evaluate(lambda x: logits[x[:, 0]], split, batch_size, scores("classes"))
    value, wrong = found["loss"], found["error"]
    given = labels >= 0
    np.testing.assert_allclose(value, label_loss(logits[given], labels[given]), rtol=1e-6)
    missed = np.asarray(logits.argmax(axis=-1) != labels)[np.asarray(given)]
    np.testing.assert_allclose(wrong, missed.mean(), rtol=1e-6)


class Fixed:
    """A model whose answers are given."""

    def __init__(self, answers):
        self.answers = jnp.asarray(answers, jnp.float32)

    def __call__(self, inputs: jax.Array) -> jax.Array:
        return self.answers


def test_class_weights_weigh_each_label_by_its_class():
    logits = np.random.default_rng(0).normal(size=(6, 3))
    labels, weights = np.asarray([0, 0, 0, 0, 1, 2]), np.asarray([0.5, 2.0, 3.0])
    losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(6), labels]
    expected = (weights[labels] * losses).sum() / weights[labels].sum()
    batch = Arrays(None, jnp.asarray(labels, jnp.int32))
    found = cross_entropy(Fixed(logits), batch, KEY, class_weights=weights.tolist())
    assert found == pytest.approx(expected, rel=1e-5)
    assert balanced(labels, 4) == pytest.approx((6 / 16, 6 / 4, 6 / 4, 0))


def test_losses_of_targets_and_labels_are_their_formulas():
    random = np.random.default_rng(0)
    answers, targets = 2 * random.normal(size=(2, 50, 3))
    batch = Arrays(None, jnp.asarray(targets, jnp.float32))
    gap = np.abs(answers - targets)
    for objective, losses in (
        (squared_error, gap**2),
        (absolute_error, gap),
        (partial(huber, delta=0.7), np.where(gap <= 0.7, gap**2 / 2, 0.7 * (gap - 0.35))),
    ):
        assert objective(Fixed(answers), batch, KEY) == pytest.approx(losses.mean(), rel=1e-5)
    yes = targets > 0
    chance = 1 / (1 + np.exp(-answers))
    losses = -np.log(np.where(yes, chance, 1 - chance))
    batch = Arrays(None, jnp.asarray(yes, jnp.int32))
    found = binary_cross_entropy(Fixed(answers), batch, KEY)
    assert found == pytest.approx(losses.mean(), rel=1e-5)

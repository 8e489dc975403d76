"""A label of -1 is none: it counts neither in the loss, nor in its gradient, nor in the error."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from smallnets.tasks.metrics import scores
from smallnets.training.fit import Arrays, evaluate
from smallnets.training.objective import label_loss


def sequences() -> tuple[jax.Array, jax.Array]:
    """Logits and labels of 11 sequences, of which each has another number of labels."""
    logits = jax.random.normal(jax.random.key(0), (11, 12, 7))
    labels = jax.random.randint(jax.random.key(1), (11, 12), 0, 7)
    place = jnp.arange(12)[None, :].repeat(11, axis=0)
    return logits, jnp.where(place > jnp.arange(11)[:, None].repeat(12, axis=1), labels, -1)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_the_mean_over_the_labels_that_are_given(smoothing):
    logits, labels = sequences()
    given = labels >= 0
    expected = label_loss(logits[given], labels[given], label_smoothing=smoothing)
    found = label_loss(logits, labels, label_smoothing=smoothing)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_no_gradient_comes_from_a_position_without_a_label():
    logits, labels = sequences()
    gradient = np.asarray(jax.grad(label_loss)(logits, labels))
    given = np.asarray(labels >= 0)
    assert not gradient[~given].any()
    assert (np.abs(gradient[given]).max(axis=-1) > 0).all()


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

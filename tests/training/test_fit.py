import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from smallnets.tasks.metrics import scores
from smallnets.training.fit import Arrays, Fit, evaluate
from smallnets.training.objective import label_loss


class Sum(nnx.Module):
    """Learns by how much each example was drawn: one weight an example."""

    def __init__(self, *, rngs: nnx.Rngs):
        self.weight = nnx.Param(jnp.zeros(12))

    def __call__(self, x: jax.Array) -> jax.Array:
        return x @ self.weight[...]


def drawn(steps: int, batch_size: int) -> np.ndarray:
    """How often each of 12 examples was drawn: the sum of the one-hot inputs in the gradient."""
    arrays = Arrays(jnp.eye(12), jnp.zeros(12, int))
    model, _ = Fit(
        optimizer=lambda steps: optax.sgd(1.0),
        objective=lambda model, batch, key: -model(batch.inputs).sum(),
        steps=steps,
        batch_size=batch_size,
        evaluations=1,
    ).run(Sum, arrays, {}, seed=0)
    return np.asarray(model.weight[...])


@pytest.mark.slow
def test_an_epoch_draws_every_example_once_and_the_next_in_another_order():
    np.testing.assert_array_equal(drawn(3, 4), np.ones(12))
    np.testing.assert_array_equal(drawn(9, 4), np.full(12, 3.0))
    first, second = drawn(1, 4), drawn(4, 4) - drawn(3, 4)
    assert first.sum() == second.sum() == 4
    assert not np.array_equal(first, second)


def test_what_an_epoch_leaves_over_is_skipped():
    counts = drawn(4, 5)  # two batches of 5 an epoch
    assert counts.sum() == 20
    assert counts.max() <= 2


def test_cross_entropy_by_hand():
    logits = jnp.log(jnp.asarray([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1]]))
    labels = jnp.asarray([0, 2])
    plain = -(np.log(0.7) + np.log(0.1)) / 2
    assert label_loss(logits, labels) == pytest.approx(plain, rel=1e-6)
    target = 0.9 * np.eye(3)[[0, 2]] + 0.1 / 3
    smooth = -(target * np.asarray(logits)).sum(axis=1).mean()
    assert label_loss(logits, labels, label_smoothing=0.1) == pytest.approx(smooth, rel=1e-6)


def test_cross_entropy_of_tokens_is_the_mean_over_all_of_them():
    logits = jax.random.normal(jax.random.key(0), (3, 5, 7))
    labels = jax.random.randint(jax.random.key(1), (3, 5), 0, 7)
    flat = label_loss(logits.reshape(15, 7), labels.reshape(15), label_smoothing=0.1)
    together = label_loss(logits, labels, label_smoothing=0.1)
    np.testing.assert_allclose(together, flat, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [1, 3, 4, 8, 11, 12, 100])
def test_sequences_are_evaluated_in_batches_each_counted_once(batch_size):
    logits = jax.random.normal(jax.random.key(0), (11, 5, 7))
    labels = jax.random.randint(jax.random.key(1), (11, 5), 0, 7)
    sizes = []

    def model(rows: jax.Array) -> jax.Array:
        sizes.append(len(rows))
        return logits[rows[:, 0]]

    split = Arrays(jnp.repeat(jnp.arange(11)[:, None], 5, axis=1), labels)
    found = evaluate(model, split, batch_size, scores("classes", ("top_5_error", "perplexity")))
    np.testing.assert_allclose(found["perplexity"], np.exp(found["loss"]), rtol=1e-6)
    np.testing.assert_allclose(found["loss"], label_loss(logits, labels), rtol=1e-6)
    wrong = jnp.mean(logits.argmax(axis=-1) != labels)
    np.testing.assert_allclose(found["error"], wrong, rtol=1e-6)
    fifth = jnp.sort(logits, axis=-1)[..., -5]
    lower = jnp.take_along_axis(logits, labels[..., None], axis=-1)[..., 0] < fifth
    np.testing.assert_allclose(found["top_5_error"], lower.mean(), rtol=1e-6)
    assert set(sizes) == {min(batch_size, 11)}


@pytest.mark.breadth
@pytest.mark.parametrize("batch_size", [1, 2, 4, 9, 100])
def test_examples_are_answered_in_batches_and_scored_together(batch_size):
    answers = jax.random.normal(jax.random.key(0), (9, 3))
    labels = jnp.arange(9) % 3
    sizes = []

    def model(rows: jax.Array) -> jax.Array:
        sizes.append(len(rows))
        return answers[rows]

    found = evaluate(model, Arrays(jnp.arange(9), labels), batch_size, scores("classes", ("auc",)))
    assert set(sizes) == {min(batch_size, 9)}
    for metric in scores("classes", ("auc",)):
        expected = metric(answers, labels)
        np.testing.assert_allclose(found[metric.name], expected, rtol=1e-6)


def test_a_metric_of_all_answers_is_refused_for_text():
    split = Arrays(jnp.zeros((4, 5), int), jnp.zeros((4, 5), int))
    with pytest.raises(ValueError, match="a mean over its tokens, but auc is not"):
        evaluate(lambda x: jnp.zeros((*x.shape, 7)), split, 2, scores("classes", ("auc",)))

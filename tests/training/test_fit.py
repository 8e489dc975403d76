from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from smallnets.nn.linear import Dense
from smallnets.nn.parameter import partition
from smallnets.training.fit import Arrays, evaluate, fit
from smallnets.training.objective import cross_entropy
from smallnets.training.optimizer import adamw


class Sum(nnx.Module):
    """Learns by how much each example was drawn: one weight an example."""

    def __init__(self, *, rngs: nnx.Rngs):
        self.weight = nnx.Param(jnp.zeros(12))

    def __call__(self, x: jax.Array) -> jax.Array:
        return x @ self.weight[...]


def drawn(steps: int, batch_size: int) -> np.ndarray:
    """How often each of 12 examples was drawn: the sum of the one-hot inputs in the gradient."""
    arrays = Arrays(jnp.eye(12), jnp.zeros(12, int))
    model, _ = fit(
        Sum,
        arrays,
        {},
        seed=0,
        optimizer=lambda steps: optax.sgd(1.0),
        loss=lambda y, _: -y.sum(),
        steps=steps,
        batch_size=batch_size,
        evaluations=1,
    )
    return np.asarray(model.weight[...])


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
    assert cross_entropy(logits, labels) == pytest.approx(plain, rel=1e-6)
    target = 0.9 * np.eye(3)[[0, 2]] + 0.1 / 3
    smooth = -(target * np.asarray(logits)).sum(axis=1).mean()
    assert cross_entropy(logits, labels, label_smoothing=0.1) == pytest.approx(smooth, rel=1e-6)


def test_cross_entropy_of_tokens_is_the_mean_over_all_of_them():
    logits = jax.random.normal(jax.random.key(0), (3, 5, 7))
    labels = jax.random.randint(jax.random.key(1), (3, 5), 0, 7)
    flat = cross_entropy(logits.reshape(15, 7), labels.reshape(15), label_smoothing=0.1)
    together = cross_entropy(logits, labels, label_smoothing=0.1)
    np.testing.assert_allclose(together, flat, rtol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 3, 4, 8, 11, 12, 100])
def test_sequences_are_evaluated_in_batches_each_counted_once(batch_size):
    logits = jax.random.normal(jax.random.key(0), (11, 5, 7))
    labels = jax.random.randint(jax.random.key(1), (11, 5), 0, 7)
    sizes = []

    def model(rows: jax.Array) -> jax.Array:
        sizes.append(len(rows))
        return logits[rows]

    split = Arrays(jnp.arange(11), labels)
    value, wrong = evaluate(model, split, batch_size)
    np.testing.assert_allclose(value, cross_entropy(logits, labels), rtol=1e-6)
    np.testing.assert_allclose(wrong, jnp.mean(logits.argmax(axis=-1) != labels), rtol=1e-6)
    assert set(sizes) == {min(batch_size, 11)}


def test_labels_of_whole_examples_are_evaluated_in_one_call():
    sizes = []

    def model(rows: jax.Array) -> jax.Array:
        sizes.append(len(rows))
        return jnp.eye(3)[rows % 3]

    _, wrong = evaluate(model, Arrays(jnp.arange(9), jnp.zeros(9, int)), 2)
    assert sizes == [9]
    assert wrong == pytest.approx(2 / 3)


@pytest.fixture
def _as_optax_computes():
    """Optax raises floats to integer counts."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.mark.usefixtures("_as_optax_computes")
def test_only_matrices_are_decayed():
    class Both(nnx.Module):
        def __init__(self):
            self.map = Dense(2, 2, rngs=nnx.Rngs(0))
            self.scale = nnx.Param(jnp.ones(2))

    parameters, _ = partition(Both())
    transformation = adamw(10, learning_rate=0.1, weight_decay=0.5, warmup=0.0)
    still = jax.tree.map(jnp.zeros_like, parameters)
    updates: Any = transformation.update(still, transformation.init(parameters), parameters)[0]
    np.testing.assert_array_equal(updates.scale[...], np.zeros(2))
    np.testing.assert_allclose(
        updates.map.kernel[...], -0.1 * 0.5 * parameters.map.kernel[...], rtol=1e-6
    )


@pytest.mark.usefixtures("_as_optax_computes")
def test_the_rate_warms_up_and_falls_to_zero():
    transformation = adamw(100, learning_rate=1.0, warmup=0.1)
    parameters, _ = partition(Dense(1, 1, rngs=nnx.Rngs(0)))
    gradient = jax.tree.map(jnp.ones_like, parameters)
    state = transformation.init(parameters)
    sizes = []
    for _ in range(101):
        updates: Any = None
        updates, state = transformation.update(gradient, state, parameters)
        sizes.append(float(-updates.kernel[0, 0]))
    np.testing.assert_allclose(sizes[0], 1 / 11, rtol=1e-4)
    np.testing.assert_allclose(sizes[10], 1.0, rtol=1e-4)
    np.testing.assert_allclose(sizes[55], 0.5, rtol=1e-4)
    np.testing.assert_allclose(sizes[100], 0.0, atol=1e-6)


def test_a_warm_up_that_is_no_share_gets_one_line():
    with pytest.raises(ValueError, match="warmup must be a share"):
        adamw(100, learning_rate=1.0, warmup=1.0)

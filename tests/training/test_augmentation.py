"""Augmentations change what they say, for each example by itself, on any type of input."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from command import TINY, folders, smallnets

from smallnets.rows import load
from smallnets.training import cross_entropy, cutout, flip, mixup, shift
from smallnets.training.augmentation import augmented
from smallnets.training.fit import Arrays

KEY = jax.random.key(3)


def batch(dtype: str = "float32") -> Arrays:
    """64 images without a zero, and their numbers as labels."""
    pixels = np.arange(6 * 5 * 2).reshape(6, 5, 2) + 1
    return Arrays(jnp.asarray(np.tile(pixels, (64, 1, 1, 1)), dtype), jnp.arange(64))


@pytest.mark.breadth
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
@pytest.mark.parametrize("part", [flip, shift, cutout])
def test_shapes_types_and_labels_stay_and_examples_differ(part, dtype: str):
    before = batch(dtype)
    after = jax.jit(part)(KEY, before)
    assert after.inputs.shape == before.inputs.shape
    assert after.inputs.dtype == before.inputs.dtype
    np.testing.assert_array_equal(after.labels, before.labels)
    assert len(np.unique(np.asarray(after.inputs), axis=0)) > 1
    np.testing.assert_array_equal(part(KEY, before).inputs, after.inputs)
    assert (part(jax.random.key(4), before).inputs != after.inputs).any()


def test_a_flip_turns_half_of_the_examples_left_and_right():
    before = np.asarray(batch().inputs)
    after = np.asarray(flip(KEY, batch()).inputs)
    turned = (after != before).any(axis=(1, 2, 3))
    np.testing.assert_array_equal(after[turned], before[turned][:, :, ::-1])
    assert 16 < turned.sum() < 48  # 4 standard deviations
    assert not (np.asarray(flip(KEY, batch(), probability=0.0).inputs) != before).any()


def test_a_shift_is_a_crop_of_the_padded_example():
    before, after = (
        np.asarray(batch().inputs)[0],
        np.asarray(shift(KEY, batch(), positions=1).inputs),
    )
    padded = np.pad(before, [(1, 1), (1, 1), (0, 0)])
    crops = [padded[i : i + 6, j : j + 5] for i in range(3) for j in range(3)]
    found = {next(k for k, crop in enumerate(crops) if np.array_equal(crop, x)) for x in after}
    assert found == set(range(9))


def test_a_cutout_is_one_window_of_at_most_its_size():
    after = np.asarray(cutout(KEY, batch(), size=3).inputs)
    zero = after == 0
    assert (zero[..., 0] == zero[..., 1]).all()
    for image in zero[..., 0]:
        rows, columns = image.any(axis=1), image.any(axis=0)
        assert 2 <= rows.sum() <= 3
        assert 2 <= columns.sum() <= 3
        np.testing.assert_array_equal(image, rows[:, None] & columns[None])


def test_signals_and_several_parts():
    signals = Arrays(jnp.ones((8, 10, 1)), jnp.arange(8))
    parts = {"shift": shift, "cutout": partial(cutout, size=2)}
    after = augmented(KEY, signals, parts)
    assert after.inputs.shape == (8, 10, 1)
    alone = cutout(jax.random.fold_in(KEY, 1), shift(jax.random.fold_in(KEY, 0), signals), size=2)
    np.testing.assert_array_equal(after.inputs, alone.inputs)
    with pytest.raises(ValueError, match=r"need examples \[\*positions, channels\]"):
        augmented(KEY, Arrays(jnp.ones((8, 10)), jnp.arange(8)), parts)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_mixup_is_the_loss_against_mixed_labels(dtype: str):
    random = np.random.default_rng(0)
    weights = jnp.asarray(random.normal(size=(60, 64)), jnp.float32) / 60
    seen = []

    def model(x: jax.Array) -> jax.Array:
        seen.append(x)
        return x.reshape(len(x), -1) @ weights

    value = mixup(model, batch(dtype), KEY, objective=cross_entropy, alpha=1)
    key_lam, key_order, _ = jax.random.split(KEY, 3)
    lam = jax.random.beta(key_lam, 1.0, 1.0)
    order = np.asarray(jax.random.permutation(key_order, 64))
    labels = lam * jnp.eye(64) + (1 - lam) * jnp.eye(64)[order]
    x = batch().inputs
    np.testing.assert_allclose(seen[0], lam * x + (1 - lam) * x[order], rtol=1e-6)
    log_probabilities = jax.nn.log_softmax(model(seen[0]))
    np.testing.assert_allclose(value, -(labels * log_probabilities).sum(axis=1).mean(), rtol=1e-5)


@pytest.mark.slow
def test_a_sweep_trains_with_augmentations_and_mixup(cache, tmp_path):
    words = ["model=logistic", "+augmentation=[flip,shift]", "augmentation.flip.probability=0,0.5"]
    smallnets("-m", *words, "objective=mixup", *TINY, *folders(cache, tmp_path))
    losses = {row.metrics["train_loss"] for row in load(tmp_path)}
    assert len(losses) == 2
    assert np.isfinite(list(losses)).all()

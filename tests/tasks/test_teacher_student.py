"""Labels are the teacher's but for the stated noise, whose entropy is the lowest loss."""

import math

import numpy as np
import pytest

from smallnets.tasks.teacher_student import bayes_loss, load, teacher

NETWORK = {"dimension": 3, "width": 16, "depth": 2, "classes": 4}
COUNTS = {"train": 20_000, "validation": 0, "test": 30}


def answers(data):
    return teacher(seed=0, **NETWORK)(data.train.inputs)


def test_without_noise_every_label_is_the_teachers():
    data = load(seed=0, **NETWORK, noise=0.0, **COUNTS)
    np.testing.assert_array_equal(data.train.labels, answers(data))


def test_the_teachers_error_is_the_noise_and_the_other_classes_are_even():
    data = load(seed=0, **NETWORK, noise=0.2, **COUNTS)
    shift = (data.train.labels - answers(data)) % 4
    shares = np.bincount(shift, minlength=4) / 20_000
    expected = np.array([0.8, 0.2 / 3, 0.2 / 3, 0.2 / 3])
    assert (abs(shares - expected) < 5 * np.sqrt(expected * (1 - expected) / 20_000)).all()


@pytest.mark.parametrize("noise", [0.05, 0.2, 0.5])
def test_who_knows_teacher_and_noise_has_the_stated_loss(noise):
    data = load(seed=0, **NETWORK, noise=noise, **COUNTS)
    right = data.train.labels == answers(data)
    losses = -np.log(np.where(right, 1 - noise, noise / 3))
    stated = bayes_loss(classes=4, noise=noise)
    assert abs(losses.mean() - stated) < 5 * losses.std() / math.sqrt(20_000)


def test_the_lowest_loss_at_its_ends():
    assert bayes_loss(classes=4, noise=0) == 0
    assert bayes_loss(classes=4, noise=0.75 - 1e-12) == pytest.approx(math.log(4))


def test_points_are_standard_normal_and_no_class_is_rare():
    data = load(seed=0, **NETWORK, noise=0.0, **COUNTS)
    x = data.train.inputs
    np.testing.assert_allclose(x.mean(axis=0), 0, atol=5 / math.sqrt(20_000))
    np.testing.assert_allclose(np.cov(x.T), np.eye(3), atol=5 * math.sqrt(2 / 20_000))
    assert np.bincount(data.train.labels, minlength=4).min() > 0.05 * 20_000


def test_shapes_and_types_and_the_seed():
    one = load(seed=0, **NETWORK, noise=0.1, **COUNTS)
    again = load(seed=0, **NETWORK, noise=0.1, **COUNTS)
    other = load(seed=1, **NETWORK, noise=0.1, **COUNTS)
    assert one.outputs == 4
    assert (one.test.inputs.shape, one.test.labels.shape) == ((30, 3), (30,))
    assert (one.test.inputs.dtype, one.test.labels.dtype) == (np.float32, np.int32)
    np.testing.assert_array_equal(one.train.inputs, again.train.inputs)
    np.testing.assert_array_equal(one.train.labels, again.train.labels)
    assert (one.train.inputs != other.train.inputs).any()
    assert (one.train.inputs[:30] != one.test.inputs).any()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"noise": 0.75}, r"noise must be a share in \[0, 1 - 1 / classes\), but is 0.75 for 4"),
        ({"noise": -0.1}, "noise must be a share"),
        ({"noise": "0.1"}, "noise must be a share"),
        ({"classes": 1}, "classes must be a whole number from 2"),
        ({"dimension": 0}, "dimension must be a whole number from 1"),
        ({"width": 0}, "width must be a whole number from 1"),
        ({"validation": -1}, "validation must be a whole number from 0"),
    ],
)
def test_bad_options_get_one_line(options, said):
    with pytest.raises(ValueError, match=said) as raised:
        load(**{"seed": 0, **NETWORK, "noise": 0.1, **COUNTS, **options})
    assert "\n" not in str(raised.value)

"""Splits refuse what isn't theirs; holding out, standardising and checking do what they say."""

import math
from dataclasses import replace

import numpy as np
import pytest

from smallnets.tasks.data import Data, Split, check_whole, hold_out, standardise


def split(inputs, labels=None):
    inputs = np.asarray(inputs, np.float32)
    labels = np.zeros(len(inputs)) if labels is None else labels
    return Split(inputs, np.asarray(labels, np.int32))


def data(n=100, channels=3):
    inputs = np.random.default_rng(0).normal(2, 3, (n, 4, channels)).astype(np.float32)
    return Data(
        train=split(inputs, np.arange(n) % 5),
        validation=split(inputs[:0]),
        test=split(inputs[:7] + 1),
        outputs=5,
    )


@pytest.mark.parametrize(
    ("inputs", "labels", "message"),
    [
        (np.zeros((3, 2)), np.zeros(3, np.int32), r"inputs: float32 .* got float64 \(3, 2\)"),
        (np.zeros(3, np.float32), np.zeros(3, np.int32), r"inputs: float32 .* got float32 \(3,\)"),
        (np.zeros((3, 2), np.float32), np.zeros(3), r"labels: int32 \(3,\) .* got float64"),
        (np.zeros((3, 2), np.float32), np.zeros(4, np.int32), r"labels: .* got int32 \(4,\)"),
        (np.full((3, 2), np.nan, np.float32), np.zeros(3, np.int32), "6 values are not finite"),
    ],
)
def test_a_split_refuses_wrong_arrays(inputs, labels, message):
    with pytest.raises(ValueError, match=message):
        Split(inputs, labels)


def test_a_split_cannot_be_written():
    with pytest.raises(ValueError, match="read-only"):
        data().train.inputs[0] = 0


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        (split(np.zeros((3, 2))), split(np.zeros((3, 1))), r"test: inputs are \(1,\)"),
        (split(np.zeros((0, 2))), split(np.zeros((3, 2))), "train: holds no examples"),
        (split(np.zeros((3, 2)), [0, 1, 2]), split(np.zeros((1, 2))), "run from 0 to 2"),
        (split(np.zeros((3, 2)), [0, -1, 1]), split(np.zeros((1, 2))), "run from -1 to 1"),
    ],
)
def test_data_refuse_splits_that_differ(train, test, message):
    with pytest.raises(ValueError, match=message):
        Data(train=train, validation=split(train.inputs[:0]), test=test, outputs=2)


def test_a_token_may_lack_a_label_but_not_a_whole_example():
    def tokens(labels: list[list[int]]) -> Split:
        return Split(np.zeros((2, 3), np.int32), np.asarray(labels, np.int32))

    good = tokens([[-1, 1, -1], [0, 1, 1]])
    Data(good, good, good, outputs=2)
    none, below = tokens([[-1, -1, -1], [0, 1, 1]]), tokens([[-2, 1, 0], [0, 1, 1]])
    with pytest.raises(ValueError, match="validation: each example needs a label"):
        Data(good, none, good, outputs=2)
    with pytest.raises(ValueError, match=r"test: labels lie in \[-1, 2\), these run from -2 to 1"):
        Data(good, good, below, outputs=2)
    assert replace(good, bytes=4).bits_per_byte(math.log(2)) == 1  # 4 labels, of 1 byte each


def test_holding_out_parts_the_train_split_and_repeats():
    before = data()
    after, again = hold_out(before, 0.1), hold_out(before, 0.1)
    assert len(after.validation) == 10
    assert len(after.train) == 90
    np.testing.assert_array_equal(after.validation.inputs, again.validation.inputs)
    parts = np.concatenate([after.train.inputs, after.validation.inputs])
    np.testing.assert_array_equal(np.sort(parts, 0), np.sort(before.train.inputs, 0))
    assert after.test is before.test


def test_held_out_examples_keep_their_labels_and_are_not_the_first():
    n = 1000
    inputs = np.arange(n, dtype=np.float32)[:, None]
    before = Data(split(inputs, np.arange(n)), split(inputs[:0]), split(inputs[:1]), n)
    after = hold_out(before, 0.2)
    for part in (after.train, after.validation):
        np.testing.assert_array_equal(part.inputs[:, 0], part.labels)
        assert (np.diff(part.labels) > 0).all()  # the order is kept
    assert 400 < after.validation.labels.mean() < 600


def test_nothing_is_held_out_with_a_share_of_zero():
    assert hold_out(before := data(), 0) is before


@pytest.mark.parametrize("share", [-0.1, 1, 1.5, float("nan"), "a tenth", None, True])
def test_a_share_outside_its_range_is_refused(share):
    with pytest.raises(ValueError, match=r"validation: a share .* in \[0, 1\)"):
        hold_out(data(), share)


@pytest.mark.parametrize("share", [0.001, 0.999])
def test_a_share_that_leaves_a_side_empty_is_refused(share):
    with pytest.raises(ValueError, match="of 100 train examples"):
        hold_out(data(), share)


def test_standardising_uses_the_train_split_alone():
    before = hold_out(data(), 0.3)
    after = standardise(before)
    np.testing.assert_allclose(after.train.inputs.mean((0, 1)), 0, atol=1e-6)
    np.testing.assert_allclose(after.train.inputs.std((0, 1)), 1, atol=1e-5)
    mean, std = before.train.inputs.mean((0, 1)), before.train.inputs.std((0, 1))
    for name in ("validation", "test"):
        expected = (getattr(before, name).inputs - mean) / std
        np.testing.assert_allclose(getattr(after, name).inputs, expected, atol=1e-5)


def test_a_constant_channel_is_only_shifted():
    inputs = np.full((4, 2), 7.0, np.float32)
    inputs[:, 1] = [0, 1, 2, 3]
    after = standardise(Data(split(inputs), split(inputs[:0]), split(inputs + 1), 1))
    np.testing.assert_array_equal(after.train.inputs[:, 0], 0)
    np.testing.assert_array_equal(after.test.inputs[:, 0], 1)


def test_whole_numbers_pass():
    check_whole({"train": 1, "test": 10**9}, least=1)
    check_whole({"validation": 0}, least=0)


@pytest.mark.parametrize("value", [0, -1, 1.0, "1", None, True])
def test_what_is_no_whole_number_gets_one_line_that_names_it(value):
    with pytest.raises(ValueError, match=f"^test must be a whole number from 1, but is {value!r}:"):
        check_whole({"train": 3, "test": value}, least=1)

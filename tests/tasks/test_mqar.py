"""Keys come again, their values are the labels, and nothing else has a label."""

import numpy as np
import pytest

from smallnets.tasks.mqar import load

SMALL = {"vocabulary": 16, "length": 24, "pairs": 3, "power": 0.5}
COUNTS = {"train": 4000, "validation": 0, "test": 30}


def test_every_label_is_the_value_that_stood_with_the_key():
    split = load(seed=0, **SMALL, **COUNTS).train
    for tokens, labels in zip(split.inputs.tolist(), split.labels.tolist(), strict=True):
        keys, values = tokens[0:6:2], tokens[1:6:2]
        assert len(set(keys)) == len(set(values)) == 3
        assert set(keys) <= set(range(1, 8))
        assert set(values) <= set(range(8, 16))
        asked = {place: label for place, label in enumerate(labels) if label != -1}
        assert sorted(tokens[place] for place in asked) == sorted(keys)
        assert all(values[keys.index(tokens[place])] == label for place, label in asked.items())
        assert all(place >= 6 and place % 2 == 0 for place in asked)
        assert all(tokens[place] == 0 for place in range(6, 24) if place not in asked)


def test_all_keys_and_values_are_drawn_as_often():
    inputs = load(seed=0, **SMALL, **COUNTS).train.inputs
    for column, tokens in ((0, range(1, 8)), (4, range(1, 8)), (1, range(8, 16))):
        counts = np.bincount(inputs[:, column], minlength=16)[list(tokens)]
        expected = 4000 / len(tokens)
        assert counts.sum() == 4000
        assert (abs(counts - expected) < 5 * np.sqrt(expected)).all()


@pytest.mark.parametrize("power", [1.0, 0.5])
def test_one_key_comes_again_by_the_law_of_distances(power):
    options = {**SMALL, "pairs": 1, "length": 12, "power": power}
    asked = load(seed=0, **options, **COUNTS).train.labels.argmax(axis=1)
    weights = np.arange(1, 6) ** (power - 1)
    expected = 4000 * weights / weights.sum()
    found = np.bincount(asked, minlength=12)[2::2]
    assert (abs(found - expected) < 5 * np.sqrt(expected)).all()


def test_any_pair_is_as_likely_to_be_asked_next():
    split = load(seed=0, **{**SMALL, "power": 0.01}, **COUNTS).train
    first = split.inputs[np.arange(4000), (split.labels >= 0).argmax(axis=1)]
    pair = (split.inputs[:, 0:6:2] == first[:, None]).argmax(axis=1)
    assert (abs(np.bincount(pair, minlength=3) - 4000 / 3) < 5 * np.sqrt(4000 / 3)).all()


def test_shapes_and_types_and_the_seed():
    one = load(seed=0, **SMALL, **COUNTS)
    again, other = load(seed=0, **SMALL, **COUNTS), load(seed=1, **SMALL, **COUNTS)
    assert one.outputs == 16
    assert (one.test.inputs.shape, one.test.labels.shape) == ((30, 24), (30, 24))
    assert one.test.inputs.dtype == one.test.labels.dtype == np.int32
    np.testing.assert_array_equal(one.train.inputs, again.train.inputs)
    np.testing.assert_array_equal(one.train.labels, again.train.labels)
    assert (one.train.inputs != other.train.inputs).any()
    assert (one.train.inputs[:30] != one.test.inputs).any()


def test_the_tightest_options_are_taken():
    split = load(seed=0, **{**SMALL, "length": 12, "vocabulary": 8}, **COUNTS).train
    assert (split.inputs[:, 6::2] > 0).all()
    assert ((split.labels >= 0).sum(axis=1) == 3).all()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"length": 10}, "at least 4 pairs, .* but is 10 for pairs=3: choose 12 or more"),
        ({"length": 25}, "length must be even"),
        ({"vocabulary": 6}, "hold a gap and 3 keys in its lower half, but is 6: choose 8 or more"),
        ({"vocabulary": 17}, "vocabulary must be even"),
        ({"pairs": 0}, "pairs must be a whole number from 1"),
        ({"power": 0}, "power must be above 0"),
        ({"power": "1"}, "power must be above 0"),
        ({"test": 0}, "test must be a whole number from 1"),
    ],
)
def test_bad_options_get_one_line(options, said):
    with pytest.raises(ValueError, match=said) as raised:
        load(**{"seed": 0, **SMALL, **COUNTS, **options})
    assert "\n" not in str(raised.value)

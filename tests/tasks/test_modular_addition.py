"""Every pair of the table lies in one split, with its sum."""

import numpy as np
import pytest

from smallnets.tasks.modular_addition import load


@pytest.mark.parametrize("modulus", [2, 7, 12])
def test_the_splits_are_the_whole_table_each_pair_once(modulus):
    data = load(seed=0, modulus=modulus, train=0.5, validation=0.0)
    inputs = np.concatenate([data.train.inputs, data.test.inputs])
    labels = np.concatenate([data.train.labels, data.test.labels])
    assert inputs.shape == (modulus**2, 2, modulus)
    assert inputs.dtype == np.float32
    np.testing.assert_array_equal(np.sort(inputs)[..., :-1], 0)
    np.testing.assert_array_equal(inputs.sum(axis=-1), 1)
    a, b = inputs.argmax(axis=-1).T
    assert len(set(zip(a.tolist(), b.tolist(), strict=True))) == modulus**2
    np.testing.assert_array_equal(labels, (a + b) % modulus)
    assert data.outputs == modulus


def test_the_shares_are_kept_and_depend_on_the_seed():
    one = load(seed=0, modulus=20, train=0.3, validation=0.1)
    again = load(seed=0, modulus=20, train=0.3, validation=0.1)
    other = load(seed=1, modulus=20, train=0.3, validation=0.1)
    assert [len(each) for each in (one.train, one.validation, one.test)] == [120, 40, 240]
    np.testing.assert_array_equal(one.train.inputs, again.train.inputs)
    assert (one.train.inputs != other.train.inputs).any()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"modulus": 1}, "modulus must be a whole number from 2"),
        ({"modulus": 7.0}, "modulus must be a whole number from 2"),
        ({"train": 0}, "train must be a share"),
        ({"train": 1.0}, "train must be a share"),
        ({"modulus": 8, "train": 0.5, "validation": 0.5}, "32 and 32 of 64 leave 0 for the test"),
        ({"train": 0.9, "validation": 0.2}, "44 and 10 of 49 leave -5 for the test"),
        ({"train": 0.001}, "0 and 5 of 49 leave"),
        ({"validation": 1}, "validation: a share"),
    ],
)
def test_bad_options_get_one_line(options, said):
    with pytest.raises(ValueError, match=said) as raised:
        load(**{"seed": 0, "modulus": 7, "train": 0.5, "validation": 0.1, **options})
    assert "\n" not in str(raised.value)

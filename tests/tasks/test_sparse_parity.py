"""Labels are parities of their subtask's bits, and the stated frequencies and losses hold."""

import math

import numpy as np
import pytest

from smallnets.tasks.sparse_parity import frequencies, load, loss_of_rest, subsets

SMALL = {"subtasks": 5, "bits": 8, "parity_bits": 3, "alpha": 0.5}
COUNTS = {"train": 20_000, "validation": 0, "test": 30}


def test_every_label_is_the_parity_of_its_subtasks_bits():
    split = load(seed=0, **SMALL, **COUNTS).train
    control, x = split.inputs[:, :5], split.inputs[:, 5:]
    np.testing.assert_array_equal(control.sum(axis=1), 1)
    assert set(np.unique(split.inputs)) == {0.0, 1.0}
    sets = subsets(seed=0, subtasks=5, bits=8, parity_bits=3)
    parities = np.stack([x[:, each].sum(axis=1) % 2 for each in sets], axis=1)
    np.testing.assert_array_equal(split.labels, parities[control == 1])


def test_subtasks_come_with_their_frequencies():
    control = load(seed=0, **SMALL, **COUNTS).train.inputs[:, :5]
    shares = frequencies(subtasks=5, alpha=0.5)
    assert shares.sum() == pytest.approx(1)
    assert shares[0] / shares[3] == pytest.approx(4**1.5)
    deviation = np.sqrt(shares * (1 - shares) / 20_000)
    assert (abs(control.mean(axis=0) - shares) < 5 * deviation).all()


def test_one_bit_less_says_nothing_about_the_label():
    """So chance is ln 2, whatever the network: each bit and pair of bits leaves the label even."""
    split = load(seed=0, **{**SMALL, "subtasks": 1, "bits": 3}, **COUNTS).train
    x = split.inputs[:, 1:]
    for columns in ([0], [1], [2], [0, 1], [0, 2], [1, 2]):
        agree = (x[:, columns].sum(axis=1) % 2 == split.labels).mean()
        assert abs(agree - 0.5) < 5 * 0.5 / math.sqrt(20_000)


def test_who_has_learned_some_subtasks_has_the_stated_loss():
    """Half a chance on the others and none wrong on these, as the sample has it."""
    control = load(seed=0, **SMALL, **COUNTS).train.inputs[:, :5]
    for learned in range(6):
        sampled = math.log(2) * control[:, learned:].sum(axis=1).mean()
        stated = loss_of_rest(learned, subtasks=5, alpha=0.5)
        assert abs(sampled - stated) < 5 * math.log(2) * 0.5 / math.sqrt(20_000)
    assert loss_of_rest(0, subtasks=5, alpha=0.5) == pytest.approx(math.log(2))
    assert loss_of_rest(5, subtasks=5, alpha=0.5) == 0


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [0.4, 1.0])
def test_the_loss_of_the_rest_falls_as_the_stated_power(alpha):
    low, high = (loss_of_rest(n, subtasks=10**7, alpha=alpha) for n in (100, 1000))
    exponent = math.log10(low / high)
    end = loss_of_rest(10**6, subtasks=10**7, alpha=alpha) / high  # the list is not endless
    assert exponent == pytest.approx(alpha, abs=0.01 + end)
    assert exponent > alpha - 0.01


def test_shapes_and_types_and_the_seed():
    one = load(seed=0, **SMALL, **COUNTS)
    again, other = load(seed=0, **SMALL, **COUNTS), load(seed=1, **SMALL, **COUNTS)
    assert one.outputs == 2
    assert (one.test.inputs.shape, one.test.labels.shape) == ((30, 13), (30,))
    assert (one.test.inputs.dtype, one.test.labels.dtype) == (np.float32, np.int32)
    np.testing.assert_array_equal(one.train.inputs, again.train.inputs)
    assert (one.train.inputs != other.train.inputs).any()
    assert (one.train.inputs[:30] != one.test.inputs).any()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"parity_bits": 9}, "parity_bits must not exceed bits, but are 9 of 8"),
        ({"parity_bits": 0}, "parity_bits must be a whole number from 1"),
        ({"subtasks": 0}, "subtasks must be a whole number from 1"),
        ({"alpha": 0}, "alpha must be a number above 0"),
        ({"alpha": math.nan}, "alpha must be a number above 0"),
        ({"train": True}, "train must be a whole number from 1"),
    ],
)
def test_bad_options_get_one_line(options, said):
    with pytest.raises(ValueError, match=said) as raised:
        load(**{"seed": 0, **SMALL, **COUNTS, **options})
    assert "\n" not in str(raised.value)

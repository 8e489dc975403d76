"""Sentences follow the grammar, and the entropy of the formula is that of the distribution."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest

from smallnets.tasks.random_hierarchy import bayes_loss, entropy, grammar, load, sentences

SMALL = {"symbols": 3, "rules": 2, "branches": 2, "depth": 2}
COUNTS = {"train": 50, "validation": 0, "test": 20}


def every_sentence(rights: np.ndarray) -> Counter[tuple[int, ...]]:
    """The probability of each sentence, by going through every derivation."""
    _, symbols, rules, _ = rights.shape
    chances = Counter({(start,): 1 / symbols for start in range(symbols)})
    for level in rights:
        longer = Counter()
        for tokens, chance in chances.items():
            for choices in itertools.product(range(rules), repeat=len(tokens)):
                made = tuple(
                    int(token)
                    for left, rule in zip(tokens, choices, strict=True)
                    for token in level[left, rule]
                )
                longer[made] += chance / rules ** len(tokens)
        chances = longer
    return chances


def prefixes(chances: Counter[tuple[int, ...]], length: int) -> Counter[tuple[int, ...]]:
    shorter = Counter()
    for tokens, chance in chances.items():
        shorter[tokens[:length]] += chance
    return shorter


def nats(chances: Counter[tuple[int, ...]]) -> float:
    return -sum(chance * math.log(chance) for chance in chances.values())


@pytest.mark.parametrize(
    "options",
    [
        SMALL,
        {**SMALL, "symbols": 4, "rules": 3},
        {**SMALL, "branches": 3, "rules": 4},
        {**SMALL, "rules": 1, "depth": 3},
        {**SMALL, "symbols": 2, "depth": 3},  # every string of 8 is a sentence
    ],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_the_entropies_are_those_of_the_whole_distribution(options, seed):
    chances = every_sentence(grammar(seed=seed, **options))
    length = options["branches"] ** options["depth"]
    assert entropy(**options) == pytest.approx(nats(chances), rel=1e-12)
    given = [nats(prefixes(chances, t + 1)) - nats(prefixes(chances, t)) for t in range(1, length)]
    assert bayes_loss(seed=seed, **options) == pytest.approx(np.mean(given), rel=1e-12, abs=1e-12)


def test_the_best_predictor_has_the_stated_loss_on_a_sample():
    """Its log-likelihood on what was drawn, within 5 standard errors."""
    data = load(seed=3, **SMALL, train=20_000, validation=0, test=1)
    chances = every_sentence(grammar(seed=3, **SMALL))
    whole = np.column_stack([data.train.inputs, data.train.labels[:, -1]]).tolist()
    first = prefixes(chances, 1)
    losses = [-math.log(chances[tuple(each)] / first[(each[0],)]) / 3 for each in whole]
    error = np.std(losses) / math.sqrt(len(losses))
    assert abs(np.mean(losses) - bayes_loss(seed=3, **SMALL)) < 5 * error
    assert error < 0.01


def test_every_sentence_comes_as_often_as_it_should():
    rights = grammar(seed=0, **SMALL)
    chances = every_sentence(rights)
    drawn = Counter(map(tuple, sentences(rights, 24_000, np.random.default_rng(0)).tolist()))
    assert set(drawn) == set(chances)
    assert len(chances) == 3 * 2**3
    assert all(abs(drawn[each] - 1000) < 5 * math.sqrt(1000) for each in chances)


def test_no_two_rules_have_one_right_hand_side():
    rights = grammar(seed=0, symbols=5, rules=5, branches=2, depth=3)
    for level in rights.reshape(3, 25, 2):
        assert len(np.unique(level, axis=0)) == 25
    assert rights.min() == 0
    assert rights.max() == 4
    assert len(np.unique(rights.reshape(3, -1), axis=0)) == 3  # another grammar on each level


def test_labels_are_the_next_tokens_and_all_depends_on_the_seed():
    one = load(seed=0, **SMALL, **COUNTS)
    again, other = load(seed=0, **SMALL, **COUNTS), load(seed=1, **SMALL, **COUNTS)
    np.testing.assert_array_equal(one.train.inputs[:, 1:], one.train.labels[:, :-1])
    assert one.outputs == 3
    assert (one.train.inputs.shape, one.test.labels.shape) == ((50, 3), (20, 3))
    assert len(one.validation) == 0
    np.testing.assert_array_equal(one.train.inputs, again.train.inputs)
    assert (one.train.inputs != other.train.inputs).any()
    assert (one.train.inputs[:20] != one.test.inputs).any()


def test_more_examples_begin_with_the_same():
    few, more = load(seed=0, **SMALL, **COUNTS), load(seed=0, **SMALL, **{**COUNTS, "train": 60})
    np.testing.assert_array_equal(few.test.inputs, more.test.inputs)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rules": 4}, r"rules must not exceed symbols\^\(branches - 1\).* but are 4 for 3\^1"),
        ({"rules": 0}, "rules must be a whole number from 1"),
        ({"symbols": 1}, "symbols must be a whole number from 2"),
        ({"branches": 1}, "branches must be a whole number from 2"),
        ({"depth": 1.5}, "depth must be a whole number from 1"),
        ({"train": 0}, "train must be a whole number from 1"),
        ({"seed": -1}, "seed must be a whole number from 0"),
        ({"symbols": 2**20, "branches": 4}, r"must be below 2\^63"),
    ],
)
def test_bad_options_get_one_line(options, said):
    with pytest.raises(ValueError, match=said) as raised:
        load(**{"seed": 0, **SMALL, **COUNTS, **options})
    assert "\n" not in str(raised.value)

"""Multi-query associative recall (MQAR): which value stood with this key, earlier in a sequence?"""

import numpy as np

from smallnets.tasks.data import Data, Split, check_whole
from smallnets.tasks.preparation import Preparation
from smallnets.tasks.room import check_room


def load(
    *,
    seed: int,
    vocabulary: int,
    length: int,
    pairs: int,
    power: float,
    train: int,
    validation: int,
    test: int,
) -> Data:
    """Sequences ``k v k v ... 0 k 0 0 0 k 0 ...``: keys with their values, then each key once more.

    ``inputs[n, T]`` are tokens, T = ``length``; ``labels[n, T]`` are -1, which is none, but for
    those ``pairs`` positions behind the first 2 pairs where a key comes again: there the label is
    its value. Token 0 fills the gaps, keys are the tokens from 1 and values those from
    ``vocabulary`` / 2, both drawn evenly without repeats. The i-th place behind the pairs (every
    second position) asks with a weight i^(power - 1), also without repeats, and for each pair as
    likely as for any other; so most keys come again soon. ``train``, ``validation`` and ``test``
    count independent sequences. They are drawn at load, a million tokens in less than a second: a
    cache would not pay.

    **The truth**: loss and error 0, the rule is exact. A network that knows which values stood
    there but not with which key has at best the loss ln(pairs) and the error 1 - 1 / pairs; one
    that knows the tokens of values alone ln(vocabulary / 2) and 1 - 2 / vocabulary.

    Source: Arora et al. 2023, arXiv:2312.04927, section 4 and algorithm 1. Raises ValueError for a
    length that 4 pairs exceed, a vocabulary without keys enough, odd numbers for either, a
    power that is not above 0, and sequences that do not fit into memory.
    """
    check_whole({"seed": seed, "validation": validation}, least=0)
    check_whole({"pairs": pairs, "train": train, "test": test}, least=1)
    check_whole({"length": length, "vocabulary": vocabulary}, least=1)
    if length % 2 or length < 4 * pairs:
        raise ValueError(
            f"length must be even and at least 4 pairs, a key and a value and later a question and "
            f"a gap for each, but is {length} for pairs={pairs}: choose {4 * pairs} or more"
        )
    if vocabulary % 2 or vocabulary < 2 * (pairs + 1):
        raise ValueError(
            f"vocabulary must be even and hold a gap and {pairs} keys in its lower half, but is "
            f"{vocabulary}: choose {2 * (pairs + 1)} or more"
        )
    if not isinstance(power, int | float) or not power > 0:
        raise ValueError(f"power must be above 0, but is {power!r}: 1 asks at even distances")
    check_room(
        sequences=(train + validation + test, length, 8),
        drawing=(max(train, validation, test), max(vocabulary, length), 8),
    )

    def split(place: int, count: int) -> Split:
        draw = np.random.default_rng([seed, place])
        return Split(*_sequences(draw, count, vocabulary, length, pairs, power))

    splits = (split(place, count) for place, count in enumerate((train, validation, test)))
    return Data(*splits, outputs=vocabulary, preparation=Preparation(dtype="int32"))


def _sequences(
    draw: np.random.Generator, count: int, vocabulary: int, length: int, pairs: int, power: float
) -> tuple[np.ndarray, np.ndarray]:
    half = vocabulary // 2
    even = np.ones(half)
    keys = 1 + _without_repeats(draw, even[1:], count, pairs)
    values = half + _without_repeats(draw, even, count, pairs)
    places = np.arange(1, length // 2 - pairs + 1, dtype=float)
    asked = 2 * pairs + 2 * _without_repeats(draw, places ** (power - 1), count, pairs)
    asked = draw.permuted(asked, axis=1)  # the first drawn are the nearest, and any pair may be
    inputs = np.zeros((count, length), np.int32)
    inputs[:, 0 : 2 * pairs : 2], inputs[:, 1 : 2 * pairs : 2] = keys, values
    np.put_along_axis(inputs, asked, keys.astype(np.int32), axis=1)
    labels = np.full((count, length), -1, np.int32)
    np.put_along_axis(labels, asked, values.astype(np.int32), axis=1)
    return inputs, labels


def _without_repeats(
    draw: np.random.Generator, weights: np.ndarray, count: int, size: int
) -> np.ndarray:
    """``count`` times ``size`` places, one after another without repeats, by their weights.

    The first of independent exponential clocks of these rates are such places (Efraimidis &
    Spirakis 2006).
    """
    clocks = draw.exponential(size=(count, len(weights))) / weights
    return clocks.argsort(axis=1)[:, :size]

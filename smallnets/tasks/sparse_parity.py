"""Multitask sparse parity: many small problems, each rarer than the one before it."""

import math

import numpy as np

from smallnets.tasks.data import Data, Split, check_whole
from smallnets.tasks.room import check_room


def load(
    *,
    seed: int,
    subtasks: int,
    bits: int,
    parity_bits: int,
    alpha: float,
    train: int,
    validation: int,
    test: int,
) -> Data:
    """The parity of some bits, of which others say which: label = sum of x_j for j in S_i, mod 2.

    ``inputs[n, subtasks + bits]`` (float32 0 or 1) are control bits, of which the i-th alone is 1,
    and ``bits`` even random bits x. The set S_i of ``parity_bits`` of them belongs to subtask i and
    is drawn by ``seed``; subtask i = 1, 2, ... comes with the probability :func:`frequencies`.
    ``labels[n]``, 2 classes. ``train``, ``validation`` and ``test`` count independent examples.
    They are drawn at load, 100,000 of 150 bits in half a second: a cache would not pay.

    **The truth**: loss and error 0, the rule is exact; chance is ln 2 and 1/2, and a subtask is as
    good as chance until all of its bits are found, so that a network that has learned the n most
    frequent ones has the loss :func:`loss_of_rest`. If the number that it can learn grows as its
    parameters N, or as the number D of its examples allows, theory expects falling power laws
    N^-alpha and D^(-alpha / (1 + alpha)), up to the end of the list of subtasks.

    Source: Michaud et al. 2023, arXiv:2303.13506, sections 2 and 3. Raises ValueError for counts
    below 1, more parity bits than bits, an alpha that is not above 0, and
    examples that do not fit into memory.
    """
    check_whole({"seed": seed, "validation": validation}, least=0)
    check_whole({"bits": bits, "parity_bits": parity_bits, "train": train, "test": test}, least=1)
    if parity_bits > bits:
        raise ValueError(
            f"parity_bits must not exceed bits, but are {parity_bits} of {bits}: lower them"
        )
    check_whole({"subtasks": subtasks}, least=1)
    check_room(
        examples=(train + validation + test, subtasks + bits, 4),
        bits=(max(train, validation, test), bits, 2),
        subtasks=(subtasks, bits, 16),
    )
    shares = frequencies(subtasks=subtasks, alpha=alpha)
    sets = subsets(seed=seed, subtasks=subtasks, bits=bits, parity_bits=parity_bits)

    def split(place: int, count: int) -> Split:
        draw = np.random.default_rng([seed, 1, place])
        subtask = draw.choice(subtasks, size=count, p=shares)
        x = draw.integers(2, size=(count, bits), dtype=np.int8)
        parity = np.take_along_axis(x, sets[subtask], axis=1).sum(axis=1) % 2
        inputs = np.zeros((count, subtasks + bits), np.float32)
        inputs[np.arange(count), subtask] = 1
        inputs[:, subtasks:] = x
        return Split(inputs, parity.astype(np.int32))

    splits = (split(place, count) for place, count in enumerate((train, validation, test)))
    return Data(*splits, outputs=2)


def subsets(*, seed: int, subtasks: int, bits: int, parity_bits: int) -> np.ndarray:
    """The bits that each subtask adds up, ``[subtasks, parity_bits]``; no bit twice in one."""
    draw = np.random.default_rng([seed, 0])
    return draw.random((subtasks, bits)).argsort(axis=1)[:, :parity_bits]


def frequencies(*, subtasks: int, alpha: float) -> np.ndarray:
    """p_i proportional to i^-(1 + alpha) for i = 1 .. ``subtasks``, adding up to 1.

    Raises ValueError for fewer than one subtask and an alpha that is not above 0.
    """
    check_whole({"subtasks": subtasks}, least=1)
    if not isinstance(alpha, int | float) or not 0 < alpha < math.inf:
        raise ValueError(f"alpha must be a number above 0, but is {alpha!r}: 0.4 is the paper's")
    shares = np.arange(1, subtasks + 1, dtype=float) ** -(1 + alpha)
    return shares / shares.sum()


def loss_of_rest(learned: int, *, subtasks: int, alpha: float) -> float:
    """The loss in nats of who has learned the first ``learned`` subtasks: ln 2 sum_{i > n} p_i.

    Far from the end of the list it falls as n^-alpha. Raises as :func:`frequencies`.
    """
    return math.log(2) * float(frequencies(subtasks=subtasks, alpha=alpha)[learned:].sum())

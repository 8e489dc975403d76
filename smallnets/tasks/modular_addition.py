"""Modular addition: some of the table of (a + b) mod p is for training, the rest for the test."""

import numpy as np

from smallnets.tasks.data import Data, Split, check_share, check_whole
from smallnets.tasks.room import check_room


def load(*, seed: int, modulus: int, train: float, validation: float) -> Data:
    """All pairs of numbers below p = ``modulus`` and their sum, label = (a + b) mod p.

    ``inputs[n, 2, p]`` are a and b, each as one float32 of p that is 1: a dense layer of it is an
    embedding, so that networks of vectors and of sequences read the same. ``labels[n]``, p classes.
    Of the p^2 pairs the share ``train`` is for training, the share ``validation`` for validation
    and the rest for the test, parted by ``seed``. (a, b) and (b, a) are two pairs, and may lie on
    either side.

    **The truth**: loss and error 0, the rule is exact; chance is ln(p) and 1 - 1/p. Networks come
    to it long after they know the train pairs by heart, if ever: it takes thousands of steps and a
    strong weight decay.

    Source: Power et al. 2022, arXiv:2201.02177 (p = 97); Nanda et al. 2023, arXiv:2301.05217 (p =
    113, train 0.3). Raises ValueError for a modulus below 2, for one whose pairs do not fit into
    memory, and for shares that leave the train or the test split without a pair.
    """
    check_whole({"seed": seed}, least=0)
    check_whole({"modulus": modulus}, least=2)
    check_share(validation)
    check_room(pairs=(modulus, modulus, 2 * modulus + 8, 4))
    pairs = modulus**2
    if not isinstance(train, int | float) or not 0 < train < 1:
        raise ValueError(f"train must be a share of the pairs in (0, 1), but is {train!r}")
    trained, held = round(train * pairs), round(validation * pairs)
    if not 0 < trained < pairs - held:
        raise ValueError(
            f"train and validation must leave pairs for all splits, but {trained} and {held} of "
            f"{pairs} leave {pairs - held - trained} for the test: choose other shares"
        )
    a, b = np.divmod(np.random.default_rng(seed).permutation(pairs), modulus)
    one_hot = np.eye(modulus, dtype=np.float32)[np.stack([a, b], axis=1)]
    labels = ((a + b) % modulus).astype(np.int32)
    ends = np.cumsum([trained, held])
    splits = zip(np.split(one_hot, ends), np.split(labels, ends), strict=True)
    return Data(*(Split(*split) for split in splits), outputs=modulus)

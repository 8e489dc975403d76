"""Any classification data set that TFDS has prepared on this machine or another."""

import functools
from pathlib import Path

from smallnets.tasks.data import Data, check_share, hold_out, standardise
from smallnets.tasks.read import read


@functools.lru_cache(maxsize=4)
def load(
    *,
    directory: str,
    cache: str,
    validation: float,
    inputs: str | None = None,
    labels: str | None = None,
    train: str = "train",
    test: str = "test",
) -> Data:
    """The TFDS data set in ``directory``, standardised channel by channel by the train split.

    ``directory`` is the folder of one version, written as array_record: the one that holds
    ``dataset_info.json``. ``inputs`` and ``labels`` name its features (None: its supervised keys,
    or else ``image`` and ``label``), ``train`` and ``test`` its splits or slices of them. The
    share ``validation`` of the train split is held out. The last axis of the inputs is taken for
    the channels. All examples are held in memory.

    Raises ValueError for a share outside ``[0, 1)`` and as ``read.read`` does.
    """
    check_share(validation)
    data = read(
        Path(directory).expanduser(),
        cache=Path(cache).expanduser(),
        inputs=inputs,
        labels=labels,
        train=train,
        test=test,
    )
    return standardise(hold_out(data, validation))

"""Fashion-MNIST, from a folder of its idx files; others of their kind are read by task=images."""

import os
from pathlib import Path

import numpy as np

from smallnets.tasks.data import Data, Split, check_share, hold_out, standardise
from smallnets.tasks.idx import read_examples

NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)  # Xiao, Rasul & Vollgraf 2017, table 2


def load(*, source: str, validation: float) -> Data:
    """Grey images ``[n, 28, 28, 1]`` of 10 classes, uint8, standardised in training.

    ``source`` is the folder of the four files ``{train,t10k}-{images-idx3,labels-idx1}-ubyte.gz``:
    60,000 train examples, of which the share ``validation`` is held out, and 10,000 test examples.
    One mean and one standard deviation are taken over all pixels of the train examples that remain
    (.2860 and .3530 of the full scale with none held out). The files are read in half a second, so
    that nothing is kept of them. Source: Xiao, Rasul & Vollgraf 2017, arXiv:1708.07747.

    Raises ValueError for a share outside ``[0, 1)`` and for files that are missing, not whole or of
    another shape.
    """
    check_share(validation)
    return standardise(hold_out(raw(Path(source).expanduser()), validation))


def raw(folder: Path) -> Data:
    """The images as they are and their labels, with an empty validation split."""
    if not (os.access(folder, os.R_OK | os.X_OK) and folder.is_dir()):
        raise ValueError(
            f"{folder}: a readable folder of idx.gz files is needed, there is none; install "
            "Debian's package dataset-fashion-mnist or name another with task.source=/path"
        )
    train, test = _split(folder, "train"), _split(folder, "t10k")
    nothing = Split(train.inputs[:0], train.labels[:0])
    return Data(train=train, validation=nothing, test=test, outputs=10, names=NAMES, licence="MIT")


def _split(folder: Path, name: str) -> Split:
    images, labels = read_examples(folder, name)
    if not len(images) or images.shape[1:] != (28, 28) or labels.max() > 9:
        raise ValueError(
            f"{folder}: {name!r} must hold images of (28, 28) and labels below 10, found "
            f"{images.shape} and labels up to {labels.max(initial=0)}; put other files there"
        )
    return Split(images[..., None], labels.astype(np.int32))

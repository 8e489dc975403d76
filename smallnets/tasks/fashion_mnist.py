"""Fashion-MNIST, or any data set in its files' names and format, from a folder of idx files.

The idx format is a header that gives the shape, then unsigned bytes: LeCun, Cortes & Burges (1998),
"The MNIST database", section "File formats".
"""

import gzip
import math
import os
import zlib
from pathlib import Path

import numpy as np

from smallnets.tasks.data import Data, Split, check_share, hold_out, standardise

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
    """Grey images ``[n, 28, 28, 1]`` of 10 classes, standardised by the train split.

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
    """The images as float32 of 0 to 255 and their labels, with an empty validation split."""
    if not (os.access(folder, os.R_OK | os.X_OK) and folder.is_dir()):
        raise ValueError(
            f"{folder}: a readable folder of idx.gz files is needed, there is none; install "
            "Debian's package dataset-fashion-mnist or name another with task.source=/path"
        )
    train, test = _split(folder, "train"), _split(folder, "t10k")
    nothing = Split(train.inputs[:0], train.labels[:0])
    return Data(train=train, validation=nothing, test=test, outputs=10, names=NAMES)


def _split(folder: Path, name: str) -> Split:
    images, labels = read_examples(folder, name)
    if not len(images) or images.shape[1:] != (28, 28) or labels.max() > 9:
        raise ValueError(
            f"{folder}: {name!r} must hold images of (28, 28) and labels below 10, found "
            f"{images.shape} and labels up to {labels.max(initial=0)}; put other files there"
        )
    return Split(images[..., None].astype(np.float32), labels.astype(np.int32))


def read(path: Path) -> np.ndarray:
    """The array of an ``idx.gz`` file of unsigned bytes, any rank, in the file's order.

    The header is two zero bytes, the type (8 for unsigned bytes), the rank, and for each axis its
    size as 4 bytes, most significant first. Raises ValueError if the file is missing, is not
    whole, or is not such a file.
    """
    fix = "put a whole copy of it there"
    try:
        with gzip.open(path) as file:
            content = file.read()
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"{path}: a gzip file is needed, but {reason}; {fix}") from None
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        raise ValueError(
            f"{path}: an idx file of unsigned bytes starts with 00 00 08, this one with "
            f"{content[:3].hex(' ') or 'nothing'}; {fix}"
        )
    rank = content[3]
    start = 4 + 4 * rank
    shape = tuple(int.from_bytes(content[at : at + 4], "big") for at in range(4, start, 4))
    if len(content) - start != math.prod(shape):
        raise ValueError(
            f"{path}: {rank} axes of sizes {shape} need {start + math.prod(shape)} bytes, it holds "
            f"{len(content)}; {fix}"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def read_examples(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Images ``[n, height, width]`` and labels ``[n]`` of the split ``name`` in ``folder``.

    Read from ``NAME-images-idx3-ubyte.gz`` and ``NAME-labels-idx1-ubyte.gz``. Raises ValueError
    as ``read`` does, and if the two differ in length or rank.
    """
    images = read(folder / f"{name}-images-idx3-ubyte.gz")
    labels = read(folder / f"{name}-labels-idx1-ubyte.gz")
    if images.ndim != 3 or labels.shape != images.shape[:1]:
        raise ValueError(
            f"{folder}: images [n, height, width] and labels [n] are needed for {name!r}, got "
            f"{images.shape} and {labels.shape}; put files there that belong together"
        )
    return images, labels

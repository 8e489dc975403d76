"""idx files of images and labels, as MNIST and its kin are handed out, gzipped or not.

The idx format is a header that gives the shape, then unsigned bytes: LeCun, Cortes & Burges (1998),
"The MNIST database", section "File formats".
"""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np


def read(path: Path) -> np.ndarray:
    """The array of an idx file of unsigned bytes, any rank, in the file's order.

    A file called ``.gz`` is unpacked.

    The header is two zero bytes, the type (8 for unsigned bytes), the rank, and for each axis its
    size as 4 bytes, most significant first. Raises ValueError if the file is missing, is not
    whole, or is not such a file.
    """
    fix = "put a whole copy of it there"
    packed = path.suffix == ".gz"
    try:
        with gzip.open(path) if packed else path.open("rb") as file:
            content = file.read()
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        kind = "gzip" if packed else "idx"
        raise ValueError(
            f"{path}: {'a' if packed else 'an'} {kind} file is needed, but {reason}; {fix}"
        ) from None
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


def find(folder: Path, name: str) -> list[Path]:
    """The files of images and of labels of the split ``name``, ``train`` or ``t10k`` for the test.

    They are called ``train-images-idx3-ubyte`` and ``train-labels-idx1-ubyte``, or with a dot for
    the second hyphen, with or without ``.gz``. What is not there is called as it mostly is.
    """
    found = []
    for part in ("images-idx3", "labels-idx1"):
        stems = f"{name}-{part}-ubyte", f"{name}-{part.replace('-', '.')}-ubyte"
        paths = [folder / f"{stem}{end}" for end in (".gz", "") for stem in stems]
        found.append(next(filter(Path.exists, paths), paths[0]))
    return found


def read_examples(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Images ``[n, height, width]`` and labels ``[n]`` of the split ``name`` in ``folder``.

    Raises ValueError as ``read`` does, and if the two differ in length or rank.
    """
    images, labels = map(read, find(folder, name))
    if images.ndim != 3 or labels.shape != images.shape[:1]:
        raise ValueError(
            f"{folder}: images [n, height, width] and labels [n] are needed for {name!r}, got "
            f"{images.shape} and {labels.shape}; put files there that belong together"
        )
    return images, labels

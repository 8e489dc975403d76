"""The idx format of the MNIST family: a header that gives the shape, then unsigned bytes.

Format: LeCun, Cortes & Burges (1998), "The MNIST database", section "File formats".
"""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np


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

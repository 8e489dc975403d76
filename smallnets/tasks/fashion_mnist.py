"""Fashion-MNIST, or any data set in its files' names and format, from a folder of idx files."""

import functools
import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from smallnets.tasks import idx
from smallnets.tasks.cache import prepare
from smallnets.tasks.data import Data, check_share, hold_out, standardise
from smallnets.tasks.read import read

if TYPE_CHECKING:
    from smallnets.tasks.builders.fashion_mnist import FashionMnist


@functools.lru_cache(maxsize=4)
def load(*, source: str, cache: str, validation: float) -> Data:
    """Grey images ``[n, 28, 28, 1]`` of 10 classes, standardised by the train split.

    ``source`` is the folder of the four files ``{train,t10k}-{images-idx3,labels-idx1}-ubyte.gz``:
    60,000 train examples, of which the share ``validation`` is held out, and 10,000 test examples.
    One mean and one standard deviation are taken over all pixels of the train examples that remain
    (.2860 and .3530 of the full scale with none held out). The prepared data are kept under a
    digest of the files, so that other files are other data. Source: Xiao, Rasul & Vollgraf 2017,
    arXiv:1708.07747.

    Raises ValueError for a share outside ``[0, 1)``, for files that are missing, not whole or of
    another shape, and for a cache that can't be written.
    """
    check_share(validation)
    folder, files = Path(cache).expanduser(), Path(source).expanduser()
    directory = folder / f"fashion_mnist-1.0.0-{_digest(files)}"
    if not directory.exists():
        _check(files)
    prepare(directory, _builder, source=files)
    return standardise(hold_out(read(directory, cache=folder), validation))


def _digest(source: Path) -> str:
    if not (os.access(source, os.R_OK | os.X_OK) and source.is_dir()):
        raise ValueError(
            f"{source}: a readable folder of idx.gz files is needed, there is none; install "
            "Debian's package dataset-fashion-mnist or name another with task.source=/path"
        )
    digest = hashlib.sha256()
    for path in sorted(source.glob("*-ubyte.gz")):
        try:
            digest.update(path.name.encode() + path.read_bytes())
        except OSError as error:
            raise ValueError(
                f"{path}: a readable file is needed, but: {error.strerror}; put one there"
            ) from None
    return digest.hexdigest()[:16]


def _check(source: Path) -> None:
    for name in ("train", "t10k"):
        images, labels = idx.read_examples(source, name)
        if not len(images) or images.shape[1:] != (28, 28) or labels.max() > 9:
            raise ValueError(
                f"{source}: {name!r} must hold images of (28, 28) and labels below 10, found "
                f"{images.shape} and labels up to {labels.max(initial=0)}; put other files there"
            )


def _builder(folder: Path) -> "FashionMnist":
    from smallnets.tasks.builders.fashion_mnist import FashionMnist

    return FashionMnist(data_dir=folder, file_format="array_record")

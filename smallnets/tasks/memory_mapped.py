"""Own data that may be larger than memory: a folder of ``.npy`` arrays, read as training goes."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from smallnets.tasks.data import Data, Split, standardise

SPLITS = ("train", "validation", "test")


def load(*, source: str, in_memory: bool = False, metrics: Sequence[str] = ()) -> Data:
    """The examples of a folder: of the train split's inputs only a batch is ever in memory.

    For each of train, validation (may be absent) and test, ``SPLIT_inputs.npy`` is uint8
    ``[n, ...]``, channels last, standardised in training by the train split, float32, taken as it
    is, or int32 ``[n, T]``, tokens; ``SPLIT_labels.npy`` is of whole numbers, classes from 0, one
    for each example or each token (-1 is none), or float32 ``[n, k]``: targets, taken as they are.
    Labels and held-out splits are in memory. ``in_memory`` holds everything there, with the same
    numbers. Grain (Google, github.com/google/grain) reads the batches.

    Raises ValueError, naming the file, for what is not as said here, and without Grain.
    """
    folder = Path(source).expanduser()
    if not folder.is_dir():
        raise ValueError(f"{folder}: a folder of .npy arrays is needed, there is none: name one")
    if not in_memory and importlib.util.find_spec("grain") is None:
        raise ValueError(
            "examples that are read as training goes need the library grain, which is not "
            "installed: pip install 'smallnets[grain]', or set task.in_memory=true"
        )
    train = _split(folder, "train", in_memory)
    nothing = Split(np.zeros_like(train.inputs[:0]), np.zeros_like(train.labels[:0]))
    validation = _split(folder, "validation", True) if _path(folder, "validation") else nothing
    test = _split(folder, "test", True)
    targets = train.labels.dtype == np.float32
    every = [each.labels for each in (train, validation, test) if len(each)]
    outputs = train.labels.shape[1] if targets else 1 + max(int(each.max()) for each in every)
    data = Data(
        train,
        validation,
        test,
        outputs=outputs,
        kind="targets" if targets else "classes",
        metrics=tuple(metrics),
    )
    return standardise(data) if data.raw else data


def _path(folder: Path, split: str) -> bool:
    return (folder / f"{split}_inputs.npy").exists()


def _split(folder: Path, split: str, in_memory: bool) -> Split:
    inputs = _array(folder / f"{split}_inputs.npy", in_memory)
    labels = _array(folder / f"{split}_labels.npy", True)
    if labels.dtype.kind in "iu":
        labels = labels.astype(np.int32)
    try:
        return Split(inputs, labels)
    except ValueError as error:
        raise ValueError(f"{folder}, {split}: {error}") from None


def _array(path: Path, in_memory: bool) -> np.ndarray:
    try:
        return np.load(path, mmap_mode=None if in_memory else "r", allow_pickle=False)
    except FileNotFoundError:
        raise ValueError(
            f"{path} is needed, there is none: write it with numpy.save, or with "
            "numpy.lib.format.open_memmap where it does not fit into memory"
        ) from None
    except (OSError, EOFError, ValueError) as error:
        raise ValueError(f"{path}: a whole .npy array is needed, but: {error}") from None

"""Own data as arrays or tables: ``.npz``, ``.csv`` and ``.parquet`` files."""

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from smallnets.tasks import tables
from smallnets.tasks.data import Data
from smallnets.tasks.examples import (
    NAMES,
    Examples,
    Missing,
    answered,
    assembled,
    filled,
    parted,
    without_gaps,
)
from smallnets.tasks.metrics import Kind

INPUTS = ("inputs", "x", "X", "data", "images")
LABELS = ("labels", "y", "Y", "target", "targets")


def load(
    *,
    source: str,
    inputs: str | Sequence[str] | None = None,
    target: str | Sequence[str] | None = None,
    kind: Kind | None = None,
    split: str | None = None,
    validation: float = 0.1,
    test: float = 0.2,
    split_seed: int = 0,
    missing: Missing = None,
    separator: str = ",",
    metrics: Sequence[str] = (),
) -> Data:
    """The examples of a file, in memory, standardised by the train split.

    **Arrays**: a ``.npz`` file holds inputs ``[n, ...]`` and labels under the names ``inputs`` and
    ``target``, or under the first that is there of ``INPUTS`` and of ``LABELS``; or it holds them
    split by split, as ``train_inputs`` or ``inputs_train`` (x_train, test_labels, val_images ...).
    Images ``[n, H, W]`` get an axis for their one channel; a last axis of 1 to 4 is taken for
    channels. uint8 stays as it is and is prepared in training, other numbers become float32.

    **Tables**: ``target`` names the column, or the columns, to be predicted, ``inputs`` those of
    the inputs (None: all others). Words are one-hot by the train split's categories; numbers are
    standardised. Of a CSV file, ``tables.NULLS`` are missing values.

    **Splits**: those in the file; or the column ``split`` of train, validation and test; or else
    the shares ``validation`` and ``test`` are drawn by ``split_seed``, of classes each its share.
    ``kind`` says what labels are where it is not what their type says: whole numbers and words are
    classes, zeros and ones ``[n, k]`` labels, floating-point numbers targets. Missing values are
    refused unless ``missing`` is ``mean`` (of the train split) or ``drop``.

    Raises ValueError, naming the file and the column, for what is not as said here.
    """
    path = Path(source).expanduser()
    shares = {"validation": validation, "test": test, "seed": split_seed}
    if not path.is_file():
        raise ValueError(
            f"{path}: a .npz, .csv or .parquet file is needed, there is none: name one"
        )
    if path.suffix in (".csv", ".parquet"):
        columns = [inputs] if isinstance(inputs, str) else inputs
        table = tables.read(path, separator)
        found, names = tables.examples(path, table, inputs=columns, target=target, split=split)
        found = without_gaps(path, found, tables.gaps, missing)
        found, answers = answered(path, found, kind=kind, names=names)
        found = parted(path, found, **shares, stratify=answers.kind == "classes")
        matrices, numbers = tables.encoded(path, found)
        ready = filled(path, matrices)
        return assembled(path, ready, found, answers, metrics=metrics, numbers=numbers)
    if path.suffix != ".npz":
        raise ValueError(f"{path}: a .npz, .csv or .parquet file is needed: name or convert one")
    if split is not None:
        raise ValueError(
            f"split names a column of a table, but {path} is none: name its arrays by split, as in "
            "train_inputs, train_labels, test_inputs and test_labels"
        )
    found = read(path, inputs, target)
    found = without_gaps(path, found, gaps, missing)
    found, answers = answered(path, found, kind=kind)
    found = parted(path, found, **shares, stratify=answers.kind == "classes")
    ready = filled(path, {name: each.inputs for name, each in found.items()})
    return assembled(path, ready, found, answers, metrics=metrics)


def read(path: Path, inputs: object = None, target: object = None) -> dict[str, Examples]:
    """The examples of a ``.npz`` file, by split: inputs uint8 or float32, labels as they are.

    Raises ValueError where the file is not whole, lacks inputs or labels, or has not as many of the
    one as of the other.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            if not hasattr(file, "files"):
                raise ValueError("it holds one array without a name")
            arrays = {name: file[name] for name in file.files if _wanted(name, inputs, target)}
            everything = list(file.files)
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path}: a whole .npz file of plain arrays is needed, but: {error}: write it with "
            "numpy.savez"
        ) from None
    tried = _names(inputs, INPUTS), _names(target, LABELS)
    pairs = {
        split: [_first(arrays, prefixes, names) for names in tried]
        for split, prefixes in NAMES.items()
    }
    found = {k: pair for k, pair in pairs.items() if any(each is not None for each in pair)}
    if not found:
        found = {"train": [_first(arrays, ("",), names) for names in tried]}
    examples = {}
    for split, pair in found.items():
        for what, option, names, array in zip(
            ("inputs", "labels"), ("inputs", "target"), tried, pair, strict=True
        ):
            if array is None:
                raise ValueError(
                    f"{path}: no {what} of {split} under {', '.join(names)}, but it holds "
                    f"{', '.join(everything)}: name the array with task.{option}=..."
                )
        x, y = pair
        assert x is not None
        assert y is not None
        if x.ndim < 1 or y.ndim not in (1, 2) or len(x) != len(y):
            raise ValueError(
                f"{path}: {split} needs inputs [n, ...] and as many labels [n] or [n, k], but they "
                f"are {x.shape} and {y.shape}: give each example its label"
            )
        examples[split] = Examples(_numeric(path, split, x), y)
    if len({each.inputs.dtype for each in examples.values()}) > 1:
        examples = {k: Examples(e.inputs.astype(np.float32), e.labels) for k, e in examples.items()}
    return examples


def _names(said: object, tried: tuple[str, ...]) -> tuple[str, ...]:
    if said is None:
        return tried
    if not isinstance(said, str):
        raise ValueError(f"of a .npz file one name is needed, but {said!r} was given: name one")
    return (said,)


def _wanted(name: str, inputs: object, target: object) -> bool:
    ends = (*_names(inputs, INPUTS), *_names(target, LABELS))
    return any(name.startswith(end) or name.endswith(end) for end in ends)


def _first(
    arrays: dict[str, np.ndarray], prefixes: tuple[str, ...], names: tuple[str, ...]
) -> np.ndarray | None:
    """The array of the first name that is there, with a split before or after it."""
    for name in names:
        for prefix in prefixes:
            for full in (f"{prefix}_{name}", f"{name}_{prefix}") if prefix else (name,):
                if full in arrays:
                    return arrays[full]
    return None


def _numeric(path: Path, split: str, inputs: np.ndarray) -> np.ndarray:
    """uint8 as it is, other numbers as float32; with an axis of channels, at least ``[n, 1]``."""
    if inputs.dtype.kind not in "biuf":
        raise ValueError(
            f"{path}: inputs must be numbers, but those of {split} are {inputs.dtype}: convert "
            "them, or write a table"
        )
    if inputs.dtype != np.uint8:
        with np.errstate(over="ignore"):  # an infinity is refused by Split
            inputs = inputs.astype(np.float32)
    one_channel = inputs.ndim == 3 and not 1 <= inputs.shape[-1] <= 4
    return inputs[..., None] if inputs.ndim == 1 or one_channel else inputs


def gaps(part: Examples) -> dict[str, np.ndarray]:
    """Which rows have a NaN, for each feature that has any."""
    if part.inputs.dtype.kind != "f":
        return {}
    absent = np.isnan(part.inputs).reshape(len(part.inputs), -1)
    return {f"feature {i}": absent[:, i] for i in np.flatnonzero(absent.any(axis=0))}

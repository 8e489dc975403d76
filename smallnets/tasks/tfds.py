"""Any classification data set that TFDS has prepared, read whole.

TFDS decodes about 25,000 examples a second and takes a second to import; the arrays kept in the
cache load about thirty times faster.
"""

import functools
import hashlib
import os
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from smallnets.files import replacing
from smallnets.tasks.cache import DamagedError, quiet, writing
from smallnets.tasks.data import Data, Split, check_share, hold_out, standardise

INFO = "dataset_info.json"
NAMES = {"train_inputs", "train_labels", "test_inputs", "test_labels", "classes", "names"}


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

    Raises ValueError for a share outside ``[0, 1)`` and as :func:`read` does.
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


def read(
    directory: Path,
    *,
    cache: Path,
    inputs: str | None = None,
    labels: str | None = None,
    train: str = "train",
    test: str = "test",
) -> Data:
    """The splits ``train`` and ``test`` of a TFDS directory, raw, with an empty validation split.

    ``inputs`` and ``labels`` name features; None takes the dataset's supervised keys, or else
    ``image`` and ``label``. Splits are TFDS's: ``test="train[80%:]"`` works. ``classes`` is what
    the label feature says, or else the largest label plus 1.

    The decoded arrays are kept in ``cache/arrays`` under a digest of the directory's files (names,
    sizes, times) and of the options, so that another state of the directory is read anew.

    Raises ValueError if the directory is absent or not whole, was not written as array_record,
    lacks a named feature or split, or holds what is no numeric input or no class. A cache that
    can't be written is a warning: the directory is decoded each time.
    """
    if not (os.access(directory, os.R_OK | os.X_OK) and directory.is_dir()):
        raise DamagedError(
            f"{directory}: a readable folder prepared by TFDS is needed, there is none; name one"
        )
    if not (directory / INFO).is_file():
        found = sorted(path.parent.name for path in directory.glob(f"*/{INFO}"))
        raise DamagedError(
            f"{directory}: a whole TFDS dataset holds {INFO}, this folder does not; "
            + (f"name one of its folders {found}" if found else "prepare it again")
        )
    kept = cache / "arrays" / f"{_digest(directory, inputs, labels, train, test)}.npz"
    arrays = _load(kept)
    if arrays is not None:
        return _data(arrays)
    with quiet():
        arrays = _decode(directory, inputs, labels, {"train": train, "test": test})
    data = _data(arrays)  # refuses what isn't right before anything is written
    _keep(arrays, kept)
    return data


def _data(arrays: dict[str, np.ndarray]) -> Data:
    train, test = (
        Split(
            arrays[f"{name}_inputs"].astype(np.float32), arrays[f"{name}_labels"].astype(np.int32)
        )
        for name in ("train", "test")
    )
    nothing = Split(train.inputs[:0], train.labels[:0])
    return Data(
        train=train,
        validation=nothing,
        test=test,
        classes=int(arrays["classes"]),
        names=tuple(arrays["names"].tolist()),
    )


def _digest(directory: Path, *options: str | None) -> str:
    files = [
        (path.name, path.stat().st_size, path.stat().st_mtime_ns)
        for path in sorted(directory.iterdir())
    ]
    return hashlib.sha256(repr((str(directory.resolve()), files, options)).encode()).hexdigest()


def _load(kept: Path) -> dict[str, np.ndarray] | None:
    """The arrays in ``kept``; None if they are not there or the file is damaged anywhere."""
    try:
        with kept.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return dict(arrays) if set(arrays) == NAMES else None
    except (OSError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile):
        return None


def _keep(arrays: dict[str, np.ndarray], kept: Path) -> None:
    """Write the arrays, if the cache can be: a cache that is only read has all that is needed."""
    try:
        with writing(kept.parent), replacing(kept) as draft, draft.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
    except ValueError as error:
        warnings.warn(f"what was decoded is not kept for the next time: {error}", stacklevel=2)


def _decode(
    directory: Path, inputs: str | None, labels: str | None, splits: dict[str, str]
) -> dict[str, np.ndarray]:
    builder = _open(directory)
    keys = builder.info.supervised_keys or ("image", "label")
    features = builder.info.features
    names = inputs or keys[0], labels or keys[1]
    for option, name in zip(("inputs", "labels"), names, strict=True):
        if name not in features:
            raise ValueError(
                f"{directory}: no feature {name!r} for {option}; choose one of {sorted(features)}"
            )
    arrays: dict[str, np.ndarray] = {}
    for name, split in splits.items():
        examples = _examples(builder, split, names)
        arrays[f"{name}_inputs"] = _stack(directory, names[0], examples)
        arrays[f"{name}_labels"] = _stack(directory, names[1], examples)
        if arrays[f"{name}_labels"].dtype.kind not in "iu" or arrays[f"{name}_labels"].ndim != 1:
            raise ValueError(
                f"{directory}: labels must be one integer an example, feature {names[1]!r} is "
                f"{features[names[1]]}; choose another with labels=NAME"
            )
    classes = getattr(features[names[1]], "num_classes", None)
    arrays["names"] = np.asarray(getattr(features[names[1]], "names", None) or [], str)
    largest = max(arrays[f"{name}_labels"].max() for name in splits)
    arrays["classes"] = np.asarray(largest + 1 if classes is None else classes)
    return arrays


def _stack(directory: Path, name: str, examples: list[dict[str, Any]]) -> np.ndarray:
    shapes = sorted({np.shape(example[name]) for example in examples})
    if len(shapes) != 1:
        raise ValueError(
            f"{directory}: feature {name!r} must have one shape, found {len(shapes)} in "
            f"{len(examples)} examples: {shapes[:1]} to {shapes[-1:]}; prepare it resized"
        )
    array = np.stack([example[name] for example in examples])
    if array.dtype.kind not in "biuf":
        raise ValueError(
            f"{directory}: feature {name!r} must be numbers, found {array.dtype}; name another"
        )
    return array


def _open(directory: Path) -> Any:
    """TFDS's builder of ``directory``, checked as far as is possible without reading records."""
    import tensorflow_datasets as tfds
    from array_record.python.array_record_module import ArrayRecordReader
    from google.protobuf.json_format import ParseError

    try:
        builder = tfds.builder_from_directory(directory)
    except (OSError, ValueError, ParseError) as error:
        raise DamagedError(
            f"{directory}: its {INFO} and features.json must be whole, but: "
            f"{_line(error)}; prepare it again"
        ) from None
    file_format = builder.info.file_format
    if file_format is None or file_format.value != "array_record":
        raise ValueError(
            f"{directory}: written as {file_format and file_format.value}, array_record is needed; "
            "prepare it again with file_format='array_record'"
        )
    for split in builder.info.splits.values():
        for path, length in zip(split.filepaths, split.shard_lengths, strict=True):
            # A missing file counts as 0, and so does one that is cut between two blocks, which
            # would give empty records without an error.
            if (found := ArrayRecordReader(str(path)).num_records()) != length:
                raise DamagedError(
                    f"{directory}: {path.name} must hold {length} records, {found} can be read; "
                    "prepare it again"
                )
    return builder


def _examples(builder: Any, split: str, names: tuple[str, str]) -> list[dict[str, Any]]:
    import tensorflow_datasets as tfds

    others = set(builder.info.features) - set(names)
    skipped = {name: tfds.decode.SkipDecoding() for name in others}
    try:
        source = builder.as_data_source(split, decoders=skipped)
    except (KeyError, ValueError):
        raise ValueError(
            f"{builder.data_path}: no examples in split {split!r}; choose among "
            f"{sorted(builder.info.splits)} or a slice of one, like 'train[80%:]'"
        ) from None
    try:
        return list(source.__getitems__(range(len(source))))
    except (RuntimeError, ValueError, OSError, ImportError) as error:
        raise DamagedError(
            f"{builder.data_path}: split {split!r} can't be decoded ({_line(error)}); prepare it "
            "again, with features that need no TensorFlow"
        ) from None


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]

"""Read a directory that TFDS has prepared, whole, and keep its arrays for the next process.

TFDS decodes about 25,000 examples a second and takes a second to import; the arrays kept in the
cache load about thirty times faster.
"""

import hashlib
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from smallnets.tasks.cache import writing
from smallnets.tasks.data import Data, Split
from smallnets.tasks.quiet import quiet

INFO = "dataset_info.json"
Arrays = dict[str, np.ndarray]


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
    lacks a named feature or split, or holds what is no numeric input or no class; or if the cache
    can't be written.
    """
    if not directory.is_dir():
        raise ValueError(f"{directory}: a folder prepared by TFDS is needed, but it is not there")
    if not (directory / INFO).is_file():
        found = sorted(path.parent.name for path in directory.glob(f"*/{INFO}"))
        raise ValueError(
            f"{directory}: a whole TFDS dataset holds {INFO}, this folder does not; "
            + (f"name one of its folders {found}" if found else "prepare it again")
        )
    kept = cache / "arrays" / f"{_digest(directory, inputs, labels, train, test)}.npz"
    arrays = _load(kept)
    if arrays is None:
        with quiet():
            arrays = _decode(directory, inputs, labels, {"train": train, "test": test})
        _keep(arrays, kept)
    return _data(arrays)


def _data(arrays: Arrays) -> Data:
    train, test = (
        Split(
            arrays[f"{name}_inputs"].astype(np.float32), arrays[f"{name}_labels"].astype(np.int32)
        )
        for name in ("train", "test")
    )
    nothing = Split(train.inputs[:0], train.labels[:0])
    return Data(train=train, validation=nothing, test=test, classes=int(arrays["classes"]))


def _digest(directory: Path, *options: str | None) -> str:
    files = [
        (path.name, path.stat().st_size, path.stat().st_mtime_ns)
        for path in sorted(directory.iterdir())
    ]
    return hashlib.sha256(repr((str(directory.resolve()), files, options)).encode()).hexdigest()


def _load(kept: Path) -> Arrays | None:
    """The arrays in ``kept``; None if they are not there or fail their checksums."""
    try:
        with np.load(kept, allow_pickle=False) as arrays:
            return dict(arrays)
    except (OSError, EOFError, ValueError, zipfile.BadZipFile):
        return None


def _keep(arrays: Arrays, kept: Path) -> None:
    draft = kept.with_name(f".{kept.name}.{os.getpid()}")
    with writing(kept.parent):
        try:
            with draft.open("wb") as file:
                np.savez(file, allow_pickle=False, **arrays)
            draft.replace(kept)
        finally:
            draft.unlink(missing_ok=True)


def _decode(
    directory: Path, inputs: str | None, labels: str | None, splits: dict[str, str]
) -> Arrays:
    builder = _open(directory)
    keys = builder.info.supervised_keys or ("image", "label")
    features = builder.info.features
    names = inputs or keys[0], labels or keys[1]
    for option, name in zip(("inputs", "labels"), names, strict=True):
        if name not in features:
            raise ValueError(
                f"{directory}: no feature {name!r} for {option}; choose one of {sorted(features)}"
            )
    arrays: Arrays = {}
    for name, split in splits.items():
        examples = _examples(builder, split)
        arrays[f"{name}_inputs"] = _stack(directory, names[0], examples)
        arrays[f"{name}_labels"] = _stack(directory, names[1], examples)
        if arrays[f"{name}_labels"].dtype.kind not in "iu" or arrays[f"{name}_labels"].ndim != 1:
            raise ValueError(
                f"{directory}: labels must be one integer an example, feature {names[1]!r} is "
                f"{features[names[1]]}; choose another with labels=NAME"
            )
    classes = getattr(features[names[1]], "num_classes", None)
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
    from google.protobuf.json_format import ParseError

    try:
        builder = tfds.builder_from_directory(directory)
    except (OSError, ValueError, ParseError) as error:
        raise ValueError(
            f"{directory}: its {INFO} and features.json must be whole, but: "
            f"{str(error).splitlines()[0]}; prepare it again"
        ) from None
    formats = sorted(format.value for format in builder.info.available_file_formats())
    if "array_record" not in formats:
        raise ValueError(
            f"{directory}: written as {', '.join(formats)}, array_record is needed; prepare it "
            "again with file_format='array_record'"
        )
    paths = [Path(path) for split in builder.info.splits.values() for path in split.filepaths]
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        raise ValueError(
            f"{directory}: {len(missing)} of {len(paths)} files are missing, the first is "
            f"{missing[0]}; prepare it again"
        )
    return builder


def _examples(builder: Any, split: str) -> list[dict[str, Any]]:
    try:
        source = builder.as_data_source(split, file_format="array_record")
    except (KeyError, ValueError):
        raise ValueError(
            f"{builder.data_path}: no split {split!r}; choose among {sorted(builder.info.splits)} "
            "or a slice of one, like 'train[80%:]'"
        ) from None
    try:
        return list(source.__getitems__(range(len(source))))
    except (RuntimeError, IndexError) as error:
        raise ValueError(
            f"{builder.data_path}: the records of split {split!r} are damaged "
            f"({str(error).splitlines()[0]}); prepare it again"
        ) from None

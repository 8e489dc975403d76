"""Any data set that TFDS has prepared, read whole: images, other arrays, tables or text.

TFDS decodes about 25,000 examples a second and takes a second to import; the arrays kept in the
cache load about thirty times faster.
"""

import hashlib
import json
import os
import warnings
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from smallnets.files import replacing
from smallnets.tasks.cache import DamagedError, quiet, writing
from smallnets.tasks.data import Data, Split, check_share, hold_out, standardise
from smallnets.tasks.examples import Examples, answered, assembled, parted, say_shared, without_gaps
from smallnets.tasks.text import Vocabulary, language_model

if TYPE_CHECKING:
    import polars

INFO = "dataset_info.json"
NAMES = {"train_inputs", "train_labels", "test_inputs", "test_labels", "classes", "names"}


def load(
    *,
    directory: str,
    cache: str,
    validation: float,
    inputs: str | Sequence[str] | None = None,
    labels: str | None = None,
    train: str = "train",
    test: str = "test",
    length: int = 128,
    vocabulary: Vocabulary = None,
    metrics: Sequence[str] = (),
) -> Data:
    """The TFDS data set in ``directory``, standardised channel by channel by the train split.

    ``directory`` is the folder of one version, written as array_record: the one that holds
    ``dataset_info.json``. ``inputs`` and ``labels`` name its features (None: its supervised keys,
    or else ``image`` and ``label``), ``train`` and ``test`` its splits or slices of them. The
    share ``validation`` of the train split is held out. The last axis of the inputs is taken for
    the channels. All examples are held in memory; uint8 as they are, standardised in training.

    A list of ``inputs`` is a table, one column for each number and, of classes and words, for each
    category (:func:`smallnets.tasks.tables.encoded`); its labels may be floating-point numbers,
    which are targets. One feature of text is to be predicted token by token, example by example, in
    windows of ``length`` tokens of a ``vocabulary``
    (:func:`smallnets.tasks.text.language_model`), without labels.

    Raises ValueError for a share outside ``[0, 1)`` and as :func:`read` does.
    """
    check_share(validation)
    folder, kept = Path(directory).expanduser(), Path(cache).expanduser()
    splits = {"train": train, "test": test}
    if isinstance(inputs, str) and _is_text(folder, inputs) and labels is None:
        texts = _texts(folder, inputs, splits, validation)
        data = language_model(texts, length=length, vocabulary=vocabulary, cache=kept)
        return replace(data, metrics=tuple(metrics))
    if inputs is not None and not isinstance(inputs, str):
        return _table(folder, list(inputs), labels, splits, validation, metrics)
    data = read(folder, cache=kept, inputs=inputs, labels=labels, train=train, test=test)
    data = replace(hold_out(data, validation), metrics=tuple(metrics))
    say_shared(folder, data)
    return standardise(data)


def _is_text(directory: Path, name: str) -> bool:
    """Whether a feature is text, read without loading TFDS; not if that can't be told."""
    try:
        features = json.loads((directory / "features.json").read_text())["featuresDict"]["features"]
        return features[name]["pythonClassName"].endswith(".Text")
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _texts(
    directory: Path, name: str, splits: dict[str, str], validation: float
) -> dict[str, list[str]]:
    """The texts of a feature by split, the last share of the train split for validation."""
    with quiet():
        builder = _open(_checked(directory))
        found = {
            split: [_word(each[name]) for each in _examples(builder, said, [name])]
            for split, said in splits.items()
        }
    kept = len(found["train"]) - round(validation * len(found["train"]))
    return {**found, "train": found["train"][:kept], "validation": found["train"][kept:]}


def _table(
    directory: Path,
    inputs: list[str],
    labels: str | None,
    splits: dict[str, str],
    validation: float,
    metrics: Sequence[str],
) -> Data:
    """Features side by side as the columns of a table."""
    from smallnets.tasks import tables

    with quiet():
        builder = _open(_checked(directory))
        keys = builder.info.supervised_keys or ("image", "label")
        label = labels or keys[1]
        _check_features(directory, builder, {"inputs": inputs, "labels": [label]})
        found = {}
        for split, said in splits.items():
            examples = _examples(builder, said, [*inputs, label])
            found[split] = Examples(
                _columns(directory, builder.info.features, inputs, examples),
                _labels(directory, builder.info.features, label, examples),
            )
    ready, answers = answered(directory, found)
    stratify = answers.kind == "classes"
    ready = parted(directory, ready, validation=validation, test=0, seed=0, stratify=stratify)
    ready = without_gaps(directory, ready, tables.gaps, None)
    matrices, numbers = tables.encoded(directory, ready)
    return assembled(directory, matrices, ready, answers, metrics=metrics, numbers=numbers)


def _columns(
    directory: Path, features: Any, names: list[str], examples: list[dict[str, Any]]
) -> "polars.DataFrame":
    import polars

    columns = {}
    for name in names:
        if hasattr(features[name], "names") or type(features[name]).__name__ == "Text":
            columns[name] = _labels(directory, features, name, examples)
            continue
        flat = _stack(directory, name, examples).reshape(len(examples), -1)
        several = flat.shape[1] > 1
        columns |= {f"{name}_{i}" if several else name: row for i, row in enumerate(flat.T)}
    return polars.DataFrame(columns)


def _labels(
    directory: Path, features: Any, name: str, examples: list[dict[str, Any]]
) -> np.ndarray:
    """Numbers; of classes that have names and of text, words."""
    if type(features[name]).__name__ == "Text":
        return np.asarray([_word(each[name]) for each in examples])
    numbers = _stack(directory, name, examples)
    names = getattr(features[name], "names", None)
    if names and numbers.min() < 0:
        raise ValueError(
            f"{directory}: feature {name!r} must name a class for each example, "
            f"{np.count_nonzero(numbers < 0)} have none; choose another split"
        )
    return np.asarray(names)[numbers] if names else numbers


def _word(text: bytes | str) -> str:
    return text.decode() if isinstance(text, bytes) else str(text)


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
    kept = cache / "arrays" / f"{_digest(_checked(directory), inputs, labels, train, test)}.npz"
    arrays = _load(kept)
    if arrays is not None:
        return _data(arrays)
    with quiet():
        arrays = _decode(directory, inputs, labels, {"train": train, "test": test})
    data = _data(arrays)  # refuses what isn't right before anything is written
    _keep(arrays, kept)
    return data


def _checked(directory: Path) -> Path:
    """``directory``; raises ValueError where it is not the folder of a version."""
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
    return directory


def _data(arrays: dict[str, np.ndarray]) -> Data:
    train, test = (
        Split(_numbers(arrays[f"{name}_inputs"]), arrays[f"{name}_labels"].astype(np.int32))
        for name in ("train", "test")
    )
    nothing = Split(train.inputs[:0], train.labels[:0])
    return Data(
        train=train,
        validation=nothing,
        test=test,
        outputs=int(arrays["classes"]),
        names=tuple(arrays["names"].tolist()),
    )


def _numbers(inputs: np.ndarray) -> np.ndarray:
    return inputs if inputs.dtype == np.uint8 else inputs.astype(np.float32)


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
    _check_features(directory, builder, {"inputs": [names[0]], "labels": [names[1]]})
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


def _check_features(directory: Path, builder: Any, named: dict[str, list[str]]) -> None:
    features = builder.info.features
    for option, names in named.items():
        for name in names:
            if name not in features:
                raise ValueError(
                    f"{directory}: no feature {name!r} for {option}; choose one of "
                    f"{sorted(features)}"
                )


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


def _examples(builder: Any, split: str, names: Sequence[str]) -> list[dict[str, Any]]:
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

"""From the examples of a source, whatever it is, to a task: answers, three splits, what is missing.

Readers give ``Examples``; the functions here are what own data of all formats have in common.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from smallnets.tasks.data import Data, Split, standardise
from smallnets.tasks.metrics import Kind
from smallnets.tasks.preparation import Targets

log = logging.getLogger(__name__)

NAMES = {"train": ("train",), "validation": ("validation", "val", "valid"), "test": ("test",)}
SPLITS = tuple(NAMES)
Missing = Literal["mean", "drop"] | None


class Examples(NamedTuple):
    """Inputs, an array ``[n, ...]`` or a table of n rows, and labels ``[n]`` or ``[n, k]``."""

    inputs: Any
    labels: np.ndarray

    def rows(self, chosen: np.ndarray) -> "Examples":
        return Examples(self.inputs[chosen], self.labels[chosen])


class Answers(NamedTuple):
    """What is asked of each example, and the names of the classes, targets or labels."""

    kind: Kind
    outputs: int
    names: tuple[str, ...]


def answered(
    source: object,
    examples: Mapping[str, Examples],
    *,
    kind: Kind | None = None,
    names: Sequence[str] = (),
) -> tuple[dict[str, Examples], Answers]:
    """The examples with labels as :class:`smallnets.tasks.Split` has them, but targets in units.

    ``kind`` None is inferred of the labels' type: whole numbers, words and truth values ``[n]`` are
    classes, numbered from 0 in sorted order; zeros and ones ``[n, k]`` are labels, of which an
    example may have several; floating-point numbers are targets. ``names`` are those of the k
    columns. Raises ValueError for labels that are not of the kind, and for fewer than two classes.
    """
    labels = {name: _plain(each.labels) for name, each in examples.items()}
    everything = np.concatenate(list(labels.values()))
    known = ("classes", "targets", "labels")
    if kind is None:
        one_hot = everything.ndim == 2 and everything.shape[1] > 1 and _one_hot(everything)
        if one_hot:
            raise ValueError(
                f"{source}: each row of the labels has a single 1 of {everything.shape[1]}, so "
                "they may be classes or labels: set kind=classes or kind=labels"
            )
        kind = _inferred(everything)
    if kind not in known:
        raise ValueError(f"kind must be one of {', '.join(known)}, but is {kind!r}: choose one")
    if kind == "classes":
        if everything.ndim == 2 and _one_hot(everything):
            labels = {name: each.argmax(axis=1) for name, each in labels.items()}
            found = list(names) or [str(i) for i in range(everything.shape[1])]
        else:
            values = _classes(source, everything)
            found = [str(value) for value in values.tolist()]
            labels = {name: np.searchsorted(values, each) for name, each in labels.items()}
        made = {name: each.astype(np.int32) for name, each in labels.items()}
    else:
        matrix = {n: each.reshape(len(each), -1) for n, each in labels.items()}
        made = {n: _numbers(source, kind, each) for n, each in matrix.items()}
        outputs = next(iter(made.values())).shape[1]
        found = list(names) if len(names) == outputs else []
    outputs = len(found) or next(iter(made.values())).shape[1]
    ready = {name: Examples(each.inputs, made[name]) for name, each in examples.items()}
    return ready, Answers(kind, outputs, tuple(found))


def _plain(labels: np.ndarray) -> np.ndarray:
    """Words as numpy's, and a column alone as ``[n]``."""
    labels = labels.astype(str) if labels.dtype.kind in "OSU" else labels
    return labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels


def _inferred(labels: np.ndarray) -> Kind:
    if labels.dtype.kind == "f":
        return "targets"
    return "labels" if labels.ndim == 2 and labels.dtype.kind in "biu" else "classes"


def _one_hot(labels: np.ndarray) -> bool:
    if labels.dtype.kind not in "biuf" or not np.isin(labels, (0, 1)).all():
        return False
    return bool((labels.sum(axis=1) == 1).all())


def _classes(source: object, labels: np.ndarray) -> np.ndarray:
    """The distinct classes in sorted order."""
    whole = labels.dtype.kind != "f" or (np.isfinite(labels) & (labels == np.floor(labels))).all()
    if labels.ndim != 1 or labels.dtype.kind not in "biufU" or not whole:
        raise ValueError(
            f"{source}: classes are one whole number or word for each example, these are "
            f"{labels.dtype} {labels.shape}: set kind=targets or kind=labels, or convert them"
        )
    values = np.unique(labels)
    if len(values) < 2:
        raise ValueError(
            f"{source}: at least two classes are needed, but every example has "
            f"{', '.join(map(repr, values.tolist())) or 'none'}: add examples of another"
        )
    if labels.dtype.kind in "iu" and len(values) > max(20, len(labels) // 10):
        log.warning(
            "%s: %d different whole numbers in %d examples are taken for classes; if they are a "
            "quantity, set task.kind=targets",
            source,
            len(values),
            len(labels),
        )
    whole = labels.dtype.kind == "f"
    return values.astype(np.int64) if whole else values


def _numbers(source: object, kind: Kind, labels: np.ndarray) -> np.ndarray:
    """Targets as float64, or labels as int32, ``[n, k]``."""
    if labels.dtype.kind not in "biuf":
        raise ValueError(
            f"{source}: {kind} are numbers, these are {labels.dtype}: name a column of numbers, or "
            "set kind=classes"
        )
    if kind == "targets":
        if not np.isfinite(labels).all():
            count = np.count_nonzero(~np.isfinite(labels))
            raise ValueError(f"{source}: {count} targets are not finite: clean the source")
        return labels.astype(np.float64)
    if not np.isin(labels, (0, 1)).all():
        raise ValueError(
            f"{source}: labels are 0 or 1 each, these run from {labels.min()} to {labels.max()}: "
            "set kind=classes or kind=targets"
        )
    return labels.astype(np.int32)


def parted(
    source: object,
    examples: Mapping[str, Examples],
    *,
    validation: float,
    test: float,
    seed: int,
    stratify: bool,
) -> dict[str, Examples]:
    """The examples in three splits; those that are there stay as they are.

    Without ``test`` the shares ``validation`` and ``test`` of all examples are cut off ``train``;
    with it, the share ``validation`` of ``train`` where there is no ``validation``. Which ones is
    drawn by ``seed``, and with ``stratify`` each class gives its share. Raises ValueError for
    shares that are none or leave a split without an example.
    """
    examples = dict(examples)
    if "train" not in examples:
        raise ValueError(
            f"{source}: a split named train is needed, but there are {', '.join(examples)}: add it"
        )
    if "validation" in examples:
        validation = 0
    if "test" in examples:
        test = 0
    train = examples["train"]
    for name, share in (("validation", validation), ("test", test)):
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share < 1:
            raise ValueError(f"{name} must be a share in [0, 1), but is {share!r}: give one")
    n = len(train.labels)
    counts = {"test": round(test * n), "validation": round(validation * n)}
    empty = [name for name, share in (("test", test), ("validation", validation)) if share]
    empty = [name for name in empty if not counts[name]]
    if sum(counts.values()) >= n or empty or not (test or "test" in examples):
        raise ValueError(
            f"{source}: validation={validation} and test={test} leave {n - sum(counts.values())}, "
            f"{counts['validation']} and {counts['test']} of {n} examples to train, validate and "
            "test on, and at least 1 is needed of each: choose other shares"
        )
    order = _order(train.labels if stratify else None, n, seed)
    ends = np.cumsum([counts["test"], counts["validation"]])
    held, validated, kept = (np.sort(part) for part in np.split(order, ends))
    found = {"train": train.rows(kept)}
    found["validation"] = examples.get("validation", train.rows(validated))
    found["test"] = examples.get("test", train.rows(held))
    return found


def _order(classes: np.ndarray | None, n: int, seed: int) -> np.ndarray:
    """A drawn order of n examples, each class spread evenly over it.

    Of a class of m examples the i-th stands at (i + 1/2) / m of the way, so that the first share of
    the order holds that share of each class, and a class of one example comes in the middle.
    """
    # RandomState, not default_rng: numpy promises that its stream never changes.
    order = np.random.RandomState(seed).permutation(n)
    if classes is None:
        return order
    place = np.empty(n)
    for value in np.unique(classes):
        members = np.flatnonzero(classes[order] == value)
        place[members] = (np.arange(len(members)) + 0.5) / len(members)
    return order[np.argsort(place, kind="stable")]


def without_gaps(
    source: object,
    examples: Mapping[str, Examples],
    gaps: Callable[[Examples], Mapping[str, np.ndarray]],
    missing: Missing,
) -> dict[str, Examples]:
    """The examples, those with a value missing dropped where ``missing`` is ``drop``.

    ``gaps`` gives for each column that misses values which rows do. Where ``missing`` is ``mean``
    the inputs stay as they are, for :func:`filled`. Raises ValueError where values are missing and
    nothing is said of them, and for another word.
    """
    if missing not in (None, "mean", "drop"):
        raise ValueError(f"missing must be mean, drop or null, but is {missing!r}: choose one")
    found = {name: gaps(each) for name, each in examples.items()}
    counts: dict[str, int] = {}
    for columns in found.values():
        for column, rows in columns.items():
            counts[column] = counts.get(column, 0) + int(rows.sum())
    if not counts:
        return dict(examples)
    said = ", ".join(f"{count} in {column}" for column, count in list(counts.items())[:5])
    said += f" and in {len(counts) - 5} more columns" if len(counts) > 5 else ""
    if missing is None:
        raise ValueError(
            f"{source}: no value may be missing, but these are: {said}: set missing=mean for the "
            "train split's means, or missing=drop to leave out such rows"
        )
    if missing == "mean":
        log.warning("%s: missing values are set to the train split's means: %s", source, said)
        return dict(examples)
    kept = {
        name: examples[name].rows(np.flatnonzero(~np.any(list(columns.values()), axis=0)))
        if columns
        else examples[name]
        for name, columns in found.items()
    }
    for name, each in kept.items():
        if not len(each.labels):
            raise ValueError(
                f"{source}: missing=drop leaves no row of {name}, since each misses a value: "
                f"{said}: leave out those columns, or set missing=mean"
            )
    dropped = sum(len(examples[name].labels) - len(kept[name].labels) for name in kept)
    log.warning("%s: %d rows with missing values are left out: %s", source, dropped, said)
    return kept


def filled(source: object, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays with each NaN set to the mean of its place over the train split."""
    if not any(each.dtype.kind == "f" and np.isnan(each).any() for each in inputs.values()):
        return dict(inputs)
    known = ~np.isnan(inputs["train"])
    if not known.any(axis=0).all():
        raise ValueError(
            f"{source}: {np.count_nonzero(~known.any(axis=0))} inputs have no value at all in the "
            "train split, so none for its mean: leave out those columns"
        )
    sums = np.where(known, inputs["train"], 0).sum(axis=0, dtype=np.float64)
    means = (sums / known.sum(axis=0)).astype(inputs["train"].dtype)
    return {name: np.where(np.isnan(each), means, each) for name, each in inputs.items()}


def assembled(
    source: object,
    inputs: Mapping[str, np.ndarray],
    examples: Mapping[str, Examples],
    answers: Answers,
    *,
    metrics: Sequence[str],
    numbers: np.ndarray | None = None,
) -> Data:
    """The task: inputs and targets standardised by the train split, what is odd said.

    ``numbers`` marks the inputs, by their last axis, that are standardised; None is all.
    """
    labels = {name: examples[name].labels for name in SPLITS}
    targets = None
    if answers.kind == "targets":
        mean, scale = labels["train"].mean(axis=0), labels["train"].std(axis=0)
        scale = np.where(scale > 0, scale, 1)
        labels = {name: ((y - mean) / scale).astype(np.float32) for name, y in labels.items()}
        targets = Targets(mean=mean.astype(np.float32), scale=scale.astype(np.float32))
    elif answers.kind == "classes":
        _say_unseen(source, labels, answers.names)
    train, validation, test = (Split(inputs[name], labels[name]) for name in SPLITS)
    data = Data(
        train,
        validation,
        test,
        outputs=answers.outputs,
        kind=answers.kind,
        names=answers.names,
        targets=targets,
        metrics=tuple(metrics),
    )
    say_shared(source, data)
    return standardise(data, numbers)


def _say_unseen(source: object, labels: Mapping[str, np.ndarray], names: tuple[str, ...]) -> None:
    unseen = np.setdiff1d(np.concatenate(list(labels.values())), labels["train"])
    if len(unseen):
        said = ", ".join(names[index] for index in unseen[:5])
        log.warning("%s: %d classes have no train example: %s", source, len(unseen), said)


def say_shared(source: object, data: Data) -> None:
    """Log how many held-out examples have the inputs, byte for byte, of a train example."""
    seen = {hash(row.tobytes()) for row in data.train.inputs}
    for name in ("validation", "test"):
        inputs = getattr(data, name).inputs
        count = sum(hash(row.tobytes()) in seen for row in inputs)
        if count:
            log.warning(
                "%s: %d of %d %s examples have the same inputs as a train example",
                source,
                count,
                len(inputs),
                name,
            )

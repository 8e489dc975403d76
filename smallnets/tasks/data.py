"""A task's examples, whole and in memory, and the pure functions that prepare them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from smallnets.tasks.metrics import Kind, Metric, scores
from smallnets.tasks.preparation import Preparation, Targets

NUMBERS = (np.float32, np.uint8)


@dataclass(frozen=True, eq=False)
class Split:
    """Examples and their labels; the arrays become read-only, since a split may be shared.

    ``inputs`` is float32 ``[n, ...]``, channels last; uint8 of the same shapes, which training
    prepares batch by batch; or int32 ``[n, T]``: tokens. ``labels`` is int32 ``[n]``, a class each,
    or ``[n, T]`` where each of T positions may have one: -1 is none; int32 ``[n, k]`` of 0 and 1
    where each of k labels may be given; or float32 ``[n, k]``: k targets. ``bytes`` is the length
    of the text that the labels spell, where they spell one.
    Raises ValueError if a shape or type differs, or if a number is not finite.
    """

    inputs: np.ndarray
    labels: np.ndarray
    bytes: int | None = None

    def __post_init__(self):
        tokens = self.inputs.dtype == np.int32 and self.inputs.ndim == 2
        if not tokens and (self.inputs.dtype not in NUMBERS or self.inputs.ndim < 2):
            raise ValueError(
                f"inputs: float32 or uint8 [n, ...] or int32 [n, T] is needed, got "
                f"{self.inputs.dtype} {self.inputs.shape}; convert them, with one leading axis for "
                "the examples"
            )
        targets = self.labels.dtype == np.float32
        shape = self.inputs.shape[: 2 if tokens and self.labels.ndim == 2 else 1]
        if (
            self.labels.dtype not in (np.int32, np.float32)
            or self.labels.shape[: len(shape)] != shape
            or self.labels.ndim > 2
            or (targets and self.labels.ndim != 2)
        ):
            raise ValueError(
                f"labels: int32 {shape} is needed, one for each input, or float32 {(*shape, 'k')} "
                f"for k targets, got {self.labels.dtype} {self.labels.shape}; convert them or drop "
                "the surplus"
            )
        for name, array in (("inputs", self.inputs), ("labels", self.labels)):
            if array.dtype.kind == "f" and (count := _not_finite(array)):
                raise ValueError(f"{name}: {count} values are not finite; clean the source")
        self.inputs.flags.writeable = False
        self.labels.flags.writeable = False

    def __len__(self) -> int:
        return len(self.labels)

    def bits_per_byte(self, nats: float) -> float:
        """A loss of ``nats`` per label as bits per byte of text: nats / ln 2 * labels / bytes.

        So models of different tokens are compared. NaN where the labels spell no text.
        """
        count = np.count_nonzero(self.labels >= 0)
        return nats / math.log(2) * count / self.bytes if self.bytes else math.nan


@dataclass(frozen=True, eq=False)
class Data:
    """A task: three splits, what is asked of each example, and by what answers are scored.

    ``outputs`` is how many numbers a network returns for an example, or of text for a token: one
    for each of the classes where ``kind`` is ``classes``, each of the ``targets``, or each of the
    ``labels`` that an example may have. ``names`` are those of the classes, targets or labels,
    where they have any; ``validation`` may be empty. ``preparation`` is what made the inputs of a
    raw example's, or, where they are uint8, what makes them: a trained model keeps it. So it does
    ``targets``, which turns answers into the targets' units. ``metrics`` are scored besides the
    usual ones (:mod:`smallnets.tasks.metrics`). ``licence`` says under which terms the examples may
    be used; empty where the task does not know.

    Raises ValueError if the splits differ in shape, if ``train`` or ``test`` is empty, if labels
    are not of the kind, if one lies outside ``[0, outputs)`` and is not a position's -1, if an
    example has no label but -1, or for a metric that is none of the kind's.
    """

    train: Split
    validation: Split
    test: Split
    outputs: int
    kind: Kind = "classes"
    names: tuple[str, ...] = ()
    preparation: Preparation = field(default_factory=Preparation)
    targets: Targets | None = None
    metrics: tuple[str | Metric, ...] = ()
    licence: str = ""

    def __post_init__(self):
        for name in ("train", "validation", "test"):
            split: Split = getattr(self, name)
            shape, expected = split.inputs.shape[1:], self.train.inputs.shape[1:]
            if shape != expected:
                raise ValueError(f"{name}: inputs are {shape}, train's {expected}; make them equal")
            if not len(split) and name != "validation":
                raise ValueError(f"{name}: holds no examples, at least 1 is needed; add some")
            self._check_labels(name, split)
        scores(self.kind, self.metrics, self.targets)

    def _check_labels(self, name: str, split: Split) -> None:
        labels = split.labels
        if self.kind != "classes":
            kind = np.float32 if self.kind == "targets" else np.int32
            if labels.dtype != kind or labels.shape[1:] != (self.outputs,):
                raise ValueError(
                    f"{name}: {self.kind} are {np.dtype(kind)} {(len(split), self.outputs)}, these "
                    f"are {labels.dtype} {labels.shape}; convert them"
                )
            if self.kind == "labels" and not np.isin(labels, (0, 1)).all():
                raise ValueError(f"{name}: labels are 0 or 1 each, these are not; convert them")
            return
        if labels.dtype != np.int32:
            raise ValueError(
                f"{name}: classes are whole numbers, these are {labels.dtype}; convert them, or "
                "set kind=targets"
            )
        least = 0 if labels.ndim == 1 else -1
        if len(split) and not least <= labels.min() <= labels.max() < self.outputs:
            raise ValueError(
                f"{name}: labels lie in [{least}, {self.outputs}), these run from "
                f"{labels.min()} to {labels.max()}; number the classes from 0"
            )
        if least and (labels < 0).all(axis=1).any():
            raise ValueError(
                f"{name}: each example needs a label, in some all are -1; drop those examples"
            )

    @property
    def raw(self) -> bool:
        """Whether the inputs are held as they came, and prepared batch by batch."""
        return self.train.inputs.dtype == np.uint8

    @property
    def streamed(self) -> bool:
        """Whether the train split's inputs stay on disk, and batches are read as training goes."""
        return isinstance(self.train.inputs, np.memmap)

    @property
    def scores(self) -> tuple[Metric, ...]:
        """What each held-out split is scored by, the loss first; targets are in their units."""
        return scores(self.kind, self.metrics, self.targets)


def _not_finite(array: np.ndarray) -> int:
    """How many of an array's values are not, looked at a part at a time."""
    parts = range(0, len(array), 2**16)
    return sum(int(np.count_nonzero(~np.isfinite(array[at : at + 2**16]))) for at in parts)


def check_share(validation: float) -> None:
    """Raise ValueError unless ``validation`` is a number in ``[0, 1)``."""
    if not isinstance(validation, int | float) or not 0 <= validation < 1:
        raise ValueError(
            f"validation: a share of the train split in [0, 1) is needed, got {validation!r}; "
            "give for example validation=0.1"
        )


def hold_out(data: Data, validation: float) -> Data:
    """Move ``round(validation * n)`` of the ``n`` train examples to the validation split.

    They are the first of one fixed permutation, the same for every run and every seed; those that
    stay keep their order. Raises ValueError for a share outside ``[0, 1)`` or one that leaves
    either side empty.
    """
    check_share(validation)
    if validation == 0:
        return data
    n = len(data.train)
    count = round(validation * n)
    if not 0 < count < n:
        raise ValueError(
            f"validation: a share of {validation} holds out {count} of {n} train examples, and "
            "both sides need at least 1; choose another share, or 0 for none"
        )
    # RandomState, not default_rng: numpy promises that its stream never changes.
    order = np.random.RandomState(0).permutation(n)
    held, kept = np.sort(order[:count]), np.sort(order[count:])
    train = data.train
    return replace(
        data,
        train=Split(train.inputs[kept], train.labels[kept]),
        validation=Split(train.inputs[held], train.labels[held]),
    )


def standardise(data: Data, numbers: np.ndarray | None = None) -> Data:
    """Give each channel (the last axis) mean 0 and variance 1 over the train split.

    All splits are shifted and scaled by the train split's numbers alone, so hold out first. A
    channel that is constant in the train split is only shifted. Inputs of uint8 stay as they are:
    they are shifted and scaled in training, batch by batch. Where ``numbers`` is given, channels
    that it does not mark stay as they are.
    """
    axes = tuple(range(data.train.inputs.ndim - 1))
    mean = data.train.inputs.mean(axes, dtype=np.float64, keepdims=True).astype(np.float32)
    if data.raw:  # without a copy of all in float
        sizes = np.mean([np.square(x - mean[0]).mean(axes[:-1]) for x in data.train.inputs], axis=0)
        variance = sizes.reshape(mean.shape)
    else:
        variance = np.square(data.train.inputs - mean).mean(axes, dtype=np.float64, keepdims=True)
    scale = np.where(variance > 0, np.sqrt(variance), 1).astype(np.float32)
    if numbers is not None:
        mean, scale = (np.where(numbers, a, b) for a, b in ((mean, 0), (scale, 1)))
        mean, scale = mean.astype(np.float32), scale.astype(np.float32)
    if data.raw:
        return replace(data, preparation=Preparation(mean=mean, scale=scale))

    def moved(split: Split) -> Split:
        return Split((split.inputs - mean) / scale, split.labels)

    return replace(
        data,
        train=moved(data.train),
        validation=moved(data.validation),
        test=moved(data.test),
        preparation=Preparation(mean=mean, scale=scale),
    )


def check_whole(options: Mapping[str, object], *, least: int) -> None:
    """Raise ValueError unless each of the named options is a whole number from ``least``."""
    for name, value in options.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ValueError(
                f"{name} must be a whole number from {least}, but is {value!r}: give one"
            )

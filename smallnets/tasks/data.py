"""A task's examples, whole and in memory, and the pure functions that prepare them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from smallnets.tasks.preparation import Preparation


@dataclass(frozen=True, eq=False)
class Split:
    """Examples and their classes; the arrays become read-only, since a split may be shared.

    ``inputs`` is float32 ``[n, ...]``, channels last, or int32 ``[n, T]``: tokens. ``labels`` is
    int32 ``[n]``, or ``[n, T]`` where each of T positions may have one: -1 is none. ``bytes`` is
    the length of the text that the labels spell, where they spell one.
    Raises ValueError if a shape or type differs, or if an input is not a finite number.
    """

    inputs: np.ndarray
    labels: np.ndarray
    bytes: int | None = None

    def __post_init__(self):
        tokens = self.inputs.dtype == np.int32 and self.inputs.ndim == 2
        if not tokens and (self.inputs.dtype != np.float32 or self.inputs.ndim < 2):
            raise ValueError(
                f"inputs: float32 [n, ...] or int32 [n, T] is needed, got {self.inputs.dtype} "
                f"{self.inputs.shape}; convert them, with one leading axis for the examples"
            )
        shape = self.inputs.shape[: 2 if self.labels.ndim == 2 else 1]
        if self.labels.dtype != np.int32 or self.labels.shape != shape:
            raise ValueError(
                f"labels: int32 {shape} is needed, one for each input, got "
                f"{self.labels.dtype} {self.labels.shape}; convert them or drop the surplus"
            )
        if not np.isfinite(self.inputs).all():
            count = np.count_nonzero(~np.isfinite(self.inputs))
            raise ValueError(f"inputs: {count} values are not finite; clean the source")
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
    """A classification task: three splits and the number of classes; ``validation`` may be empty.

    ``names`` are those of the classes, where they have any. ``preparation`` is what made the inputs
    of a raw example's: a trained model keeps it.

    Raises ValueError if the splits differ in shape, if ``train`` or ``test`` is empty, if a label
    lies outside ``[0, classes)`` and is not a position's -1, or if an example has no label but -1.
    """

    train: Split
    validation: Split
    test: Split
    classes: int
    names: tuple[str, ...] = ()
    preparation: Preparation = field(default_factory=Preparation)

    def __post_init__(self):
        for name in ("train", "validation", "test"):
            split: Split = getattr(self, name)
            shape, expected = split.inputs.shape[1:], self.train.inputs.shape[1:]
            if shape != expected:
                raise ValueError(f"{name}: inputs are {shape}, train's {expected}; make them equal")
            if not len(split) and name != "validation":
                raise ValueError(f"{name}: holds no examples, at least 1 is needed; add some")
            least = 0 if split.labels.ndim == 1 else -1
            if len(split) and not least <= split.labels.min() <= split.labels.max() < self.classes:
                raise ValueError(
                    f"{name}: labels lie in [{least}, {self.classes}), these run from "
                    f"{split.labels.min()} to {split.labels.max()}; number the classes from 0"
                )
            if least and (split.labels < 0).all(axis=1).any():
                raise ValueError(
                    f"{name}: each example needs a label, in some all are -1; drop those examples"
                )


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


def standardise(data: Data) -> Data:
    """Give each channel (the last axis) mean 0 and variance 1 over the train split.

    All splits are shifted and scaled by the train split's numbers alone, so hold out first. A
    channel that is constant in the train split is only shifted.
    """
    axes = tuple(range(data.train.inputs.ndim - 1))
    mean = data.train.inputs.mean(axes, dtype=np.float64, keepdims=True).astype(np.float32)
    variance = np.square(data.train.inputs - mean).mean(axes, dtype=np.float64, keepdims=True)
    scale = np.where(variance > 0, np.sqrt(variance), 1).astype(np.float32)

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

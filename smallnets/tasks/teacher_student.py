"""Points of a stated dimension, classified by a random network, some of them wrongly."""

import itertools
import math
from collections.abc import Callable

import numpy as np

from smallnets.tasks.data import Data, Split, check_whole
from smallnets.tasks.room import check_room

SAMPLE = 10_000  # points that the teacher's logits are centred and scaled on


def load(
    *,
    seed: int,
    dimension: int,
    width: int,
    depth: int,
    classes: int,
    noise: float,
    train: int,
    validation: int,
    test: int,
) -> Data:
    """x ~ N(0, 1)^d and a random network's answer, label = argmax f(x), or else another class.

    ``inputs[n, d]`` are float32, d = ``dimension``; ``labels[n]``, ``classes`` classes. The teacher
    f has ``depth`` hidden layers of ``width`` with ReLU, its weights N(0, 2 / fan_in) and biases
    N(0, 1), drawn by ``seed``; each logit is centred and scaled to variance 1 over 10,000 points,
    so that no class is rare. With the probability ``noise`` a label is replaced by one of the other
    classes, drawn evenly, in every split alike. ``train``, ``validation`` and ``test`` count
    independent points. They are drawn at load, 100,000 in about a second: a cache would not pay.

    **The truth**: no student's expected error is below ``noise``, which a network of the teacher's
    widths can reach, nor its loss below :func:`bayes_loss`. Between smooth functions, and where
    training is no limit, theory expects what is above to fall with the student's parameters N as
    N^(-4 / d) or faster; here the classes have edges, so that it need not.

    Source: Sharma & Kaplan 2020, arXiv:2004.10802, section 2 (teacher, 4 / d); Bahri et al. 2021,
    arXiv:2102.06701. Raises ValueError for counts below 1, fewer than 2 classes, a noise that
    makes another class as likely as the teacher's, and points that do not fit into memory.
    """
    check_whole({"seed": seed, "validation": validation}, least=0)
    check_whole({"dimension": dimension, "width": width, "depth": depth}, least=1)
    check_whole({"train": train, "test": test}, least=1)
    bayes_loss(classes=classes, noise=noise)  # refuses both
    largest = max(train, validation, test, SAMPLE)
    check_room(
        points=(train + validation + test, dimension, 4),
        teacher=(dimension + depth * width + classes, width + 1, 8),
        answers=(largest, max(dimension, width, classes), 16),
    )
    answer = teacher(seed=seed, dimension=dimension, width=width, depth=depth, classes=classes)

    def split(place: int, count: int) -> Split:
        draw = np.random.default_rng([seed, 1, place])
        x = draw.standard_normal((count, dimension), np.float32)
        wrong = draw.random(count) < noise
        shift = np.where(wrong, draw.integers(1, classes, size=count), 0)
        return Split(x, ((answer(x) + shift) % classes).astype(np.int32))

    splits = (split(place, count) for place, count in enumerate((train, validation, test)))
    return Data(*splits, outputs=classes)


def teacher(
    *, seed: int, dimension: int, width: int, depth: int, classes: int
) -> Callable[[np.ndarray], np.ndarray]:
    """The teacher of :func:`load` as a function ``x[n, d] -> classes[n]``."""
    draw = np.random.default_rng([seed, 0])
    fans = [dimension, *[width] * depth, classes]
    layers = [
        (draw.normal(0, math.sqrt(2 / fan_in), (fan_in, fan_out)), draw.normal(0, 1, fan_out))
        for fan_in, fan_out in itertools.pairwise(fans)
    ]

    def logits(x: np.ndarray) -> np.ndarray:
        for weights, biases in layers[:-1]:
            x = np.maximum(x @ weights + biases, 0)
        weights, biases = layers[-1]
        return x @ weights + biases

    some = logits(draw.normal(size=(SAMPLE, dimension)))
    mean, deviation = some.mean(axis=0), some.std(axis=0)
    return lambda x: ((logits(x) - mean) / deviation).argmax(axis=1)


def bayes_loss(*, classes: int, noise: float) -> float:
    """The entropy of a label given its point, in nats: with e = ``noise`` and C ``classes``

        -(1 - e) ln(1 - e) - e ln(e / (C - 1)).

    Raises ValueError for fewer than 2 classes and a noise outside [0, 1 - 1 / C).
    """
    check_whole({"classes": classes}, least=2)
    if not isinstance(noise, int | float) or not 0 <= noise < 1 - 1 / classes:
        raise ValueError(
            f"noise must be a share in [0, 1 - 1 / classes), but is {noise!r} for {classes} "
            "classes: lower it"
        )
    kept = -(1 - noise) * math.log(1 - noise)
    return kept - noise * math.log(noise / (classes - 1)) if noise else kept

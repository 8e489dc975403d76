"""Batches of a train split that stays on disk, in the order that training in memory has.

Grain (Google, github.com/google/grain) reads them on threads of its own while the device trains.
Which examples a step sees is a function of the run's seed and of the step alone, so that training
goes on anywhere at the exact example.
"""

import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import numpy as np

from smallnets.tasks.data import Data
from smallnets.training.fit import Arrays, keys_of, order_of
from smallnets.training.trainer import Trainer

READ_AHEAD = 2**28  # bytes of batches that are read before they are asked for


class Batches:
    """A run's batches, by step: what Grain calls a random-access source.

    Batch ``step`` is the examples ``order(epoch)[i B .. (i + 1) B]``, with i the step within its
    epoch and B the batch size.
    """

    def __init__(self, trainer: Trainer, data: Data, seed: int):
        self._train, self._size, self._steps = data.train, trainer.batch_size, trainer.steps
        self._in_epoch = len(data.train) // trainer.batch_size
        self._key = keys_of(seed)[1]
        self._known: dict[int, np.ndarray] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        epoch, place = divmod(int(step), self._in_epoch)
        rows = self._order(epoch)[place * self._size : (place + 1) * self._size]
        return np.asarray(self._train.inputs[rows]), self._train.labels[rows]

    def _order(self, epoch: int) -> np.ndarray:
        with self._lock:
            if epoch not in self._known:
                found = jax.jit(order_of, static_argnums=2)(self._key, epoch, len(self._train))
                self._known[epoch] = np.asarray(found)
                self._known.pop(epoch - 2, None)  # threads that read ahead may still want the last
            return self._known[epoch]


def stretches(trainer: Trainer, data: Data, seeds: np.ndarray, done: int) -> Iterator[Any]:
    """The batches of runs from one evaluation to the next, after ``done`` evaluations.

    Each is :class:`Arrays` of ``[runs, steps, batch, ...]``; None where the data are in memory.
    """
    if not data.streamed:
        while True:
            yield None
    import grain  # pyright: ignore[reportMissingImports]

    steps = trainer.steps // trainer.evaluations
    blank = blank_batches(trainer, data, len(seeds))
    one = (blank.inputs[:, 0].nbytes + blank.labels[:, 0].nbytes) // len(seeds)
    ahead = max(1, min(steps, READ_AHEAD // (one * len(seeds))))
    read = grain.ReadOptions(num_threads=min(16, ahead), prefetch_buffer_size=ahead)
    sources = [grain.MapDataset.source(Batches(trainer, data, seed)) for seed in seeds]
    readers = [iter(source[done * steps :].to_iter_dataset(read)) for source in sources]
    for _ in range(done, trainer.evaluations):
        found = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), blank)
        for run, reader in enumerate(readers):
            for step in range(steps):
                found.inputs[run, step], found.labels[run, step] = next(reader)
        yield found


def blank_batches(trainer: Trainer, data: Data, runs: int) -> Any:
    """What :func:`stretches` gives, all zeros that take no memory."""
    if not data.streamed:
        return None
    lead = (runs, trainer.steps // trainer.evaluations, trainer.batch_size)
    zeros = partial(_zeros, lead)
    return Arrays(zeros(data.train.inputs), zeros(data.train.labels))


def _zeros(lead: tuple[int, ...], like: np.ndarray) -> np.ndarray:
    return np.broadcast_to(np.zeros((), like.dtype), (*lead, *like.shape[1:]))

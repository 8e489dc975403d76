"""A run's key: a digest of what determines its numbers, by which it is found again.

The key holds every call of the config with its defaults, the fingerprint of the prepared data, the
keys of the runs that it starts and learns from, and ``smallnets.NUMERICS``, a number that is raised
by hand when numerics change. It leaves out what cannot change the numbers: the packages allowed,
the cache, folders, which model is saved, the budget whose sizes are in the model already, workers,
memory and the devices. Commit and versions stand in the row.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np

from smallnets import NUMERICS
from smallnets.tasks.data import Data
from smallnets.traced import calls, public_name
from smallnets.training.trainer import Trainer

# The data stand for the task.
LEFT_OUT = {"allow", "cache", "mesh", "save", "start", "study", "budget", "task"}
LEFT_OUT |= {"compress", "calibration"}
LEFT_OUT_OF_DISTIL = ("distil.teacher", "distil.memory")  # whose key stands beside; a place
OF_A_PASS = {"seed", "batch_size", "compress", "calibration"}
LENGTH = 16  # hexadecimal digits: among a million runs two share a key once in 10^7 studies


def run_keys(
    tree: partial[Trainer],
    values: dict[str, np.ndarray],
    data: str,
    ancestors: Sequence[str],
    *,
    started: bool,
) -> Iterator[str]:
    """The keys of runs on data of this fingerprint, which ``tree`` describes.

    They differ in their ancestors, and in ``values[path][i]`` at dotted paths. All are ``started``
    from a kept model, which stands for the model of the config, or none is. Raises ValueError for a
    value that has no name to be known by, such as a lambda.
    """
    left_out = LEFT_OUT | ({"model"} if started else set())
    if tree.keywords.get("compress"):  # of a pass, which trains nothing, only what it does and sees
        left_out = {*tree.keywords} - OF_A_PASS
    said = {
        path: _plain(path, value)
        for name, branch in tree.keywords.items()
        if name not in left_out
        for path, value in calls(branch, name)
        if not path.startswith(LEFT_OUT_OF_DISTIL)
    }
    varied = {path: array.tolist() for path, array in values.items() if path in said}
    for place, ancestor in enumerate(ancestors):
        said |= {path: numbers[place] for path, numbers in varied.items()}
        whole = json.dumps([NUMERICS, said, data, ancestor], sort_keys=True)
        yield hashlib.sha256(whole.encode()).hexdigest()[:LENGTH]


def fingerprint(data: Data) -> str:
    """A digest of all that a run takes of its data.

    That is the prepared arrays, and what a kept model is given: the names of its answers, what
    prepares raw inputs and what takes answers back to their units; and the metrics of its row.
    """
    digest = hashlib.sha256(f"{data.outputs} {data.kind}".encode())
    metrics = [metric if isinstance(metric, str) else metric.name for metric in data.metrics]
    digest.update(repr((data.names, data.preparation.tokenizer, metrics)).encode())
    for array in jax.tree.leaves((data.preparation, data.targets)):
        digest.update(np.asarray(array).tobytes())
    for name in ("train", "validation", "test"):
        split = getattr(data, name)
        for array in (split.inputs, split.labels):
            digest.update(f"{name} {array.dtype} {array.shape} {split.bytes}".encode())
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _plain(path: str, value: Any) -> Any:
    if callable(value):
        name = public_name(value)
        if "<lambda>" in name:
            raise ValueError(f"{path} must have a name to be known by, but is a lambda: define it")
        return name
    if isinstance(value, (list, tuple)):
        return [_plain(path, each) for each in value]
    return value.item() if isinstance(value, np.generic) else value

"""Which jobs one program trains: those whose configs agree in all but the varying numbers."""

import copy
import json
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from smallnets.launch.compose import Job
from smallnets.launch.usage import UsageError


class Group(NamedTuple):
    """Jobs that one program trains: ``values[path][i]`` is job i's number at a varying path."""

    jobs: list[Job]
    values: dict[str, np.ndarray]


def group(jobs: Iterable[Job]) -> list[Group]:
    """The groups, in the order of their first jobs.

    A value that is derived from a varying number without being one parts jobs: that is safe.
    Raises UsageError where a varying number is no number.
    """
    groups: dict[str, tuple[list[Job], list[dict[str, Any]]]] = {}
    for job in jobs:
        rest = copy.deepcopy(job.resolved)
        numbers = {
            path: _number(path, _take(rest, path), kind)
            for path, kind in job.varying.items()
            if _has(rest, path)
        }
        members = groups.setdefault(json.dumps([rest, list(numbers)], sort_keys=True), ([], []))
        members[0].append(job)
        members[1].append(numbers)
    return [
        Group(jobs, {path: np.stack([each[path] for each in numbers]) for path in numbers[0]})
        for jobs, numbers in groups.values()
    ]


def _has(config: Any, path: str) -> bool:
    name, _, rest = path.partition(".")
    if not isinstance(config, dict) or name not in config:
        return False
    return _has(config[name], rest) if rest else True


def _take(config: dict[str, Any], path: str) -> Any:
    """The value at a dotted path, taken out of the config."""
    *outer, name = path.split(".")
    for step in outer:
        config = config[step]
    return config.pop(name)


def _number(path: str, value: Any, kind: type) -> np.ndarray:
    """``value`` as a 32-bit number of the declared kind."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole and not (kind is float and isinstance(value, float)):
        wanted = "a whole number" if kind is int else "a number"
        raise UsageError(f"{path} must be {wanted}, but is {value!r}: give one")
    if kind is float and not abs(value) <= float(np.finfo(np.float32).max):
        raise UsageError(f"{path} must be a finite 32-bit number, but is {value}: choose one")
    if kind is int and not 0 <= value < 2**32:
        raise UsageError(f"{path} must lie between 0 and 2^32 - 1, but is {value}")
    return np.asarray(value, np.uint32 if kind is int else np.float32)

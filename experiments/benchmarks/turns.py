"""Calls timed in turns: what disturbs the machine disturbs all of them alike."""

import time
from collections.abc import Callable, Sequence

import jax
import numpy as np


def in_turns(
    calls: Sequence[Callable[[], object]],
    *,
    rounds: int,
    seconds: float = 0.0,
    warm_up: int = 2,
    clock: Callable[[], float] = time.perf_counter,
) -> np.ndarray:
    """[rounds, calls]: the seconds on ``clock`` of each call, to the end of its computation.

    At least ``rounds`` rounds and ``seconds`` of them, after ``warm_up`` rounds that don't count.
    """
    taken, ended = [], time.perf_counter() + seconds
    while len(taken) < warm_up + rounds or time.perf_counter() < ended:
        taken.append([])
        for call in calls:
            started = clock()
            jax.block_until_ready(call())
            taken[-1].append(clock() - started)
    return np.asarray(taken[warm_up:])

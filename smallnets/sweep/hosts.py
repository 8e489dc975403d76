"""Processes that train each program together, on one machine or many, each with its devices.

They are started alike, with the same words, on a folder that all see. Their environment says who
they are: JAX_COORDINATOR_ADDRESS is the host:port at which the first is to be met,
JAX_NUM_PROCESSES how many there are, JAX_PROCESS_ID which one this is, from 0; the latter two may
be left out where JAX finds them (Slurm, Open MPI, Kubernetes). The first writes and speaks for all.
A program of several processes hangs unless each calls the same at the same time, so that what
depends on a clock or a disk is agreed on here.
"""

import os
from typing import Any

import jax
import numpy as np

ADDRESS, COUNT, INDEX = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"


def join() -> None:
    """Meet the others, if the environment names any; to be called before a device is used.

    Raises ValueError where the environment's numbers are none.
    """
    if ADDRESS not in os.environ or jax.distributed.is_initialized():
        return
    for name in (COUNT, INDEX):
        if not os.environ.get(name, "0").isdecimal():
            raise ValueError(f"{name} must be a whole number, but is {os.environ[name]!r}: mend it")
    numbers = [int(os.environ[name]) if name in os.environ else None for name in (COUNT, INDEX)]
    jax.distributed.initialize(num_processes=numbers[0], process_id=numbers[1])


def leads() -> bool:
    """Whether this process writes and speaks: the first, or the only one."""
    return jax.process_index() == 0


def agreed(number: int) -> int:
    """The first process's number."""
    if jax.process_count() == 1:
        return number
    from jax.experimental import multihost_utils

    return int(multihost_utils.broadcast_one_to_all(np.int32(number)))


def check_same(number: int, what: str) -> None:
    """Raise ValueError where the processes have different numbers for ``what``, in all of them."""
    if jax.process_count() == 1:
        return
    from jax.experimental import multihost_utils

    if len({*multihost_utils.process_allgather(np.int32(number)).ravel().tolist()}) > 1:
        raise ValueError(
            f"the processes of a sweep must see the same {what}, but they differ: give all the "
            "same words, and a folder that all of them see"
        )


def wait(where: str) -> None:
    """Go on once all processes are here."""
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(where)


def gathered(tree: Any) -> Any:
    """The leaves as whole numpy arrays, one after another, in every process."""

    def whole(leaf: Any) -> np.ndarray:
        if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable or leaf.is_fully_replicated:
            return np.asarray(leaf)
        from jax.experimental import multihost_utils

        return np.asarray(multihost_utils.process_allgather(leaf, tiled=True))

    return jax.tree.map(whole, tree)

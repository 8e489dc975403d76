"""Where a run took place: what a row says so that it can be repeated."""

import os
import platform
import subprocess
import tempfile
from importlib.metadata import version
from pathlib import Path

import jax

from smallnets.launch.usage import UsageError


def device() -> str:
    """The kind of device that programs run on, and for a CPU how many cores."""
    kind = jax.devices()[0].device_kind
    return f"cpu ({cores()} cores)" if jax.default_backend() == "cpu" else kind


def versions() -> dict[str, str]:
    """Of the interpreter and of the packages that a result depends on."""
    packages = ("smallnets", "jax", "jaxlib", "flax", "optax", "numpy", "tensorflow-datasets")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def commit() -> str:
    """The commit of the checkout, ``-dirty`` if it was changed since; or "unknown"."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        said = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return said.stdout.strip() or "unknown"


def free_memory() -> int:
    """Bytes that the device has to give: of a CPU what is available now."""
    statistics = jax.devices()[0].memory_stats()
    if statistics and "bytes_limit" in statistics:
        return statistics["bytes_limit"] - statistics["bytes_in_use"]
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_folder(folder: Path) -> None:
    """Make the folder of results; raises UsageError where nothing can be written into it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UsageError(
            f"the results need a folder that can be written, but {folder} can not "
            f"({error.strerror}): set hydra.sweep.dir or hydra.run.dir"
        ) from error

"""The machine that a run took place on, and the commit of the code: what a row must say."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax


def device_name(device: Any) -> str:
    """A ``jax.Device`` in words: an accelerator's model, or the processor's and its cores."""
    if device.platform != "cpu":
        return device.device_kind
    return f"{_processor()}, {cores()} cores"


def _processor() -> str:
    """The processor's model, which only Linux's list of processors spells out."""
    listing = Path("/proc/cpuinfo")
    for line in listing.read_text().splitlines() if listing.exists() else ():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Of the interpreter and of the packages that a result depends on."""
    packages = ("smallnets", "jax", "jaxlib", "flax", "optax", "numpy", "tensorflow-datasets")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def commit() -> str:
    """The commit of the checkout that this code is of, with ``-dirty`` if anything in it differs,
    new files included; "unknown" outside a checkout of it."""
    try:
        _git("ls-files", "--error-unmatch", Path(__file__).name)
        named = _git("rev-parse", "--short=12", "HEAD")
        return f"{named}-dirty" if _git("status", "--porcelain") else named
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        timeout=10,
        check=True,
    ).stdout.strip()


def memory() -> int:
    """Bytes that the device has in all: of a CPU, the machine's."""
    statistics = jax.local_devices()[0].memory_stats()
    if statistics and "bytes_limit" in statistics:
        return statistics["bytes_limit"]
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def cores() -> int:
    """Those that this process may use: under taskset or Slurm fewer than the machine has.

    XLA has a thread for each, and how many there are is in the bits of large products.
    """
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1

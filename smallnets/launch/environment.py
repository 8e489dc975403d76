"""Where a run took place: what a row says so that it can be repeated."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import jax


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
    statistics = jax.devices()[0].memory_stats()
    if statistics and "bytes_limit" in statistics:
        return statistics["bytes_limit"]
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def cores() -> int:
    return os.cpu_count() or 1

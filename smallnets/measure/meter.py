"""Meters of energy: NVML for NVIDIA devices and RAPL for processors, both read through zeus.

zeus is optional (``pip install smallnets[energy]``). It returns nothing where it finds no meter,
and so does this module: no number stands in for one.
"""

import time
from collections.abc import Mapping
from typing import Any, Protocol

_WINDOW = "smallnets"


class Reading(Protocol):
    """What a meter gives for a window: seconds, and joules by index for each kind of part."""

    time: float
    gpu_energy: dict[int, float]
    cpu_energy: dict[int, float] | None
    dram_energy: dict[int, float] | None


class Meter(Protocol):
    """What is needed of ``zeus.monitor.ZeusMonitor``."""

    def begin_window(self, key: str, sync_execution: bool = True) -> None: ...

    def end_window(self, key: str, sync_execution: bool = True) -> Reading: ...


def find_meter() -> Meter | None:
    """This machine's meter; None without zeus, or where zeus finds neither a GPU nor RAPL.

    RAPL's counters need the right to read /sys/class/powercap (root, since Linux 5.10). zeus starts
    processes of its own for some meters: guard a script by ``if __name__ == "__main__":``.
    """
    try:
        from zeus.monitor import ZeusMonitor  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None
    monitor: Any = ZeusMonitor(sync_execution_with="jax")
    return monitor if monitor.gpu_indices or monitor.cpu_indices else None


def start(meter: Meter) -> None:
    """Open the window; what was dispatched before must have been waited for."""
    meter.begin_window(_WINDOW, sync_execution=False)


def stop(meter: Meter) -> tuple[float, dict[str, float]]:
    """Seconds and joules by part (``"GPU 0"``, ``"CPU package 0"``, ``"DRAM 0"``) since the start.

    The meter sees the whole part, whoever uses it.
    """
    reading = meter.end_window(_WINDOW, sync_execution=False)
    kinds = {
        "GPU": reading.gpu_energy,
        "CPU package": reading.cpu_energy or {},
        "DRAM": reading.dram_energy or {},
    }
    parts = {
        f"{kind} {index}": joules
        for kind, by_index in kinds.items()
        for index, joules in by_index.items()
    }
    return reading.time, parts


def idle_watts(meter: Meter, *, seconds: float = 5.0) -> Mapping[str, float]:
    """Watts of each part while this process sleeps: measure it before the work, on a calm machine.

    Raises ValueError for less than a second: meters update some ten times in one.
    """
    if seconds < 1:
        raise ValueError(f"idle power needs at least a second of sleep, but seconds={seconds}")
    start(meter)
    time.sleep(seconds)
    measured, parts = stop(meter)
    return {part: joules / measured for part, joules in parts.items()}

"""The name of the device that a number was measured on."""

import os
import platform
from pathlib import Path
from typing import Any


def device_name(device: Any) -> str:
    """A ``jax.Device`` in words: an accelerator's model, or the processor's and its cores."""
    if device.platform != "cpu":
        return device.device_kind
    return f"{_processor()}, {os.cpu_count()} cores"


def _processor() -> str:
    """The processor's model, which only Linux's list of processors spells out."""
    listing = Path("/proc/cpuinfo")
    for line in listing.read_text().splitlines() if listing.exists() else ():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine()

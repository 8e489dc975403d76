"""Whether a task's examples fit into memory: known by arithmetic, before anything is allocated."""

import math
import os

SHARE = 2  # a task may take half of the machine's memory, as a program may


def check_room(**arrays: tuple[float, ...]) -> None:
    """Raise ValueError where arrays do not fit into half of this machine's memory together.

    Each is named by what it holds and given as the factors of its size, the last of them the bytes
    of a number. A factor may be infinite, as :func:`power` is for what no number can hold.
    """
    sizes = {name: math.prod(map(float, factors)) for name, factors in arrays.items()}
    whole, room = sum(sizes.values()), memory() // SHARE
    if whole > room:
        largest = max(sizes, key=lambda name: sizes[name])
        factors = " x ".join(f"{factor:,.6g}" for factor in arrays[largest])
        raise ValueError(
            f"a task is held in memory, but this one takes {whole:.3g} bytes of {room:.3g}, which "
            f"are half of the machine's, most of them for {largest} ({factors} bytes): choose "
            "smaller numbers"
        )


def power(base: int, exponent: int) -> float:
    """base^exponent, infinite where that is beyond what a float holds."""
    return math.inf if exponent * math.log2(base) > 1000 else float(base**exponent)


def memory() -> int:
    """Bytes that the machine has in all."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")

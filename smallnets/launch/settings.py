from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax

from smallnets.launch import environment
from smallnets.launch.usage import UsageError
from smallnets.train.program import EXECUTIONS, Execution, fastest_execution


class Means(NamedTuple):
    """What programs are run with on this machine; see :class:`Settings`."""

    execution: Execution
    memory_limit: int
    workers: int


@dataclass(frozen=True)
class Settings:
    """How programs are run: what the launcher's config sets.

    ``execution`` is vmap, map or auto (what is faster on the device); ``memory_limit`` the bytes
    that a program may take (None: its share of half of what
    the device has, so that it does not change from run to run); ``workers`` the programs
    under way at once (None: one a core on a CPU, else one).
    """

    execution: Execution | Literal["auto"] = "auto"
    memory_limit: int | None = None
    workers: int | None = None

    def __post_init__(self):
        known = ("auto", *EXECUTIONS)
        if self.execution not in known:
            raise UsageError(f"execution must be one of {', '.join(known)}, not {self.execution}")
        for name in ("memory_limit", "workers"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name} must be at least 1, but is {value}: or leave it null")

    def here(self, *, programs: int) -> Means:
        """The same for this machine and so many programs, with nothing left open."""
        platform = jax.default_backend()
        workers = self.workers or (environment.cores() if platform == "cpu" else 1)
        workers = min(workers, programs)
        return Means(
            execution=fastest_execution(platform) if self.execution == "auto" else self.execution,
            memory_limit=self.memory_limit or environment.memory() // 2 // workers,
            workers=workers,
        )

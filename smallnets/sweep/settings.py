"""How programs are run: what the launcher's config sets, and what that is on this machine."""

from dataclasses import dataclass, fields
from typing import Literal, NamedTuple

import jax
from omegaconf import DictConfig, OmegaConf

from smallnets.measure import machine
from smallnets.training.batch import EXECUTIONS, Execution, fastest_execution
from smallnets.training.trainer import Trainer


class Chosen(NamedTuple):
    """What programs are run with; see :class:`Settings`."""

    execution: Execution | Literal["auto"]
    memory_limit: int
    workers: int
    checkpoint_seconds: float | None

    def execution_of(self, trainer: Trainer, runs: int) -> Execution:
        """How so many runs are trained: side by side where devices are to share them."""
        if self.execution != "auto":
            return self.execution
        if trainer.mesh().data > 1 and runs > 1:
            return "vmap"
        return fastest_execution(jax.default_backend())


LIMIT = 10_000  # runs, up to which each has a folder of its own


@dataclass(frozen=True)
class Settings:
    """How programs are run: what the launcher's config sets.

    ``execution`` is vmap, map or auto (what is faster on the device, and vmap where several share
    the runs); ``memory_limit`` the bytes of a device that a program may take (None: its share of
    half of what the device has, so that it does not change from run to run); ``workers`` the
    programs under way at once (None: one a core on a CPU, else one; always one where programs have
    several devices); ``carbon`` whether the end says CO2 and money beside joules.
    ``checkpoint_seconds`` lie between two checkpoints of runs in training (None: at least a minute,
    and fifty times what the last took to write); after ``time_limit`` seconds they are written and
    the sweep stops.
    Raises ValueError for another execution and for numbers too small.
    """

    execution: Execution | Literal["auto"] = "auto"
    memory_limit: int | None = None
    workers: int | None = None
    carbon: bool = False
    checkpoint_seconds: float | None = None
    time_limit: float | None = None
    folders: bool | None = None

    def __post_init__(self):
        known = ("auto", *EXECUTIONS)
        if self.execution not in known:
            raise ValueError(f"execution must be one of {', '.join(known)}, not {self.execution}")
        for name in ("memory_limit", "workers"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, but is {value}: or leave it null")
        for name in ("checkpoint_seconds", "time_limit"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be above 0, but is {value}: or leave it null")

    def has_folders(self, runs: int) -> bool:
        """Whether each of so many runs has a folder of its own."""
        return runs <= LIMIT if self.folders is None else self.folders

    def here(self, *, programs: int, devices: int) -> "Chosen":
        """What they are on this machine for so many programs, of so many devices at most."""
        on_cpu = jax.default_backend() == "cpu"
        workers = self.workers or (machine.cores() if on_cpu else 1)
        workers = min(workers, programs) if devices == 1 else 1
        sharing = jax.local_device_count() if on_cpu and devices > 1 else 1  # the machine's memory
        return Chosen(
            execution=self.execution,
            memory_limit=self.memory_limit or machine.memory() // 2 // workers // sharing,
            workers=workers,
            checkpoint_seconds=self.checkpoint_seconds,
        )


def settings_of(config: DictConfig) -> Settings:
    """What a config's launcher says; the defaults where it is another launcher."""
    said = OmegaConf.select(config, "hydra.launcher") or {}
    names = [each.name for each in fields(Settings)]
    return Settings(**{name: said[name] for name in names if name in said})

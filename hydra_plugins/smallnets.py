"""What Hydra finds at every start: two light classes; the work is in ``smallnets.sweep``."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper, BasicSweeperConf
from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.errors import CompactHydraException
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf


class BatchedLauncher(Launcher):
    """Trains the jobs of a multirun together where they differ only in numbers that may vary.

    See :mod:`smallnets.sweep.launcher`.
    """

    def __init__(
        self,
        execution: Any,
        memory_limit: int | None,
        workers: int | None,
        carbon: bool,
        checkpoint_seconds: float | None,
        time_limit: float | None,
        folders: bool | None,
    ):  # all are read from the config, as by smallnets.train
        del execution, memory_limit, workers, carbon, checkpoint_seconds, time_limit, folders

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        del task_function
        if OmegaConf.select(config, "_target_") != "smallnets.training.Trainer":
            raise CompactHydraException(
                "hydra/launcher=smallnets trains the configs of the command smallnets alone, and "
                "this app has others: choose another launcher"
            )
        self.hydra_context = hydra_context
        self.config = config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        from smallnets.sweep.launcher import launch

        return launch(self.hydra_context, self.config, job_overrides, initial_job_idx)


class UncheckedSweeper(BasicSweeper):
    """Hydra's basic sweeper, except that jobs are composed once: the launcher checks them all.

    With ``search``, jobs are drawn from what is swept: :mod:`smallnets.sweep.search`.
    """

    def __init__(
        self, max_batch_size: int | None, params: Any = None, search: dict[str, Any] | None = None
    ):
        super().__init__(max_batch_size, params)
        self.search = search

    def sweep(self, arguments: list[str]) -> Any:
        if not self.search or not self.params:  # such as one run of an experiment
            return super().sweep(arguments)
        from smallnets.sweep.search import sweep

        return sweep(self, arguments)

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        del batch


@dataclass
class BatchedLauncherConf:
    """``execution``: auto, vmap or map. ``memory_limit``: bytes for a program, null for half of
    what is free. ``workers``: programs under way at once, null for one a core on a CPU. ``carbon``:
    say at the end what the energy was in CO2 and money, at the world's averages.
    ``checkpoint_seconds``: between two checkpoints of runs in training, null for at most a fiftieth
    of the time. ``time_limit``: seconds after which they are written and the sweep stops.
    ``folders``: a folder for each run, or false for one Parquet a program; null for folders up to
    10,000 runs."""

    _target_: str = "hydra_plugins.smallnets.BatchedLauncher"
    execution: str = "auto"
    memory_limit: int | None = None
    workers: int | None = None
    carbon: bool = False
    checkpoint_seconds: float | None = None
    time_limit: float | None = None
    folders: bool | None = None


@dataclass
class UncheckedSweeperConf(BasicSweeperConf):
    """``search``: how many draws of ``params`` are trained, and which again; null trains all."""

    search: dict[str, Any] | None = None
    _target_: str = "hydra_plugins.smallnets.UncheckedSweeper"


_store: Any = ConfigStore.instance().store
_store(group="hydra/launcher", name="smallnets", node=BatchedLauncherConf, provider="smallnets")
_store(group="hydra/sweeper", name="smallnets", node=UncheckedSweeperConf, provider="smallnets")

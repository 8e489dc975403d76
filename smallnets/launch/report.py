from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig


class Report(Callback):
    """Writes the report of a multirun when all its jobs are done, and says where it lies."""

    def on_multirun_end(self, config: DictConfig, **details: Any) -> None:
        from smallnets.analysis import report

        del details
        folder = Path(config.hydra.sweep.dir)
        try:
            print(f"report: {report.build(folder)}")
        except ValueError as error:
            print(f"no report: {error}")

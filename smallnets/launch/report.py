from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig


class Report(Callback):
    """Writes the report of a multirun when all its jobs are done, and says where it lies.

    ``score`` and ``validation`` name the metrics that are drawn and that choose the rate.
    """

    def __init__(self, score: str = "test_error", validation: str = "validation_error") -> None:
        self.score, self.validation = score, validation

    def on_multirun_end(self, config: DictConfig, **details: Any) -> None:
        from smallnets.analysis import report

        del details
        folder = Path(config.hydra.sweep.dir)
        try:
            written = report.build(folder, score=self.score, validation=self.validation)
            print(f"report: {written}")
        except ValueError as error:
            print(f"no report: {error}")

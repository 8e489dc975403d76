"""Curves of every run in TensorBoard, by a callback of Hydra's.

    pip install ".[tensorboard]"
    python experiments/tensorboard_callback.py -m model.width=8,16 'seed=range(3)'
    tensorboard --logdir multirun/runs-mnist1d

The script is the command ``smallnets`` with the callback added; another tracker is the same with
other lines in ``on_job_end``. A run is heard of once its folder is there, with its row and model.
"""

import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from tensorboardX import SummaryWriter  # pyright: ignore[reportMissingImports]

from smallnets import rows
from smallnets.cli import main


class TensorBoard(Callback):
    """Writes each run's curves and its numbers into the run's folder."""

    def on_job_end(self, config: DictConfig, **details: Any) -> None:
        del details
        folder = Path(config.hydra.runtime.output_dir)
        row = rows.read(folder)
        with SummaryWriter(str(folder)) as writer:
            for name, curve in row.curves.items():
                for step, value in zip(row.curves["step"], curve, strict=True):
                    writer.add_scalar(name, value, int(step))
            setting = {"family": row.family, "seed": row.seed, "parameters": row.parameters}
            writer.add_text("run", str(setting))


if __name__ == "__main__":
    sys.argv += ["+hydra.callbacks.tensorboard._target_=tensorboard_callback.TensorBoard"]
    main()

from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from smallnets import records
from smallnets.launch import environment
from smallnets.launch.build import build
from smallnets.launch.compilations import counted
from smallnets.launch.compose import Job
from smallnets.launch.group import group
from smallnets.launch.settings import Settings
from smallnets.launch.train import prepare, put, rows, score, train
from smallnets.measure.energy import measure
from smallnets.measure.footprint import spelled
from smallnets.measure.meter import find_meter
from smallnets.varying import declared


def train_alone(config: DictConfig, hydra: Any) -> float:
    """Train the one run of ``config``, write its row into Hydra's folder; return its score.

    The score is the validation error at the last step, NaN without a validation split. Raises
    UsageError for what the user can mend.
    """
    folder = Path(hydra.runtime.output_dir)
    launcher = hydra.launcher
    settings = Settings(
        launcher.get("execution", "auto"), launcher.get("memory_limit"), launcher.get("workers")
    ).here(programs=1)
    resolved: Any = OmegaConf.to_container(config, resolve=True)
    whole = OmegaConf.create({"hydra": hydra})
    job = Job(0, whole, resolved, dict(declared(build(resolved))))
    ready = prepare(group([job])[0])
    console = Console()
    saying = f"training {ready.family}, {ready.parameters:,} parameters"
    with counted(Path(ready.run.cache).expanduser()) as compilations, console.status(saying):
        gauge = partial(measure, meter=find_meter())
        outcome = train(ready, put(ready.data), settings, gauge)
    row = next(rows(ready, outcome, settings.execution, environment.commit()))
    records.write(row, folder)
    scores = ", ".join(f"{name} {value:.4g}" for name, value in row.metrics.items())
    console.print(f"{row.family}, {row.parameters:,} parameters, {row.status}: {scores}")
    console.print(
        f"row: {folder / records.NAME} ({compilations}; training took {spelled([outcome.energy])})"
    )
    return score(row)

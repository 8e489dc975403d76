"""A plain Hydra sweep, as a user types it: what it leaves and what it costs."""

import io
import math
import re
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import jax.monitoring
import numpy as np
import pytest
from command import TINY, folders, smallnets
from omegaconf import OmegaConf

from smallnets.rows import Row, load
from smallnets.sweep.result import score

SWEEP = [
    "-m",
    "model=perceptron",
    "family=dense,low_rank",
    "model.widths=[8,8],[12,12]",
    "seed=0,1",
    "optimizer.learning_rate=1e-3,1e-2,1e30",
    *TINY,
]
COMPILED = "/jax/core/compile/backend_compile_duration"


@dataclass
class Study:
    folder: Path
    said: str
    compiled: int
    rows: list[Row]


def sweep(cache: Path, folder: Path) -> Study:
    compiled = []

    def listen(event: str, duration_secs: float, **details: str | int) -> None:
        if event == COMPILED:
            compiled.append(duration_secs)

    said = io.StringIO()
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        with redirect_stdout(said):
            smallnets(*SWEEP, *folders(cache, folder), report=True)
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    return Study(folder, " ".join(said.getvalue().split()), len(compiled), list(load(folder)))


@pytest.fixture(scope="module")
def study(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    return sweep(cache, tmp_path_factory.mktemp("sweep"))


def run_of(study: Study, family: str, width: int, seed: int, rate: float) -> Row:
    (found,) = (
        row
        for row in study.rows
        if (row.family, row.seed) == (f"perceptron {family}", seed)
        and row.config["model"]["widths"] == [width, width]
        and row.config["optimizer"]["learning_rate"] == rate
    )
    return found


@pytest.mark.slow
def test_families_times_widths_programs_are_compiled(study: Study):
    """24 runs of 2 families and 2 widths: 4 programs, and not one small one besides."""
    assert study.compiled == 4
    assert "4 programs: 4 compiled, 0 from the cache" in study.said


def test_every_job_has_its_row_and_hydras_files(study: Study):
    assert len(study.rows) == 24
    numbers = set()
    for row in study.rows:
        hydra = study.folder / row.key / ".hydra"
        overrides = list(OmegaConf.load(hydra / "overrides.yaml"))
        assert f"seed={row.seed}" in overrides
        config = OmegaConf.load(hydra / "config.yaml")
        assert config.optimizer.learning_rate == row.config["optimizer"]["learning_rate"]
        numbers.add(OmegaConf.load(hydra / "hydra.yaml").hydra.job.num)
    assert numbers == set(range(24))


def test_a_row_says_what_the_run_was(study: Study):
    row = run_of(study, "dense", 8, 0, 1e-3)
    assert (row.task, row.status) == ("mnist1d", "finished")
    assert row.parameters == 40 * 8 + 8 + 8 * 8 + 8 + 8 * 10 + 10
    assert (row.execution, row.members) == ("map", 6)
    assert row.energy["source"] in ("model", "meter")
    assert 0 < row.energy["joules"] < 1000
    assert row.curves["step"] == [10, 20]
    assert row.metrics["test_error"] == row.curves["test_error"][-1]
    assert row.metrics["best_step"] in row.curves["step"]
    assert not any("bits_per_byte" in name for name in row.metrics)  # these classes spell no text
    assert set(row.versions) >= {"python", "jax", "flax"}
    assert row.commit != "unknown"


def test_a_rate_that_diverges_says_so_and_leaves_its_neighbours(study: Study):
    for row in study.rows:
        diverged = row.config["optimizer"]["learning_rate"] == 1e30
        assert row.status == ("diverged" if diverged else "finished")
        assert np.isfinite(row.metrics["test_loss"]) != diverged
        assert np.isfinite(row.metrics["test_error"]) != diverged


@pytest.mark.slow
def test_a_run_of_many_equals_the_same_run_alone(study: Study, cache: Path, tmp_path: Path):
    network = ["model=perceptron", "family=low_rank", "model.widths=[12,12]"]
    smallnets(*network, "seed=1", "optimizer.learning_rate=1e-2", *TINY, *folders(cache, tmp_path))
    (alone,) = load(tmp_path)
    together = run_of(study, "low_rank", 12, 1, 1e-2)
    assert alone.key == together.key
    assert alone.curves == together.curves
    assert alone.config == together.config


def test_the_report_is_there(study: Study):
    assert f"report: {study.folder / 'report.html'}" in study.said
    for name in ("report.html", "curves.pdf", "curves.png"):
        assert (study.folder / name).stat().st_size > 10_000


@pytest.mark.slow
def test_the_same_sweep_in_another_folder_compiles_nothing(
    study: Study, cache: Path, tmp_path: Path
):
    again = sweep(cache, tmp_path)
    assert "4 programs: 0 compiled, 4 from the cache" in again.said
    for row, before in zip(again.rows, study.rows, strict=True):  # both in the order of their keys
        assert row.key == before.key
        for name, curve in row.curves.items():
            np.testing.assert_array_equal(curve, before.curves[name])


@pytest.mark.slow
def test_side_by_side_and_without_validation_the_rows_say_so(cache: Path, tmp_path: Path):
    side_by_side = ["seed=0,1", "hydra.launcher.execution=vmap", "task.validation=0"]
    smallnets("-m", "model=logistic", *side_by_side, *TINY, *folders(cache, tmp_path))
    rows = list(load(tmp_path))
    assert [(row.execution, row.members) for row in rows] == [("vmap", 2)] * 2
    for row in rows:
        assert not any("validation" in name or "best" in name for name in row.metrics)
        assert score(row) == math.inf  # what a sweeper would minimise


@pytest.mark.slow
def test_a_run_whose_last_update_blows_up_is_diverged(cache: Path, tmp_path: Path):
    """Its training loss is finite: it was taken before the update."""
    words = ["model.width=8", "model.depth=1", "optimizer.learning_rate=1e30"]
    words += ["steps=2", "evaluations=1", "batch_size=16"]
    smallnets(*words, *folders(cache, tmp_path))
    (row,) = load(tmp_path)
    assert math.isfinite(row.metrics["train_loss"])
    assert row.status == "diverged"
    assert math.isnan(row.metrics["test_loss"])


def test_the_largest_program_is_trained_first(cache: Path, tmp_path: Path, capfd):
    """A small one at the end leaves no thread waiting for long."""
    words = ["-m", "model=perceptron", "model.widths=[4],[64]", *TINY]
    smallnets(*words, "hydra.launcher.workers=1", *folders(cache, tmp_path))
    said = capfd.readouterr().out
    sizes = [
        int(each.replace(",", "")) for each in re.findall(r"([\d,]+) parameters: 1 runs", said)
    ]
    assert len(sizes) == 2
    assert sizes == sorted(sizes, reverse=True)

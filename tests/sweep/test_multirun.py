"""A plain Hydra sweep, as a user types it: what it leaves and what it costs."""

import io
import math
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import jax.monitoring
import numpy as np
import pytest
from command import TINY, folders, smallnets
from omegaconf import OmegaConf

from smallnets.rows import Row, load
from smallnets.sweep.execute import score

SWEEP = [
    "-m",
    "model=dense,mixture",
    "model.width=8,12",
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
    rows: dict[int, Row]


def sweep(cache: Path, folder: Path) -> Study:
    compiled = []

    def listen(event: str, duration_secs: float, **details: str | int) -> None:
        if event == COMPILED:
            compiled.append(duration_secs)

    said = io.StringIO()
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        with redirect_stdout(said):
            smallnets(*SWEEP, *folders(cache, folder))
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    rows = {int(path.parent.name): row for path, row in _rows(folder)}
    return Study(folder, said.getvalue(), len(compiled), rows)


def _rows(folder: Path):
    return zip(sorted(folder.rglob("row.json")), load(folder), strict=True)


@pytest.fixture(scope="module")
def study(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    return sweep(cache, tmp_path_factory.mktemp("sweep"))


def test_families_times_widths_programs_are_compiled(study: Study):
    """24 runs of 2 families and 2 widths: 4 programs, and not one small one besides."""
    assert study.compiled == 4
    assert "4 programs: 4 compiled, 0 from the cache" in " ".join(study.said.split())


def test_every_job_has_its_row_and_hydras_files(study: Study):
    assert sorted(study.rows) == list(range(24))
    for number, row in study.rows.items():
        hydra = study.folder / str(number) / ".hydra"
        overrides = list(OmegaConf.load(hydra / "overrides.yaml"))
        assert f"seed={row.seed}" in overrides
        config = OmegaConf.load(hydra / "config.yaml")
        assert config.optimizer.learning_rate == row.config["optimizer"]["learning_rate"]
        assert OmegaConf.load(hydra / "hydra.yaml").hydra.job.num == number


def test_a_row_says_what_the_run_was(study: Study):
    row = study.rows[0]
    assert (row.family, row.task, row.seed, row.status) == ("dense", "mnist1d", 0, "finished")
    assert row.parameters == 40 * 8 + 2 * (4 * 8 * 8 + 8) + 8 + 8 * 10
    assert (row.execution, row.members) == ("map", 6)
    assert row.energy["source"] in ("model", "meter")
    assert 0 < row.energy["joules"] < 1000
    assert row.curves["step"] == [10, 20]
    assert row.metrics["test_error"] == row.curves["test_error"][-1]
    assert row.metrics["best_step"] in row.curves["step"]
    assert set(row.versions) >= {"python", "jax", "flax"}
    assert row.config["model"]["width"] == 8
    assert row.commit != "unknown"


def test_a_rate_that_diverges_says_so_and_leaves_its_neighbours(study: Study):
    for row in study.rows.values():
        diverged = row.config["optimizer"]["learning_rate"] == 1e30
        assert row.status == ("diverged" if diverged else "finished")
        assert np.isfinite(row.metrics["test_loss"]) != diverged
        assert np.isfinite(row.metrics["test_error"]) != diverged


def test_a_member_equals_the_same_run_alone(study: Study, cache: Path, tmp_path: Path):
    arguments = ["model=mixture", "model.width=12", "seed=1", "optimizer.learning_rate=1e-2"]
    smallnets(*arguments, *TINY, *folders(cache, tmp_path))
    (alone,) = load(tmp_path)
    (together,) = (
        row
        for row in study.rows.values()
        if row.family == "mixture"
        and row.seed == 1
        and row.config["model"]["width"] == 12
        and row.config["optimizer"]["learning_rate"] == 1e-2
    )
    assert alone.curves == together.curves
    assert alone.config == together.config


def test_the_report_is_there(study: Study):
    assert f"report: {study.folder / 'report.html'}" in study.said
    for name in ("report.html", "curves.pdf", "curves.png"):
        assert (study.folder / name).stat().st_size > 10_000


def test_a_second_run_compiles_nothing(study: Study, cache: Path, tmp_path: Path):
    again = sweep(cache, tmp_path)
    assert "4 programs: 0 compiled, 4 from the cache" in " ".join(again.said.split())
    for number, row in again.rows.items():
        for name, curve in row.curves.items():
            np.testing.assert_array_equal(curve, study.rows[number].curves[name])


def test_under_vmap_the_row_says_so(cache: Path, tmp_path: Path):
    smallnets(
        "-m", "model.width=8", "seed=0,1", "hydra.launcher.execution=vmap", *TINY,
        *folders(cache, tmp_path),
    )  # fmt: skip
    assert [(row.execution, row.members) for row in load(tmp_path)] == [("vmap", 2)] * 2


def test_a_family_label_tells_what_else_was_changed(cache: Path, tmp_path: Path):
    """So that no two different models are taken for one family; one program trains the four."""
    smallnets(
        "-m", "model=residual,low_rank", "++model.width=8", "model/linear=low_rank",
        "model.linear.ratio=0.25,0.5", *TINY, *folders(cache, tmp_path),
    )  # fmt: skip
    assert sorted(row.family for row in load(tmp_path)) == [
        "low_rank",
        "low_rank linear.ratio=0.5",
        "residual linear=LowRank linear.rank=None linear.ratio=0.25",
        "residual linear=LowRank linear.rank=None linear.ratio=0.5",
    ]
    assert len({row.parameters for row in load(tmp_path)}) == 2


def test_without_validation_a_sweeper_gets_no_score_to_minimise(cache: Path, tmp_path: Path):
    row = next(iter(load(sweep_one(cache, tmp_path, "task.validation=0"))))
    assert not any("validation" in name or "best" in name for name in row.metrics)
    assert math.isnan(score(row))


def sweep_one(cache: Path, folder: Path, *overrides: str) -> Path:
    smallnets("-m", "model.width=8", *overrides, *TINY, *folders(cache, folder))
    return folder

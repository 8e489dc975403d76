"""A plan written down, trained by workers that know their rank, and collected."""

import json
import os
import subprocess
import sys
from pathlib import Path

import polars
import pytest
from command import assert_equal, folders, smallnets, users_environment

from smallnets import rows
from smallnets.analysis.table import from_rows
from smallnets.sweep import plan_file, progress
from smallnets.sweep.publish import DRAFTS
from smallnets.sweep.work import CLAIMS, Shard, shard_of

SWEEP = ["model=logistic,perceptron", "seed=0,1", "optimizer.learning_rate=1e-3,3e-3"]
SWEEP += ["steps=20", "evaluations=2", "batch_size=16"]
# A worker for whom every lock fails, as on a file system that has none.
LOCKLESS = """
import filelock
def acquire(self, *, timeout): raise NotImplementedError
filelock.FileLock.acquire = acquire
from smallnets.cli import main
main()
"""


def written(out: Path, cache: Path, *words: str) -> Path:
    smallnets("plan", *SWEEP, *words, *folders(cache, out))
    (path,) = out.glob(plan_file.PATTERN)
    return path


def status(*words: object) -> object:
    try:
        smallnets(*words)
    except SystemExit as ended:
        return ended.code
    return 0


def test_two_workers_train_a_plan_and_collect_says_so(cache: Path, tmp_path: Path, capfd):
    out = tmp_path / "out"
    path = written(out, cache)
    said = capfd.readouterr().out
    assert "8 runs in 2 programs" in said
    assert f"smallnets work {path}" in said
    assert len(path.read_text().splitlines()) == 3  # a line a program
    assert not list(rows.load(out))
    smallnets("work", path, "--shard", "0/2")
    assert status("collect", path) == 1
    said = capfd.readouterr().out
    assert "4 finished, 0 diverged, 0 failed, 4 missing" in said
    assert f"to resubmit: smallnets work {path}" in said
    assert len(rows.missing(out)) == 4
    smallnets("work", out, "--shard", "1/2")
    before = {each: each.stat().st_mtime_ns for each in out.glob("*/row.json")}
    smallnets("work", path)  # by any number of workers
    assert "8 of them there before" in " ".join(capfd.readouterr().out.split())
    assert before == {each: each.stat().st_mtime_ns for each in out.glob("*/row.json")}
    assert status("collect", path) == 0
    assert "8 finished, 0 diverged, 0 failed, 0 missing" in capfd.readouterr().out
    assert not any((out / name).exists() for name in (CLAIMS, DRAFTS))
    undisturbed = tmp_path / "undisturbed"
    smallnets("-m", *SWEEP, *folders(cache, undisturbed))
    assert_equal(out, undisturbed)
    key = next(out.glob("*/row.json")).parent.name
    files = [(each / key / ".hydra" / "config.yaml").read_text() for each in (out, undisturbed)]
    assert files[0] == files[1]


@pytest.mark.slow  # a process of its own
@pytest.mark.users_options
def test_of_two_workers_on_one_program_the_first_to_publish_counts(
    cache: Path, tmp_path: Path, monkeypatch, capfd
):
    out = tmp_path / "out"
    path = written(out, cache)
    hear, others = progress.Training.hear, []

    def heard(self, *what):
        if not others:  # another worker trains all, while this one has a program under way
            command = [sys.executable, "-c", LOCKLESS, "work", str(path)]
            environment = users_environment()
            others.append(subprocess.run(command, env=environment, capture_output=True, text=True))
        hear(self, *what)

    monkeypatch.setattr(progress.Training, "hear", heard)
    smallnets("work", path, "hydra.launcher.workers=1")
    assert others[0].returncode == 0, others[0].stderr
    said = " ".join(capfd.readouterr().out.split())
    assert said.count("another process was first, so what was trained here is discarded") >= 4
    smallnets("-m", *SWEEP, *folders(cache, tmp_path / "undisturbed"))
    assert_equal(out, tmp_path / "undisturbed")
    assert not (out / DRAFTS).exists()
    assert status("collect", path) == 0


@pytest.mark.slow
def test_a_program_that_another_worker_has_under_way_is_left_to_it(cache, tmp_path: Path, capfd):
    from filelock import FileLock

    path = written(tmp_path, cache)
    first, _ = plan_file.read(path).lines()
    (tmp_path / CLAIMS).mkdir()
    with FileLock(tmp_path / CLAIMS / first.name):
        smallnets("work", path)
    said = " ".join(capfd.readouterr().out.split())
    assert "logistic dense, 410 parameters: another worker has it under way" in said
    assert len(list(rows.load(tmp_path))) == 4


def changed(path: Path, **said: object) -> None:
    first, *rest = path.read_text().splitlines()
    path.write_text("\n".join([json.dumps({**json.loads(first), **said}), *rest, ""]))


def test_what_is_no_plan_for_this_version_is_one_line(cache: Path, tmp_path: Path, capfd):
    path = written(tmp_path / "out", cache)
    whole = path.read_text()
    there = sorted(tmp_path.rglob("*"))

    def refused(said: str, *words: object) -> None:
        capfd.readouterr()
        assert status(*words) == 2
        error = capfd.readouterr().err
        assert said in error
        assert error.count("\n") == 1

    refused("beyond the workers: they are counted from 0 to 39", "work", path, "--shard", "40/40")
    refused("--shard must be INDEX/WORKERS", "work", path, "--shard", "3")
    refused("a worker may set hydra.launcher.*, mesh.* and cache", "work", path, "model.width=4")
    refused("is not there: write a plan", "collect", tmp_path / "nowhere.jsonl")
    refused("must hold one plan, but holds none", "work", tmp_path)
    refused("between 1 and the 2 programs of the plan", "submit", path, "--tasks", "3")
    changed(path, smallnets_plan=99)
    refused("is a plan of version 99.", "work", path)
    path.write_text(whole[:-30])
    refused("is damaged: write it again", "collect", path)
    path.write_text("{}")
    refused("is no plan", "work", path)
    path.write_bytes(b"\xff\x00")
    refused("is no plan", "work", path)
    assert sorted(tmp_path.rglob("*")) == there


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "8"}, None),  # a batch script, not a step of it
        ({"SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "8"}, (3, 8)),
        ({"SKYPILOT_JOB_RANK": "2", "SKYPILOT_NUM_JOBS": "5"}, (2, 5)),
        ({"JOB_COMPLETION_INDEX": "6"}, (6, 7)),
    ],
)
def test_the_engine_says_which_worker_it_is(environment, expected):
    assert shard_of(None, 7, environment) == expected


def array(task: int, first: int, last: int, count: int) -> dict[str, str]:
    names = {"ID": task, "MIN": first, "MAX": last, "COUNT": count}
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in names.items()}


def test_a_task_of_an_array_is_a_worker():
    assert shard_of(None, None, array(12, 10, 14, 5)) == Shard(2, 5)
    several = {"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "4"}
    assert shard_of(None, None, {**array(12, 10, 14, 5), **several}) == Shard(9, 20)
    assert shard_of("3/40", None, array(12, 10, 14, 5)) == Shard(3, 40)
    with pytest.raises(ValueError, match="has holes"):
        shard_of(None, None, array(12, 10, 14, 2))
    with pytest.raises(ValueError, match="not of how many: add --workers"):
        shard_of(None, None, {"JOB_COMPLETION_INDEX": "6"})
    with pytest.raises(ValueError, match="beyond the workers"):
        shard_of(None, 6, {"JOB_COMPLETION_INDEX": "6"})


def test_submit_writes_a_script_that_names_each_task_s_share(cache: Path, tmp_path: Path, capfd):
    path = written(tmp_path, cache)
    option = "--option=--time=2:00:00"
    smallnets("submit", path, "--tasks", "2", option, "hydra.launcher.workers=1")
    script = path.with_suffix(".sbatch")
    assert f"sbatch {script}" in capfd.readouterr().out
    text = script.read_text()
    assert "#SBATCH --array=0-1\n" in text
    assert "#SBATCH --time=2:00:00\n" in text
    assert text.rstrip().endswith(
        f'work {path} --shard "$SLURM_ARRAY_TASK_ID/2" hydra.launcher.workers=1'
    )
    assert status("collect", path) == 1
    assert f"to resubmit: sbatch --array=0,1 {script}" in capfd.readouterr().out
    environment = {**os.environ, "SLURM_ARRAY_TASK_ID": "1"}
    done = subprocess.run(["bash", "-n", str(script)], env=environment, check=False)
    assert done.returncode == 0


@pytest.mark.slow
def test_without_folders_a_program_is_one_file_and_collect_makes_one_table(
    cache: Path, tmp_path: Path, capfd
):
    out, in_folders = tmp_path / "out", tmp_path / "in_folders"
    words = ["hydra.launcher.folders=false", "save=none"]
    path = written(out, cache, *words)
    smallnets("work", path, "--shard", "0/2")
    assert status("collect", path) == 1
    smallnets("work", path)
    assert status("collect", path) == 0
    said = capfd.readouterr().out
    assert "8 finished, 0 diverged, 0 failed, 0 missing" in said
    assert {each.name for each in out.iterdir()} >= {"programs", "runs.parquet", "curves.parquet"}
    assert len(list((out / "programs").iterdir())) == 2
    assert not list(out.rglob("row.json"))
    smallnets("-m", *SWEEP, "save=none", *folders(cache, in_folders))
    own = ["compile_seconds", "seconds", "folder", "command"]
    table, expected = (from_rows(each) for each in (out, in_folders))
    left_out = [name for name in table.columns if name in own or name.startswith("energy")]
    (table, expected) = (each.drop(left_out).sort("key") for each in (table, expected))
    assert table.select(expected.columns).equals(expected)
    curves = polars.read_parquet(out / "curves.parquet").rows_by_key("key", named=True)
    for row in rows.load(in_folders):
        assert curves[row.key][0]["test_loss"] == row.curves["test_loss"]


@pytest.mark.slow
def test_without_folders_a_sweep_writes_its_plan_so_that_collect_knows_what_is_missing(
    cache: Path, tmp_path: Path, capfd
):
    out, words = tmp_path / "out", ["hydra.launcher.folders=false", "save=none"]
    smallnets("-m", *SWEEP, *words, *folders(cache, out))
    (path,) = out.glob(plan_file.PATTERN)
    assert f"smallnets collect {path}" in capfd.readouterr().out
    assert status("collect", out) == 0
    assert "8 finished, 0 diverged, 0 failed, 0 missing" in capfd.readouterr().out
    smallnets("work", out)
    assert "8 of them there before" in " ".join(capfd.readouterr().out.split())
    next((out / "programs").glob("*.parquet")).unlink()
    assert status("collect", path) == 1

"""The Python door and the command lead to the same runs; a run is kept, found and never mixed."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from command import TINY, folders
from command import smallnets as command
from filelock import FileLock
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

import smallnets
from smallnets import models, rows
from smallnets.sweep import VERSION_BASE

SWEEP = ["model=perceptron", "model.widths=[8],[12]", "seed=range(2)", *TINY]


@pytest.fixture(scope="module")
def study(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a sweep that the command has trained."""
    folder = tmp_path_factory.mktemp("sweeps") / "study"
    command("-m", *SWEEP, *folders(cache, folder))
    return folder


def kept(folder: Path) -> dict[str, rows.Row]:
    return {row.key: row for row in rows.load(folder)}


def ledger(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder.parent / "ledger.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_the_door_gives_the_command_s_folders_and_bits(study: Path, cache: Path, tmp_path: Path):
    plan = smallnets.plan(*SWEEP, *folders(cache, tmp_path / "study"))
    assert not (tmp_path / "study").exists()
    assert plan.runs == 4
    assert len(plan.programs) == 2
    runs = smallnets.train(plan)
    assert [run.row.seed for run in runs] == [0, 1, 0, 1]
    assert {run.folder.name for run in runs} == set(kept(study))
    for run in runs:
        assert run.row.curves == kept(study)[run.row.key].curves
        there = models.load(study / run.row.key)
        mine = smallnets.load(run.folder)
        equal = jax.tree.map(np.array_equal, there, mine)
        assert all(jax.tree.leaves(equal))
        for name in ("config.yaml", "hydra.yaml", "overrides.yaml"):
            assert (run.folder / ".hydra" / name).is_file()


def test_a_kept_model_has_its_row_s_scores(study: Path, cache: Path):
    plan = smallnets.plan(*SWEEP, *folders(cache, study))
    data = plan.programs[0].data
    for row in kept(study).values():
        model = smallnets.load(study / row.key)
        assert model(data.test.inputs[:3]).shape == (3, 10)
        for name, split in (("validation", data.validation), ("test", data.test)):
            found = model.evaluate(split)
            assert found["error"] == pytest.approx(row.metrics[f"{name}_error"], abs=1e-6)
            assert found["loss"] == pytest.approx(row.metrics[f"{name}_loss"], rel=1e-5)


def test_the_same_sweep_again_trains_nothing(study: Path, cache: Path, capfd):
    stamps = {path: path.stat().st_mtime_ns for path in study.glob("*/*.*")}
    command("-m", *SWEEP, *folders(cache, study))
    assert "4 runs" in capfd.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in study.glob("*/*.*")} == stamps
    assert (ledger(study)[-1]["trained"], ledger(study)[-1]["found"]) == (0, 4)


@pytest.mark.slow
def test_a_larger_grid_trains_only_what_is_new_and_every_sweep_is_in_the_ledger(
    study: Path, cache: Path
):
    before = kept(study)
    command("-m", *SWEEP, "seed=range(3)", *folders(cache, study))
    assert set(before) < set(kept(study))
    assert len(kept(study)) == 6
    line = ledger(study)[-1]
    assert (line["status"], line["runs"], line["trained"], line["found"]) == ("finished", 6, 2, 4)
    assert line["joules"] > 0
    assert line["seconds"] > 0
    assert {"machine", "commit", "command", "started", "folder"} <= set(line)
    listed = [json.loads(line) for line in (study / "jobs.jsonl").read_text().splitlines()]
    assert {each["key"] for each in listed} == set(kept(study))
    assert [each["number"] for each in listed[-6:]] == list(range(6))


@pytest.mark.slow
def test_without_the_model_that_is_asked_for_a_run_is_missing(cache: Path, tmp_path: Path):
    words = ["model=logistic", *TINY, *folders(cache, tmp_path / "study")]
    command(*words, "save=none")
    (row,) = rows.load(tmp_path / "study")
    folder = tmp_path / "study" / row.key
    assert row.saved == "none"
    with pytest.raises(ValueError, match="no model is kept there"):
        smallnets.load(folder)
    command(*words)
    assert smallnets.load(folder)
    assert ledger(tmp_path / "study")[-1]["trained"] == 1
    command(*words, "save=best")
    assert models.notes(folder / models.NAME)["saved"] == "best"
    command(*words, "save=none")  # more than is asked for is there
    assert ledger(tmp_path / "study")[-1]["found"] == 1


@pytest.mark.slow
def test_the_best_model_is_that_of_the_lowest_validation_loss(cache: Path, tmp_path: Path):
    words = ["model.width=8", "steps=40", "evaluations=8", "batch_size=16", "save=best"]
    words += ["seed=range(6)", "optimizer=adam", "optimizer.learning_rate=0.1"]
    plan = smallnets.plan(*words, *folders(cache, tmp_path))
    places = []
    for run in smallnets.train(plan):
        losses = run.row.curves["validation_loss"]
        places.append(losses.index(min(losses)))
        found = smallnets.load(run.folder).evaluate(plan.programs[0].data.validation)
        assert found["loss"] == pytest.approx(min(losses), rel=1e-5)
        assert run.row.metrics["best_validation_loss"] == min(losses)
    assert min(places) < 7  # else the last would be the best everywhere


@pytest.mark.slow
def test_a_folder_of_another_study_is_refused(study: Path, cache: Path, capfd):
    other = ["task=sparse_parity", "task.train=99", "task.test=9", "model.width=8"]
    before = ledger(study)
    with pytest.raises(SystemExit):
        command(*other, *TINY, *folders(cache, study))
    assert "holds the study of experiment=None on mnist1d" in capfd.readouterr().err
    assert ledger(study) == before  # what is refused is no sweep
    words = ["family=dense", "model.width=8", "seed=0", "optimizer.learning_rate=1e-3"]
    words += ["parametrization=standard", *TINY, *folders(cache, study)]
    plan = smallnets.plan("+experiment=rate_transfer", *words)
    with pytest.raises(ValueError, match="this one is of experiment=rate_transfer"):
        smallnets.train(plan)


def test_runs_that_are_of_no_known_study_are_refused(study: Path, cache: Path, tmp_path: Path):
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "row.json").write_text(next(study.glob("*/row.json")).read_text())
    with pytest.raises(ValueError, match="of no known study"):
        smallnets.train(smallnets.plan("model.width=8", *TINY, *folders(cache, tmp_path)))


@pytest.mark.slow
def test_a_second_live_sweep_is_refused(study: Path, cache: Path):
    with (
        FileLock(study / ".lock"),
        pytest.raises(ValueError, match="another sweep is writing there"),
    ):
        smallnets.train(smallnets.plan(*SWEEP, *folders(cache, study)))


@pytest.mark.slow
def test_best_needs_a_validation_split_and_save_a_known_word(cache: Path, tmp_path: Path, capfd):
    out = folders(cache, tmp_path / "out")
    for words, said in (
        (["save=best", "task.validation=0"], "no validation split"),
        (["save=beste"], "save must be one of last, best, none, not beste"),
    ):
        with pytest.raises(SystemExit) as ended:
            command("model.width=8", *TINY, *words, *out)
        assert ended.value.code == 2
        (line,) = capfd.readouterr().err.splitlines()
        assert said in line


@pytest.mark.slow
def test_it_works_beside_a_hydra_app_of_one_s_own(study: Path, cache: Path, tmp_path: Path):
    conf = tmp_path / "conf"
    conf.mkdir()
    (conf / "mine.yaml").write_text("a: 1\n")
    with initialize_config_dir(str(conf), **VERSION_BASE):
        before = GlobalHydra.instance().hydra
        smallnets.train(smallnets.plan(*SWEEP, *folders(cache, study)))
        assert GlobalHydra.instance().hydra is before
        assert OmegaConf.to_container(compose("mine")) == {"a": 1}


PUBLIC = """
import importlib, pkgutil, sys
import smallnets
assert not {"jax", "flax", "numpy", "hydra", "rich"} & set(sys.modules)
for module in pkgutil.walk_packages(smallnets.__path__, "smallnets."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
for name in smallnets.__all__:
    print(name, callable(getattr(smallnets, name)))
plan = smallnets.plan("model=logistic", *sys.argv[1:])
print(smallnets.load(smallnets.train(plan)[0].folder)(plan.programs[0].data.test.inputs[:1]).shape)
"""


@pytest.mark.slow
def test_every_public_function_is_there_after_every_module_was_imported(cache, tmp_path):
    words = [*TINY, *folders(cache, tmp_path / "out")]
    ran = subprocess.run(
        [sys.executable, "-c", PUBLIC, *words], capture_output=True, text=True, check=True
    )
    for name in ("plan", "train", "load"):
        assert f"{name} True" in ran.stdout
    assert "(1, 10)" in ran.stdout


def test_python_m_is_the_same_door():
    ran = subprocess.run(
        [sys.executable, "-m", "smallnets", "--help"], capture_output=True, text=True, check=True
    )
    assert "smallnets describe" in ran.stdout
    assert "smallnets analyse" in ran.stdout


@pytest.mark.slow
def test_another_launcher_trains_job_by_job(cache: Path, tmp_path: Path):
    words = ["-m", "model=logistic", "seed=0,1", "hydra/launcher=basic"]
    command(*words, *TINY, *folders(cache, tmp_path / "study"))
    assert sorted(row.seed for row in rows.load(tmp_path / "study")) == [0, 1]
    assert [line["runs"] for line in ledger(tmp_path / "study")] == [1, 1]


@pytest.mark.slow
def test_two_jobs_that_say_the_same_are_one_run(cache: Path, tmp_path: Path):
    """A width that a budget finds, and the same width given."""
    folder = tmp_path / "study"
    words = ["budget.params=936", "model.hidden=16", "budget.knobs=[width]", *TINY]
    command(*words, *folders(cache, folder))
    plan = smallnets.plan("model.width=8", "model.hidden=16", *TINY, *folders(cache, folder))
    (run,) = smallnets.train(plan)
    assert [row.key for row in rows.load(folder)] == [run.row.key]
    assert ledger(folder)[-1]["found"] == 1


@pytest.mark.slow
def test_what_a_second_sweep_mixes_or_replaces_is_said(cache: Path, tmp_path: Path, capsys):
    words = ["model=logistic", *TINY, *folders(cache, tmp_path / "study")]
    command(*words)
    command(*words)
    assert "note:" not in capsys.readouterr().out
    command(*words, "steps=40")
    said = " ".join(capsys.readouterr().out.split())
    assert "holds runs of steps=20,40, which one report draws together" in said
    command(*words, "save=best")
    said = " ".join(capsys.readouterr().out.split())
    assert "1 runs were there damaged, or without the model that save=... asks for" in said
    assert "what was kept of them is replaced" in said


def test_a_damaged_study_is_named(cache: Path, tmp_path: Path):
    study = tmp_path / "study.json"
    study.write_text("{")
    with pytest.raises(ValueError, match=r"study\.json is damaged") as error:
        smallnets.train(smallnets.plan("model=logistic", *TINY, *folders(cache, tmp_path)))
    assert "\n" not in str(error.value)


def test_a_family_named_as_a_model_gets_the_same_hint_from_python():
    with pytest.raises(ValueError, match="write family=monarch in place of model=monarch"):
        smallnets.plan("model=monarch")

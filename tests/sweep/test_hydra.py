"""Hydra stays Hydra: its callbacks hear of each run, searches go on, other apps get one line."""

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from command import TINY, folders, smallnets, users_environment
from omegaconf import OmegaConf

from smallnets import rows
from smallnets.sweep.jobs import isolated_hydra
from smallnets.sweep.launcher import launch
from smallnets.sweep.plan import hydra_of, plan

CALLBACK = """
from pathlib import Path
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback

class Listener(Callback):
    def on_job_start(self, config, *, task_function, **details):
        folder = Path(HydraConfig.get().runtime.output_dir)
        assert (folder / "row.json").exists()
    def on_job_end(self, config, job_return, **details):
        folder = Path(config.hydra.runtime.output_dir)
        text = f"{config.seed} {job_return.return_value} {' '.join(job_return.overrides)}"
        (folder / "heard.txt").write_text(text)
"""
APP = """
import hydra
@hydra.main(**VERSION_BASE, config_path=None, config_name=None)
def app(config): print("here")
app()
"""


@pytest.mark.slow
def test_a_callback_hears_of_each_run(cache: Path, tmp_path: Path, monkeypatch):
    (tmp_path / "listening.py").write_text(CALLBACK)
    monkeypatch.syspath_prepend(tmp_path)
    words = ["-m", "model=logistic", "seed=0,1", *TINY, *folders(cache, tmp_path / "out")]
    smallnets(*words, "+hydra.callbacks.mine._target_=listening.Listener")
    for folder, row in rows.found(tmp_path / "out"):
        seed, score, *words = (folder / "heard.txt").read_text().split()
        assert int(seed) == row.seed
        assert float(score) == row.metrics["validation_error"]
        assert f"seed={seed}" in words


@pytest.mark.slow
def test_what_hydra_writes_of_a_run_is_what_it_composes(cache: Path, tmp_path: Path):
    words = ["model=logistic", "optimizer.learning_rate=1e-2,3e-3", "seed=1", *TINY]
    smallnets("-m", *words, *folders(cache, tmp_path))
    made = plan(*words, *folders(cache, tmp_path))
    for job, key in made.jobs():
        config: Any = OmegaConf.to_container(job.config, enum_to_str=True)
        hydra = config.pop("hydra")
        written: dict[str, Any] = {
            name: OmegaConf.to_container(OmegaConf.load(tmp_path / key / ".hydra" / f"{name}.yaml"))
            for name in ("config", "hydra", "overrides")
        }
        assert written["config"] == config
        found = written["hydra"]["hydra"]
        assert found["runtime"]["output_dir"] == str(tmp_path / key)
        assert found["sweep"]["subdir"] == key
        assert found.keys() == hydra.keys()
        of_job = ("id", "num", "config", "env_set")
        assert [found["job"][name] for name in of_job] == [hydra["job"][name] for name in of_job]
        assert found["runtime"]["choices"]["model"] == hydra["runtime"]["choices"]["model"]
        assert set(written["overrides"]) == set(job.words)


@pytest.mark.slow
def test_a_search_is_told_of_what_diverged_and_of_what_failed(cache, tmp_path: Path, capfd):
    """The jobs of a batch, one of them twice, as a sweeper hands them out that is not ours."""
    words = ["model=logistic", *TINY, *folders(cache, tmp_path), "hydra/sweeper=basic"]
    jobs = [["optimizer.learning_rate=1e38"], ["seed=1"], ["seed=1"]]
    with isolated_hydra(), hydra_of(words) as (context, config):
        told = launch(context, config, jobs, 0)
    assert [[*(each.overrides or [])][-1] for each in told] == [
        "optimizer.learning_rate=1e38",
        "seed=1",
        "seed=1",
    ]
    assert told[0].return_value == math.inf
    assert told[1].return_value == told[2].return_value < 1
    capfd.readouterr()


@pytest.mark.slow  # a process of its own
def test_another_app_that_picks_our_launcher_gets_one_line(tmp_path: Path):
    from smallnets.sweep import VERSION_BASE

    (tmp_path / "app.py").write_text(APP.replace("VERSION_BASE", repr(VERSION_BASE)))
    command = [sys.executable, "app.py", "-m", "hydra/launcher=smallnets", "+a=1,2"]
    done = subprocess.run(
        command, cwd=tmp_path, env=users_environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "trains the configs of the command smallnets alone" in done.stderr
    assert "Traceback" not in done.stderr

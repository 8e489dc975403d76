"""A real Ray on this machine, whose tasks call ``smallnets work``.

It needs ``pip install .[ray]``: ``pytest -m ray tests/sweep``.
"""

import subprocess
import sys
from pathlib import Path

import pytest
from command import assert_equal, folders, smallnets, users_environment

from smallnets.sweep import plan_file

EXAMPLE = Path(__file__).parents[2] / "experiments" / "ray_workers.py"
SWEEP = ["model=logistic,perceptron", "seed=0,1", "steps=20", "evaluations=2", "batch_size=16"]


@pytest.mark.ray
@pytest.mark.users_options
def test_the_tasks_of_ray_train_a_plan(cache: Path, tmp_path: Path, capfd):
    pytest.importorskip("ray")
    out = tmp_path / "out"
    smallnets("plan", *SWEEP, *folders(cache, out))
    (path,) = out.glob(plan_file.PATTERN)
    command = [sys.executable, str(EXAMPLE), str(path), "--workers", "2"]
    done = subprocess.run(command, env=users_environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "statuses of 2 workers: [0, 0]" in done.stdout
    assert "4 finished, 0 diverged, 0 failed, 0 missing" in done.stdout
    smallnets("-m", *SWEEP, *folders(cache, tmp_path / "undisturbed"))
    assert_equal(out, tmp_path / "undisturbed")

"""Examples with extras: a real Ray, whose tasks call ``smallnets work``, and TensorBoard.

They need ``pip install .[ray,tensorboard]``: ``pytest -m "ray or slow" tests/sweep/test_ray.py``.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command import assert_equal, folders, smallnets, users_environment

from smallnets import rows
from smallnets.sweep import plan_file

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
SWEEP = ["model=logistic,perceptron", "seed=0,1", "steps=20", "evaluations=2", "batch_size=16"]


@pytest.mark.ray
@pytest.mark.users_options
def test_the_tasks_of_ray_train_a_plan(cache: Path, tmp_path: Path, capfd):
    pytest.importorskip("ray")
    out = tmp_path / "out"
    smallnets("plan", *SWEEP, *folders(cache, out))
    (path,) = out.glob(plan_file.PATTERN)
    command = [sys.executable, str(EXPERIMENTS / "ray_workers.py"), str(path), "--workers", "2"]
    done = subprocess.run(command, env=users_environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "statuses of 2 workers: [0, 0]" in done.stdout
    assert "4 finished, 0 diverged, 0 failed, 0 missing" in done.stdout
    smallnets("-m", *SWEEP, *folders(cache, tmp_path / "undisturbed"))
    assert_equal(out, tmp_path / "undisturbed")


@pytest.mark.slow
def test_curves_reach_tensorboard(cache: Path, tmp_path: Path):
    """What TensorBoard's own reader finds in each run's folder is the row's curves."""
    pytest.importorskip("tensorboardX")
    loader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    script = str(EXPERIMENTS / "tensorboard_callback.py")
    words = [
        "-m",
        "model=logistic",
        *SWEEP[1:],
        *folders(cache, tmp_path),
        "~hydra.callbacks.report",
    ]
    done = subprocess.run(
        [sys.executable, script, *words], env=users_environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning" not in done.stderr
    found = list(rows.load(tmp_path))
    assert len(found) == 2
    for row in found:
        events = loader.EventAccumulator(str(tmp_path / row.key))
        events.Reload()
        assert {*events.Tags()["scalars"]} == {*row.curves}
        for name, curve in row.curves.items():
            seen = events.Scalars(name)
            assert [each.step for each in seen] == row.curves["step"]
            np.testing.assert_allclose([each.value for each in seen], curve, rtol=1e-6)

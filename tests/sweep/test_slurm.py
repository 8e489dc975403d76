"""A real Slurm on this machine: an array of which one task is cancelled and requeued.

It needs root and Debian's ``slurm-wlm`` and ``munge``: ``pytest -m slurm tests/sweep``.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from command import assert_equal, folders, smallnets, users_environment

from smallnets import rows
from smallnets.sweep import plan_file
from smallnets.sweep.checkpoint import ABOUT, FOLDER

pytestmark = [pytest.mark.slurm, pytest.mark.users_options]
SCRIPT = Path(__file__).with_name("slurm.sh")
SWEEP = ["model=perceptron", "model.widths=[4],[6],[8],[10]", "seed=range(4)"]
SWEEP += ["steps=4000", "evaluations=40", "batch_size=64"]


@pytest.fixture
def slurm(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Commands of a Slurm of its own, which give what they print."""
    if not shutil.which("slurmctld") or not shutil.which("munged") or os.getuid() != 0:
        pytest.skip("needs root and apt-get install slurm-wlm munge")
    home = Path("/tmp") / f"smallnets-slurm-{os.getpid()}"  # a socket's path has 107 bytes at most
    environment = {**users_environment(), "SLURM_CONF": str(home / "slurm.conf")}

    def run(*words: object) -> str:
        command = [str(word) for word in words]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return done.stdout

    try:
        home.mkdir()
        run(SCRIPT, "start", home)
        yield run
    finally:
        run(SCRIPT, "stop", home)
        shutil.rmtree(home)


def wait_for(what: Callable[[], object], seconds: float = 600) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.1)


def test_an_array_with_a_task_cancelled_and_requeued_is_complete(
    slurm, cache: Path, tmp_path: Path, capfd, monkeypatch
):
    out = tmp_path / "out"
    smallnets("plan", *SWEEP, *folders(cache, out))
    (path,) = out.glob(plan_file.PATTERN)
    monkeypatch.chdir(Path(__file__).parents[2])  # where the package lies, if it is not installed
    options = ["hydra.launcher.workers=1", "hydra.launcher.checkpoint_seconds=1e-6"]
    smallnets("submit", path, "--tasks", "2", *options)
    job = slurm("sbatch", "--parsable", path.with_suffix(".sbatch")).strip()

    def state(task: int) -> str:
        return slurm("squeue", "--noheader", "--format=%T", "--jobs", f"{job}_{task}").strip()

    log = out / "logs" / "1.log"
    keys = [key for line in plan_file.read(path).lines(1, 2) for key in line.keys]
    wait_for(lambda: any(kept_of(out)) and sum((out / key).exists() for key in keys) >= 1)
    slurm("scancel", f"{job}_1")
    wait_for(lambda: state(1) not in ("RUNNING", "COMPLETING"))
    done = sum((out / key / rows.NAME).exists() for key in keys)
    assert done < len(keys), log.read_text()
    slurm("scontrol", "requeue", f"{job}_1")
    wait_for(lambda: not {state(0), state(1)} & {"PENDING", "RUNNING", "COMPLETING"})
    capfd.readouterr()
    smallnets("collect", path)
    assert "16 finished, 0 diverged, 0 failed, 0 missing" in capfd.readouterr().out
    smallnets("-m", *SWEEP, *folders(cache, tmp_path / "undisturbed"))
    assert_equal(out, tmp_path / "undisturbed")
    with capfd.disabled():
        print(f"\ntask 1 was cancelled with {done} of its {len(keys)} runs done:")
        print(log.read_text())


def kept_of(out: Path) -> list[Path]:
    return list(out.glob(f"{FOLDER}/*/0*/{ABOUT}"))

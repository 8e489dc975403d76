"""A stopped sweep goes on from its checkpoints, with the bits of one that was never stopped."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from command import assert_equal, folders, smallnets

from smallnets import rows
from smallnets.sweep import checkpoint, progress
from smallnets.sweep.checkpoint import FOLDER, STATE, Checkpoints, remove_done

SWEEP = ["-m", "model=logistic", "seed=0,1", "steps=20", "evaluations=10", "batch_size=16"]
EVERY_CUT = ["hydra.launcher.checkpoint_seconds=1e-6", "hydra.launcher.workers=1"]


def stopped(after: int, cache: Path, out: Path, monkeypatch) -> None:
    """The sweep until SIGTERM comes, when the first run has been evaluated so many times."""
    hear = progress.Training.hear

    def heard(self, place, runs, portion, cut):
        hear(self, place, runs, portion, cut)
        if cut.done == after:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr(progress.Training, "hear", heard)
        with pytest.raises(SystemExit) as ended:
            smallnets(*SWEEP, *EVERY_CUT, *folders(cache, out))
    assert ended.value.code == 75


@pytest.fixture(scope="module")
def undisturbed(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed")
    smallnets(*SWEEP, *folders(cache, out))
    assert not (out / FOLDER).exists()
    return out


@pytest.fixture(scope="module")
def left(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a sweep that was stopped in its first run, with two checkpoints."""
    out = tmp_path_factory.mktemp("left")
    with pytest.MonkeyPatch.context() as monkeypatch:
        stopped(4, cache, out, monkeypatch)
    return out


def checkpoints(out: Path) -> list[Path]:
    return sorted(out.glob(f"{FOLDER}/*/*"))


@pytest.mark.slow
def test_sigterm_leaves_checkpoints_and_a_status_and_the_same_command_goes_on(
    undisturbed: Path, left: Path, cache: Path, tmp_path: Path, monkeypatch, capfd
):
    before, newest = (int(path.name) for path in checkpoints(left))
    assert 4 <= newest == before + 1 < 10  # the signal is heard within a cut or two
    assert len(rows.missing(left)) == 2
    line = json.loads((left.parent / "ledger.jsonl").read_text().splitlines()[-1])
    assert line["status"] == "stopped"
    out = tmp_path / "out"
    shutil.copytree(left, out)
    begun = []
    hear = progress.Training.hear
    monkeypatch.setattr(
        progress.Training,
        "hear",
        lambda self, place, runs, portion, cut: (
            begun.append(cut.done),
            hear(self, place, runs, portion, cut),
        ),
    )
    smallnets(*SWEEP, *folders(cache, out))
    assert begun[0] > newest
    assert "is used" not in capfd.readouterr().out
    assert_equal(out, undisturbed)
    assert not (out / FOLDER).exists()
    assert not rows.missing(out)


def truncated(path: Path) -> None:
    file = max(path.rglob("d/*"), key=lambda each: each.stat().st_size)
    file.write_bytes(file.read_bytes()[:-7])


def flipped(path: Path) -> None:
    file = max((path / STATE).rglob("d/*"), key=lambda each: each.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def emptied(path: Path) -> None:
    shutil.rmtree(path)
    path.mkdir()


def foreign(path: Path) -> None:
    said = json.loads((path / "about.json").read_text())
    said["said"]["identity"]["versions"] = {}
    (path / "about.json").write_text(json.dumps(said))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (truncated, "it is damaged"),
        (flipped, "it is damaged"),
        (emptied, "it is no checkpoint"),
        (foreign, "it is damaged"),
    ],
)
def test_a_damaged_checkpoint_is_said_and_the_one_before_is_used(
    damage, said, undisturbed: Path, left: Path, cache: Path, tmp_path: Path, capfd
):
    out = tmp_path / "out"
    shutil.copytree(left, out)
    before, newest = checkpoints(out)
    damage(newest)
    smallnets(*SWEEP, *folders(cache, out))
    printed = "".join(capfd.readouterr().out.split("\n"))
    assert printed.count(f"{newest.name}: {said}") == 1
    assert f"{before.name}: it" not in printed
    assert_equal(out, undisturbed)


def test_what_is_restored_is_what_was_kept_or_nothing(tmp_path: Path):
    said: list[str] = []
    identity = {"keys": ["a", "b"], "device": "here"}
    kept = Checkpoints(tmp_path, identity, said.append)
    carry = {"a": np.arange(6.0).reshape(2, 3), "none": np.zeros((2, 0)), "i": np.arange(2)}
    assert kept.newest(carry) is None
    for done in (1, 2, 3):
        kept.save(done, jax.tree.map(lambda leaf, done=done: leaf + done, carry), 1.5)
    found = kept.newest(carry)
    assert found is not None
    done, there, spent = found
    assert (done, spent) == (3, 1.5)
    assert all(np.array_equal(there[name], carry[name] + 3) for name in carry)
    assert not said
    assert Checkpoints(tmp_path, {**identity, "device": "there"}, said.append).newest(carry) is None
    assert len(said) == 2
    assert "it is of another device" in said[0]
    assert kept.newest({**carry, "i": np.arange(3)}) is None
    assert "it is of another network or trainer" in said[-1]
    kept.remove()
    assert not kept.folder.exists()


def test_checkpoints_go_once_all_that_were_trained_together_are_done(tmp_path: Path):
    """A sweep that is killed while it publishes leaves a program of the rest, with other keys."""
    both, other = (
        Checkpoints(tmp_path, {"keys": keys}, print) for keys in (["a", "b"], ["b", "c"])
    )
    for each in (both, other):
        each.save(1, {"a": np.arange(3.0)}, 1.0)
    (other.folder / "000000002").mkdir()  # another process is writing it
    remove_done(tmp_path, {"a"})
    assert both.folder.exists()
    remove_done(tmp_path, {"a", "b", "d"})
    assert not both.folder.exists()
    assert other.newest({"a": np.arange(3.0)})


def test_a_folder_may_go_while_a_checkpoint_is_written(tmp_path: Path, monkeypatch):
    """Two workers train the same runs, and the other one is done with them."""
    kept = Checkpoints(tmp_path, {"keys": ["a"]}, print)

    def sums(folder: Path) -> dict[str, str]:
        kept.remove()
        return {}

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, "_sums", sums)
        kept.save(1, {"a": np.arange(3.0)}, 1.0)
    assert not kept.folder.exists()
    kept.save(2, {"a": np.arange(3.0)}, 1.0)
    found = kept.newest({"a": np.arange(3.0)})
    assert found is not None
    assert found[0] == 2


def test_what_a_killed_process_had_begun_to_write_goes_too(tmp_path: Path):
    ended = subprocess.Popen(["true"])
    ended.wait()
    host = socket.gethostname()
    for folder, number in (("killed", ended.pid), ("alive", os.getpid())):
        (tmp_path / FOLDER / folder / f"draft.{host}.{number}" / STATE).mkdir(parents=True)
    remove_done(tmp_path, set())
    assert [each.name for each in (tmp_path / FOLDER).iterdir()] == ["alive"]


def test_checkpoints_half_removed_by_a_killed_process_go_too(tmp_path: Path):
    """Killed where its runs were published already, it removes a file and leaves the others."""
    Checkpoints(tmp_path, {"keys": ["a"]}, print).save(1, {"a": np.arange(3.0)}, 1.0)
    code = """
import os, pathlib, shutil, signal, sys
from smallnets.sweep.checkpoint import Checkpoints
def killed(folder, **options):
    next(pathlib.Path(folder).rglob("about.json")).unlink()
    os.kill(os.getpid(), signal.SIGKILL)
shutil.rmtree = killed
Checkpoints(pathlib.Path(sys.argv[1]), {"keys": ["a"]}, print).remove()
"""
    assert subprocess.run([sys.executable, "-c", code, tmp_path]).returncode == -signal.SIGKILL
    (left,) = (tmp_path / FOLDER).iterdir()
    assert list(left.rglob(STATE))
    remove_done(tmp_path, {"a"})
    assert not list((tmp_path / FOLDER).iterdir())


def test_a_time_limit_stops_too(cache: Path, tmp_path: Path, capfd):
    with pytest.raises(SystemExit) as ended:
        smallnets(*SWEEP, "hydra.launcher.time_limit=1e-9", *folders(cache, tmp_path))
    assert ended.value.code == 75
    said = capfd.readouterr()
    assert "stopped: 0 of 2 runs are finished" in said.out
    assert "stopped by the time limit of 1e-09 s: " in said.err
    assert said.err.count("\n") == 1

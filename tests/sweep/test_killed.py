"""Killed a hundred times, a sweep of 200 runs loses none, has none twice, and the same bits."""

import glob
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import jax
import numpy as np
import pytest
from command import folders

from smallnets import load, rows
from smallnets.sweep.checkpoint import ABOUT, FOLDER

START = "from smallnets.cli import main; main()"
SWEEP = ["-m", "model=perceptron", "model.widths=[4],[6],[8],[10]", "seed=range(50)"]
SWEEP += ["steps=200", "evaluations=20", "batch_size=16"]
KILLS = int(os.environ.get("KILLS", "100"))


def start(cache: Path, out: Path, *words: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", START, *SWEEP, *words, *folders(cache, out)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def kept(out: Path, since: float) -> list[Path]:
    """The checkpoints that were written since a moment, of runs under way."""
    found = []
    for path in map(Path, glob.glob(f"{out}/{FOLDER}/*/0*/{ABOUT}")):
        with suppress(FileNotFoundError):  # replaced meanwhile
            if path.stat().st_mtime > since:
                found.append(path)
    return found


def publishing(out: Path, process: subprocess.Popen[bytes]) -> bool:
    """Whether the process is writing a run's folder down, or was killed at it."""
    return bool(list(out.glob(f".drafts/*.{process.pid}")))


@pytest.mark.long  # a hundred times a command starts
@pytest.mark.slow
def test_killed_at_any_moment_nothing_is_lost_nor_twice(cache: Path, tmp_path: Path, capsys):
    undisturbed, out = tmp_path / "undisturbed", tmp_path / "out"
    assert start(cache, undisturbed).wait() == 0
    draw = random.Random(0)
    kills = inside = within = 0
    longest = 1.0
    while kills < KILLS:
        began, wait = time.time(), draw.random()
        process = start(cache, out, "hydra.launcher.checkpoint_seconds=1e-6")
        mode = draw.choices(["inside", "publishing", "any"], [65, 20, 15])[0]
        while process.poll() is None:
            if mode == "inside":
                ready = bool(kept(out, began))
            elif mode == "publishing":
                ready = publishing(out, process)
            else:
                ready = time.time() - began > wait * longest
            if ready:
                break
            time.sleep(0.001)
        if mode == "inside":
            longest = max(longest, time.time() - began)
            time.sleep(0.3 * wait)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "the sweep ended before it was killed so often"
        kills += 1
        inside += bool(kept(out, began))
        within += publishing(out, process)
        with capsys.disabled():
            print(f"{kills} kills, {inside} after a checkpoint, {within} in publishing", flush=True)
    finished = len(list(rows.load(out)))
    assert start(cache, out).wait() == 0
    with capsys.disabled():
        print(
            f"\n{kills} kills: {inside} inside a program after its first checkpoint, {within} "
            f"while a run was published; {finished} of 200 runs were finished by then"
        )
    assert inside >= KILLS / 2
    found = {row.key: row for row in rows.load(out)}
    assert len(found) == len(list(out.rglob(rows.NAME))) == 200
    assert not rows.missing(out)
    for row in rows.load(undisturbed):
        assert found[row.key].curves == row.curves
        assert found[row.key].metrics == row.metrics
        equal = jax.tree.map(np.array_equal, load(out / row.key), load(undisturbed / row.key))
        assert all(jax.tree.leaves(equal))
    assert not (out / FOLDER).exists()

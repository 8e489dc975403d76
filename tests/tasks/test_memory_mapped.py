"""Examples that stay on disk give the numbers of those in memory, and go on at the exact one."""

import importlib.util
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import folders, smallnets

from smallnets import rows
from smallnets.sweep import portion, progress
from smallnets.tasks import memory_mapped

SHAPE = (300, 5, 4, 1)
WORDS = ["task=memory_mapped", "model=logistic", "steps=40", "evaluations=8", "batch_size=16"]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder whose classes are told by their pixels."""
    folder = tmp_path / "data"
    folder.mkdir()
    random = np.random.default_rng(0)
    for split, count in (("train", 300), ("validation", 40), ("test", 50)):
        inputs = random.integers(0, 256, (count, *SHAPE[1:])).astype(np.uint8)
        np.save(folder / f"{split}_inputs.npy", inputs)
        np.save(folder / f"{split}_labels.npy", (inputs.mean(axis=(1, 2, 3)) > 127).astype(int))
    return folder


@pytest.fixture
def with_grain():
    pytest.importorskip("grain")


def test_train_inputs_stay_on_disk(source: Path, with_grain):
    data = memory_mapped.load(source=str(source))
    assert data.streamed
    assert data.raw
    assert not memory_mapped.load(source=str(source), in_memory=True).streamed
    assert not isinstance(data.test.inputs, np.memmap)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda folder: (folder / "train_labels.npy").unlink(), "train_labels.npy is needed"),
        (lambda folder: (folder / "test_inputs.npy").write_bytes(b"?"), "a whole .npy array"),
        (lambda folder: np.save(folder / "train_labels.npy", np.zeros(7, int)), "train: labels"),
        (lambda folder: folder.rename(folder.with_name("gone")), "there is none: name one"),
    ],
)
def test_what_is_wrong_with_a_folder_is_one_line(source: Path, change, said):
    change(source)
    with pytest.raises(ValueError, match=said) as raised:
        memory_mapped.load(source=str(source), in_memory=True)
    assert "\n" not in str(raised.value)


def test_without_grain_it_is_one_line(source: Path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'smallnets\[grain\]'"):
        memory_mapped.load(source=str(source))


def trained(source: Path, cache: Path, out: Path, *words: str) -> dict[int, Any]:
    smallnets("-m", *WORDS, f"task.source={source}", *words, *folders(cache, out))
    return {row.seed: row for row in rows.load(out)}


@pytest.mark.slow
@pytest.mark.users_options
@pytest.mark.parametrize("execution", ["map", "vmap"])
def test_from_disk_runs_have_the_numbers_of_memory(
    execution: str, source: Path, cache: Path, tmp_path: Path, with_grain
):
    """18 batches an epoch: the 40 steps see parts of three orders, each run its own."""
    words = ["seed=0,1", f"hydra.launcher.execution={execution}"]
    there = trained(source, cache, tmp_path / "memory", *words, "task.in_memory=true")
    found = trained(source, cache, tmp_path / "disk", *words)
    for seed, row in there.items():
        assert found[seed].key == row.key
        for name, curve in row.curves.items():
            np.testing.assert_allclose(found[seed].curves[name], curve, rtol=1e-5, err_msg=name)
    assert there[0].curves["train_loss"] != there[1].curves["train_loss"]


@pytest.mark.slow
@pytest.mark.users_options
def test_a_stopped_run_goes_on_at_the_exact_example(
    source: Path, cache: Path, tmp_path: Path, monkeypatch, with_grain
):
    undisturbed = trained(source, cache, tmp_path / "whole")
    out = tmp_path / "stopped"
    begun: list[int] = []
    read, hear = portion.stretches, progress.Training.hear

    def noted(trainer, data, seeds, done):
        begun.append(done)
        return read(trainer, data, seeds, done)

    def heard(self, place, runs, portion, cut):
        hear(self, place, runs, portion, cut)
        if cut.done == 3 and begun == [0]:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(portion, "stretches", noted)
    monkeypatch.setattr(progress.Training, "hear", heard)
    with pytest.raises(SystemExit) as ended:
        smallnets(*WORDS, f"task.source={source}", *folders(cache, out))
    assert ended.value.code == 75
    assert len(rows.missing(out)) == 1
    found = trained(source, cache, out)
    assert begun[0] == 0
    assert 3 <= begun[1] < 8
    assert found[0].curves == undisturbed[0].curves
    assert found[0].metrics == undisturbed[0].metrics


def test_a_stretch_must_fit_into_memory(
    source: Path, cache: Path, tmp_path: Path, capfd, with_grain
):
    words = [*WORDS, f"task.source={source}", "hydra.launcher.memory_limit=3000"]
    with pytest.raises(SystemExit):
        smallnets(*words, *folders(cache, tmp_path / "out"))
    said = capfd.readouterr().err
    assert "take 3,200 bytes of 3,000: raise evaluations" in said
    assert said.count("\n") == 1

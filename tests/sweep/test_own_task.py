"""A task of one's own: a module and a YAML in the current folder, loaded once for a sweep."""

import sys
from pathlib import Path

import pytest
from command import TINY, folders, smallnets

from smallnets import rows

MODULE = """
import numpy as np
from smallnets.tasks import Data, Split

def load(*, shift):
    with open("loads", "a") as file:
        file.write("once ")
    inputs = np.random.default_rng(0).normal(shift, 1, (60, 4)).astype(np.float32)
    split = Split(inputs, (inputs[:, 0] > shift).astype(np.int32))
    return Data(split, split, split, outputs=2)

def nothing():
    return None
"""
YAML = "_target_: own_task.load\n_partial_: true\nshift: 0.5\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a user, where the command is typed."""
    (tmp_path / "task").mkdir()
    (tmp_path / "task" / "own.yaml").write_text(YAML)
    (tmp_path / "own_task.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "own_task", raising=False)
    return tmp_path


def test_it_is_found_beside_and_loaded_once_for_all_programs(folder: Path, cache: Path):
    smallnets(
        "-m", "--config-dir", folder, "task=own", "model=perceptron", "model.widths=[4],[8]",
        "save=none", "~hydra.callbacks.report", *TINY, *folders(cache, folder / "out"),
    )  # fmt: skip
    assert len(list(rows.load(folder / "out"))) == 2
    assert (folder / "loads").read_text() == "once "


@pytest.mark.parametrize(
    ("yaml", "said"),
    [
        (YAML.replace("_partial_: true\n", ""), "task: beside _target_: own_task.load must stand"),
        ("_target_: own_task.nothing\n_partial_: true\n", "own_task.nothing must return a small"),
        ("_target_: own_tusk.load\n_partial_: true\n", "own_tusk"),
    ],
)
def test_what_is_wrong_with_it_is_one_line(folder: Path, cache: Path, capsys, yaml, said):
    (folder / "task" / "own.yaml").write_text(yaml)
    with pytest.raises(SystemExit):
        smallnets("--config-dir", folder, "task=own", *TINY, *folders(cache, folder / "out"))
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (folder / "loads").exists()

"""A task of one's own: a module and a YAML in the current folder, loaded once for a sweep."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import TINY, folders, smallnets

from smallnets import plan, rows
from smallnets.sweep.keys import fingerprint
from smallnets.tasks import arrays

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
ALLOW = "allow=[own_task,own_tusk]"
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


@pytest.mark.slow
def test_programs_of_one_call_share_its_data(folder: Path, cache: Path):
    sys.path.insert(0, str(folder))
    words = ["task=own", ALLOW, f"hydra.searchpath=[file://{folder}]", f"cache={cache}"]
    programs = plan(
        *words, "model=perceptron", "model.widths=[4],[8]", "task.shift=1,2", "batch_size=8"
    ).programs
    first, second, third, fourth = (program.data for program in programs)
    assert len({id(first), id(second), id(third), id(fourth)}) == 2
    assert (folder / "loads").read_text() == "once once "


@pytest.mark.slow  # trains two programs
def test_it_is_found_beside_and_loaded_once_for_all_programs(folder: Path, cache: Path):
    smallnets(
        "-m", "--config-dir", folder, "task=own", ALLOW, "model=perceptron", "model.widths=[4],[8]",
        "save=none", *TINY, *folders(cache, folder / "out"),
    )  # fmt: skip
    assert len(list(rows.load(folder / "out"))) == 2
    assert (folder / "loads").read_text() == "once "


def test_data_that_differ_in_units_names_or_metrics_are_other_data(tmp_path: Path):
    """Prepared they are alike, but a kept model reads and answers otherwise."""
    draw = np.random.default_rng(0)
    x, y = draw.integers(0, 9, (50, 3)).astype(float), draw.integers(0, 9, 50).astype(float)

    def found(x: np.ndarray, y: np.ndarray, **options: Any) -> str:
        np.savez(tmp_path / "x.npz", x=x, y=y)
        return fingerprint(arrays.load(source=str(tmp_path / "x.npz"), **options))

    same = [found(x, y), found(x, y)]
    others = [found(8 * x, y), found(x, 8 * y), found(x, y, metrics=["r2"])]
    others += [found(x, words) for words in (np.where(y > 4, "b", "a"), np.where(y > 4, "c", "a"))]
    assert len({*same, *others}) == 1 + len(others)


@pytest.mark.slow
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
        smallnets("--config-dir", folder, "task=own", ALLOW, *TINY, *folders(cache, folder / "out"))
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (folder / "loads").exists()

"""What a user gets wrong: one line, status 2, and nothing compiled or written."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command import TINY, folders, smallnets

from smallnets.rows import load

WRONG = {
    "unknown family": (["model=circle"], "Could not find 'model/circle'"),
    "unknown key": (["model.widht=8"], "Could not override 'model.widht'"),
    "wrong key in the model": (["+model.linear.rnak=8"], "Dense takes no 'rnak'"),
    "a wrong key is guessed": (
        ["model=low_rank", "+model.linear.ratoi=0.5"],
        "did you mean ratio",
    ),
    "rank above the smaller width": (
        ["model=low_rank", "model.linear.ratio=null", "model.linear.rank=9", "model.width=8"],
        "rank=9 for d_in=8, d_out=16: choose rank <= 8",
    ),
    "blocks that do not divide": (
        ["model=monarch", "model.width=10"],
        "blocks=4 for d_in=10, d_out=20",
    ),
    "top_k above experts": (
        ["model=mixture", "model.mixture.top_k=5"],
        "top_k=5 for experts=4",
    ),
    "sharing that does not divide": (["model.unique=3"], "unique=3 for depth=2"),
    "a rate that is no number": (["optimizer.learning_rate=abc"], "must be a number"),
    "steps that do not divide": (["evaluations=3"], "evaluations=3 for steps=20"),
    "a batch larger than the data": (["batch_size=5000"], "batch_size=5000 for 3600 examples"),
    "validation that is no share": (["task.validation=1.5"], "validation"),
    "a task folder that is not there": (
        ["task=tfds", "task.directory=/nowhere/at/all"],
        "/nowhere/at/all",
    ),
    "idx files that are not there": (
        ["task=fashion_mnist", "task.source=/nowhere/at/all"],
        "/nowhere/at/all",
    ),
    "a task without its folder": (["task=tfds"], "task.directory must be given"),
    "an empty sweep": (["seed=range(0)"], ""),
    "a whole number that is none": (["steps=20.5"], "steps must be a whole number"),
    "an optimizer that can not be": (["optimizer.warmup=2"], "warmup must be a share"),
    "a type that does not fit": (["optimizer.warmup=abc"], "TypeError"),
    "a stride of nothing": (["model=convolutional", "model.stride=0"], "stride=0"),
    "a rank that is no number": (["model=low_rank", "model.linear.ratio=abc"], "TypeError"),
    "a rate beyond 32 bits": (["optimizer.learning_rate=1e39"], "finite 32-bit number"),
    "no model": (["model=null"], "group"),
    "a reference to nothing": (["model.width=${nope}"], "nope"),
    "an unknown execution": (["hydra.launcher.execution=fast"], "execution must be one of auto"),
    "a target that does not exist": (
        ["model.linear._target_=smallnets.nn.linear.Dnse"],
        "smallnets.nn.linear.Dnse",
    ),
}


@pytest.mark.parametrize("mode", [[], ["-m"]], ids=["alone", "sweep"])
@pytest.mark.parametrize("name", WRONG)
def test_one_line_before_anything_is_written(name, mode, cache: Path, tmp_path: Path, capfd):
    """No program, no row; Hydra itself makes its folder for a run before it starts."""
    arguments, said = WRONG[name]
    width = [] if {"model=convolutional", "model=null"} & {*arguments} else ["model.width=8"]
    programs = set((cache / "programs").glob("*"))
    with pytest.raises(SystemExit) as ended:
        smallnets(*mode, *width, *TINY, *arguments, *folders(cache, tmp_path / "out"))
    assert ended.value.code == 2
    captured = capfd.readouterr()
    (line,) = captured.err.splitlines()
    assert line.startswith("smallnets: ")
    assert said in line
    assert "Traceback" not in captured.out + captured.err
    assert not list((tmp_path / "out").rglob("row.json"))
    assert set((cache / "programs").glob("*")) == programs


@pytest.mark.parametrize("mode", [[], ["-m"]], ids=["alone", "sweep"])
def test_an_output_folder_that_can_not_be_written(mode, cache: Path, tmp_path: Path, capfd):
    taken = tmp_path / "taken"
    taken.write_text("a file")
    with pytest.raises(SystemExit) as ended:
        smallnets(*mode, "model.width=8", *TINY, *folders(cache, taken / "out"))
    assert ended.value.code == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert str(taken / "out") in line


START = "from smallnets.cli import main; main()"


def test_control_c_leaves_what_was_finished_and_says_so(cache: Path, tmp_path: Path):
    """Interrupted when the first rows are there and a program of minutes is under way."""
    sweep = ["-m", "steps=20,2000000", "evaluations=1", "model.width=8", "seed=0,1"]
    process = subprocess.Popen(
        [sys.executable, "-c", START, *sweep, *folders(cache, tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    deadline = time.monotonic() + 300
    while len(list(tmp_path.rglob("row.json"))) < 2:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "stopped: 2 of 4 runs are finished" in " ".join(said.split())
    assert len(list(load(tmp_path))) == 2
    assert "Traceback" not in said


def test_help_loads_nothing_heavy():
    code = (
        "import sys\nfrom smallnets.cli import main\nsys.argv = ['smallnets', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print(sorted({'jax', 'flax', 'numpy', 'polars', 'matplotlib', 'rich'} & {*sys.modules}))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *page, heavy = said.stdout.splitlines()
    assert heavy == "[]"
    assert any(line.split()[:1] == ["model/mixture"] and "top_k" in line for line in page)

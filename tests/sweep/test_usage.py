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
    "unknown network": (["model=circle"], "Could not find 'model/circle'"),
    "a family as a network": (["model=dense"], "write family=dense in place of model=dense"),
    "a family of transformers as a network": (
        ["model=transformer_monarch"],
        "write model=transformer family=monarch in place of model=transformer_monarch",
    ),
    "a family that the network has no place for": (
        ["model=perceptron", "family=mixture"],
        "Perceptron takes no 'mixture'",
    ),
    "several values without -m": (
        ["seed=0,1"],
        "one run has one value for each key, but seed=0,1 has several: add -m for a sweep",
    ),
    "unknown key": (["model.widht=8"], "Could not override 'model.widht'"),
    "wrong key in the model": (["+model.linear.rnak=8"], "Dense takes no 'rnak'"),
    "what makes it a run is left out": (["~_partial_"], "_partial_ must stand in the config"),
    "called before the run": (["_partial_=false"], "leave _partial_: true as it is"),
    "the packages that may be named are left out": (["~allow"], "allow must stand in the config"),
    "a wrong key is guessed": (
        ["family=low_rank", "+model.linear.ratoi=0.5"],
        "did you mean ratio",
    ),
    "rank above the smaller width": (
        ["family=low_rank", "model.linear.ratio=null", "model.linear.rank=9", "model.width=8"],
        "rank=9 for d_in=8, d_out=16: choose rank <= 8",
    ),
    "blocks that do not divide": (
        ["family=monarch", "model.width=10"],
        "blocks=4 for d_in=10, d_out=20",
    ),
    "top_k above experts": (
        ["family=mixture", "model.mixture.top_k=5"],
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
    "a whole number that is none": (["steps=20.5"], "steps must be a whole number"),
    "an optimizer that can not be": (["optimizer.schedule.warmup=2"], "warmup must be a share"),
    "a type that does not fit": (
        ["optimizer.schedule.warmup=abc"],
        "warmup must be a finite",
    ),
    "a stride of nothing": (["model=convolutional", "model.stride=0"], "stride=0"),
    "a rank that is no number": (
        ["family=low_rank", "model.linear.ratio=abc"],
        "ratio must be a finite",
    ),
    "a rate beyond 32 bits": (["optimizer.learning_rate=1e39"], "finite 32-bit number"),
    "no model": (["model=null"], "group"),
    "a reference to nothing": (["model.width=${nope}"], "nope"),
    "an unknown execution": (["hydra.launcher.execution=fast"], "execution must be one of auto"),
    "a target that does not exist": (
        ["model.linear._target_=smallnets.nn.linear.Dnse"],
        "smallnets.nn.linear.Dnse",
    ),
}


SLOW = {  # the same way to the same line: what is wrong is tested where it is said
    "a family of transformers as a network",
    "rank above the smaller width",
    "blocks that do not divide",
    "top_k above experts",
    "sharing that does not divide",
    "validation that is no share",
    "idx files that are not there",
    "a whole number that is none",
    "an optimizer that can not be",
    "a stride of nothing",
    "a rank that is no number",
    "a rate beyond 32 bits",
}
WITHOUT_WIDTH = {"model=convolutional", "model=null", "model=perceptron"}


def refused(capfd, out: Path, cache: Path, *words: str, options: tuple[str, ...] = ()) -> str:
    """The line on standard error of a command that ends with status 2 and leaves nothing."""
    programs = set((cache / "programs").glob("*"))
    with pytest.raises(SystemExit) as ended:
        smallnets(*options, *TINY, *words, *folders(cache, out))
    assert ended.value.code == 2
    captured = capfd.readouterr()
    assert captured.err.count("\n") == 1, captured.err
    assert captured.err.startswith("smallnets: ")
    assert "Traceback" not in captured.out + captured.err
    assert not {path.name for path in out.rglob("*")} - {"multirun.yaml"}  # which is Hydra's
    assert set((cache / "programs").glob("*")) == programs
    return captured.err


@pytest.mark.breadth
@pytest.mark.parametrize(
    "name",
    [pytest.param(each, marks=pytest.mark.slow if each in SLOW else ()) for each in WRONG],
)
def test_one_line_before_anything_is_compiled_or_written(name, cache, tmp_path: Path, capfd):
    arguments, said = WRONG[name]
    width = [] if WITHOUT_WIDTH & {*arguments} else ["model.width=8"]
    assert said in refused(capfd, tmp_path / "out", cache, *width, *arguments)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["family=dense,monarch", "model.width=8,10"], "blocks=4 for d_in=10, d_out=20"),
        (["seed=range(0)"], "a sweep needs at least one run"),
        (["+experiment=mnist1d,austen"], "an experiment brings a sweep of its own"),
    ],
)
def test_every_job_of_a_sweep_is_checked_before_the_first_is_compiled(
    words, said, cache, tmp_path: Path, capfd
):
    assert said in refused(capfd, tmp_path / "out", cache, *words, options=("-m",))


def test_an_output_folder_that_can_not_be_written(cache: Path, tmp_path: Path, capfd):
    taken = tmp_path / "taken"
    taken.write_text("a file")
    assert str(taken / "out") in refused(capfd, taken / "out", cache, "model.width=8")


@pytest.mark.slow
def test_names_are_printed_as_they_are(cache: Path, tmp_path: Path, capfd):
    out = tmp_path / "[/x]:smile:[bold]"
    smallnets("model=logistic", *TINY, f"cache={cache}", f"hydra.sweep.dir='{out}'")
    assert str(out) in capfd.readouterr().out.replace("\n", "")
    assert len(list(load(out))) == 1


def test_a_first_word_that_is_no_verb(capfd):
    with pytest.raises(SystemExit) as ended:
        smallnets("train", "family=dense")
    assert ended.value.code == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert "'train' is neither: the verbs are describe, analyse" in line


START = "from smallnets.cli import main; main()"


@pytest.mark.slow
def test_control_c_leaves_what_was_finished_and_says_so(cache: Path, tmp_path: Path):
    """Interrupted when the first rows are there and a program of minutes is under way."""
    sweep = ["-m", "steps=20,2000000", "evaluations=1", "model=logistic", "seed=0,1"]
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


EARLY = "from smallnets.cli import main; print('here', flush=True); main()"


@pytest.mark.parametrize("seconds", [0.02, 0.3, 1.0])
def test_control_c_in_the_first_second_is_one_line(seconds, cache: Path, tmp_path: Path):
    words = ["family=monarch", *folders(cache, tmp_path / "out")]
    process = subprocess.Popen(
        [sys.executable, "-c", EARLY, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "here\n"
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert said.splitlines()[-1] == "smallnets: stopped"
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("set_to", "expected"),
    [
        ({"XDG_CACHE_HOME": "/some/where"}, "/some/where/smallnets"),
        ({"XDG_CACHE_HOME": "", "HOME": "/home/x"}, "~/.cache/smallnets"),
        ({"HOME": "/home/x"}, "~/.cache/smallnets"),
        ({}, "~/.cache/smallnets"),
    ],
)
def test_the_cache_is_where_the_environment_says(set_to, expected, monkeypatch, capfd):
    """Also without a HOME; an empty XDG_CACHE_HOME is none."""
    for name in ("XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in set_to.items():
        monkeypatch.setenv(name, value)
    smallnets("--cfg", "job", "--resolve")
    assert f"cache: {expected}\n" in capfd.readouterr().out


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

"""Several devices and several processes give the numbers of one, and what they can't do is said."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from command import TINY, folders, smallnets, users_environment

from smallnets import rows
from smallnets.sweep.checkpoint import ABOUT, FOLDER

SMALL = ["model=perceptron", "model.widths=[16,16]"]
LARGE = ["model=perceptron", "model.widths=[512,512]", "save=none", *TINY]
LIMIT = "hydra.launcher.memory_limit=5_000_000"

# What of a program is on one of several devices: its FLOPs, what it sends, the parts of an array.
SHARES = """
import sys
from smallnets.sweep.plan import plan
from smallnets.sweep.portion import layout_of
from smallnets.training.batch import compile_runs
from smallnets.training.trainer import splits

def compiled(*words):
    words = [*words, "steps=20", "evaluations=2", "batch_size=16", f"cache={sys.argv[1]}"]
    (program,) = plan(*words).programs
    arrays = splits(program.data)
    runs = compile_runs(program.stages, program.inputs, program.shared(arrays), evaluations=2,
        execution="vmap", memory_limit=2**40, layout=layout_of(program))
    return runs

def parts(runs, name):
    state = runs.blank[0].parameters
    for step in name.split("."):
        state = getattr(state, step)
    leaf = state.get_raw_value()
    return leaf.sharding.shard_shape(leaf.shape)

small = ["model=perceptron", "model.widths=[64,64]"]
flops = {}
for mesh in (1, 2):
    runs = compiled(*small, "seed=0", f"mesh.data={mesh}")
    program = runs.program if mesh == 1 else runs.program.__closure__[0].cell_contents
    flops[mesh] = program.cost_analysis()["flops"]
print("batch", flops[2] / flops[1])
runs = compiled(*small, "seed=0,1,2,3", "mesh.data=4")
text = runs.program.__closure__[0].cell_contents.as_text()
print("runs", runs.chunk, sum(text.count(each) for each in ("all-reduce(", "all-gather(")))
mixture = ["family=mixture", "model.width=8", "model.depth=2"]
runs = compiled(*mixture, "mesh.experts=2", "mesh.model=2")
print("kernel", *parts(runs, "stack.blocks.layer.expert.up.kernel"))
"""


def started(
    words: Sequence[object], *, devices: int = 8, **variables: str
) -> subprocess.Popen[str]:
    """The command, in a process of its own that has so many devices."""
    command = [sys.executable, "-m", "smallnets", *map(str, words), "~hydra.callbacks.report"]
    flags = f"--xla_force_host_platform_device_count={devices}"
    return subprocess.Popen(
        command,
        env={**users_environment(), "XLA_FLAGS": flags, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def trained(words: Sequence[object], out: Path, **options) -> str:
    """What the command says that trains into ``out``."""
    process = started(words, **options)
    said, _ = process.communicate(timeout=1200)
    assert process.returncode == 0, said
    assert not rows.missing(out)
    return said


def together(words: Sequence[object]) -> list[str]:
    """What two processes say that train together, each with one device."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    processes = [
        started(
            words,
            devices=1,
            JAX_COORDINATOR_ADDRESS=address,
            JAX_NUM_PROCESSES="2",
            JAX_PROCESS_ID=str(index),
        )
        for index in range(2)
    ]
    try:
        said = [process.communicate(timeout=1200)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()  # a process of several does not hear SIGTERM
    assert [process.returncode for process in processes] == [0, 0], said
    return said


def assert_close(out: Path, other: Path) -> None:
    """The same runs, with the same curves to rounding."""
    found = {row.key: row for row in rows.load(out)}
    for row in rows.load(other):
        for name, curve in row.curves.items():
            np.testing.assert_allclose(
                found[row.key].curves[name], curve, rtol=1e-4, atol=1e-5, err_msg=name
            )


@pytest.mark.breadth
@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("mesh.data=2", "2 devices are more than the 1 that are here"),
        ("mesh.model=7", "mesh.model=7 devices share an axis of each weight array, but divide "),
        ("mesh.experts=2", "mesh.experts=2 devices share experts, but the network has no mixture"),
        ("mesh.experts=3 family=mixture", "mesh.experts=3 devices do not divide a mixture's 4 "),
        ("mesh.model=0", "mesh.model must be a whole number from 1, but is 0"),
    ],
)
def test_a_mesh_that_can_not_be_is_one_line(words, said, cache: Path, tmp_path: Path, capfd):
    out = tmp_path / "out"
    with pytest.raises(SystemExit) as ended:
        smallnets("model.width=16", *TINY, *words.split(), *folders(cache, out))
    assert ended.value.code == 2
    error = capfd.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not [path for path in out.rglob("*") if path.name != "multirun.yaml"]


def test_a_batch_is_shared_equally(cache: Path, tmp_path: Path, monkeypatch, capfd):
    monkeypatch.setattr("jax.device_count", lambda: 8)
    with pytest.raises(SystemExit):
        smallnets("model=logistic", *TINY, "mesh.data=3", *folders(cache, tmp_path))
    assert "mesh.data=3 devices share the batch of a run that is trained alone, but do not " in (
        capfd.readouterr().err
    )


@pytest.mark.slow
def test_runs_lie_on_devices_side_by_side_and_have_the_same_numbers(cache: Path, tmp_path: Path):
    """Three runs on two devices, where the last is trained twice."""
    words = ["-m", *SMALL, *TINY, "seed=0,1,2"]
    smallnets(*words, *folders(cache, tmp_path / "one"))
    out = tmp_path / "two"
    trained([*words, "mesh.data=2", *folders(cache, out)], out)
    assert_close(out, tmp_path / "one")
    assert {(row.execution, row.members) for row in rows.load(out)} == {("vmap", 4)}


@pytest.mark.slow
def test_a_run_is_shared_by_its_batch_its_kernels_and_its_experts(cache: Path, tmp_path: Path):
    words = ["family=mixture", "model.width=8", "model.depth=2", *TINY]
    smallnets(*words, *folders(cache, tmp_path / "one"))
    out = tmp_path / "eight"
    mesh = ["mesh.data=2", "mesh.model=2", "mesh.experts=2"]
    trained([*words, *mesh, *folders(cache, out)], out)
    assert_close(out, tmp_path / "one")


@pytest.mark.slow
def test_a_checkpoint_of_a_killed_run_comes_back_on_other_meshes(cache: Path, tmp_path: Path):
    words = [*SMALL, "steps=400", "evaluations=200", "batch_size=16"]
    smallnets(*words, *folders(cache, tmp_path / "one"))
    left = tmp_path / "left"
    cuts = ["hydra.launcher.checkpoint_seconds=1e-6", "hydra.launcher.execution=map"]
    process = started([*words, *cuts, "mesh.model=4", *folders(cache, left)])
    while process.poll() is None and not list(left.glob(f"{FOLDER}/*/*/{ABOUT}")):
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert len(rows.missing(left)) == 1
    for place, mesh in enumerate([["mesh.data=2", "mesh.model=2"], []]):
        out = tmp_path / str(place)
        shutil.copytree(left, out)
        said = trained([*words, "hydra.launcher.execution=map", *mesh, *folders(cache, out)], out)
        assert "is used" not in said
        (row,) = rows.load(out)
        assert row.energy is not None
        assert row.energy["covers"].endswith("since a checkpoint")
        assert_close(out, tmp_path / "one")


@pytest.mark.slow
def test_two_processes_train_one_model_to_the_same_loss(cache: Path, tmp_path: Path):
    words = [*SMALL, *TINY]
    smallnets(*words, *folders(cache, tmp_path / "one"))
    out = tmp_path / "two"
    cuts = "hydra.launcher.checkpoint_seconds=1e-6"  # each writes its part of the checkpoints
    first, second = together([*words, "mesh.data=2", cuts, *folders(cache, out)])
    assert_close(out, tmp_path / "one")
    assert "1 runs in" in first
    assert "runs" not in second


@pytest.mark.slow
def test_two_processes_train_what_is_too_large_for_one(cache: Path, tmp_path: Path):
    words = [*LARGE, "seed=0"]
    smallnets(*words, *folders(cache, tmp_path / "one"))
    with pytest.raises(SystemExit) as ended:
        smallnets(*words, LIMIT, *folders(cache, tmp_path / "none"))
    assert ended.value.code == 1
    (missing,) = rows.missing(tmp_path / "none")
    assert "one run must fit into memory" in missing.error
    out = tmp_path / "two"
    together([*words, LIMIT, "mesh.model=2", *folders(cache, out)])
    assert_close(out, tmp_path / "one")


@pytest.mark.slow
def test_each_device_has_its_part_of_a_program(cache: Path):
    """Half of a batch is less work; runs send each other their curves alone, five each."""
    flags = "--xla_force_host_platform_device_count=8"
    done = subprocess.run(
        [sys.executable, "-c", SHARES, str(cache)],
        env={**users_environment(), "XLA_FLAGS": flags},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    batch, runs, kernel = (line.split() for line in done.stdout.splitlines())
    assert float(batch[1]) < 0.8
    assert runs[1] == "4"
    assert int(runs[2]) <= 5
    assert kernel[1:] == ["1", "2", "2", "8", "8"]  # of 1, 2 blocks, 4 experts, 8 x 16

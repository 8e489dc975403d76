"""A run that fails leaves a row with its error; the others are trained, and the end says so."""

import sys
from pathlib import Path

import jax
import pytest
from command import TINY, folders, smallnets

from smallnets import rows
from smallnets.analysis import table
from smallnets.training import batch

OWN = """
import jax, jax.numpy as jnp, numpy as np
from smallnets.tasks import Data, Split
from smallnets.training import cross_entropy

def load(*, kind):
    if kind == "broken":
        raise KeyError("no such column")
    inputs = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
    split = Split(inputs, (inputs[:, 0] > 0).astype(np.int32))
    return Data(split, split, split, outputs=2)

def check(x):
    raise RuntimeError("a batch that it does not like")

def loss(model, batch, key):
    value = cross_entropy(model, batch, key)
    return value + jax.pure_callback(check, value, jax.lax.stop_gradient(value))
"""
TASK = "_target_: own_code.load\n_partial_: true\nkind: sound\n"
LOSS = "_target_: own_code.loss\n_partial_: true\n"


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The words that bring a task and an objective of one's own, in the current folder."""
    for group, yaml in (("task", TASK), ("objective", LOSS)):
        (tmp_path / group).mkdir()
        (tmp_path / group / "own.yaml").write_text(yaml)
    (tmp_path / "own_code.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "own_code", raising=False)
    words = ["-m", "--config-dir", str(tmp_path), "allow=[own_code]", "task=own"]
    return [*words, "model=logistic", *TINY]


def failing(*words: object) -> None:
    with pytest.raises(SystemExit) as ended:
        smallnets(*words)
    assert ended.value.code == 1


def errors(folder: Path) -> list[str]:
    found = [rows.read(path.parent) for path in folder.glob("*/row.json")]
    return sorted(row.error for row in found if row.status == "failed")


@pytest.mark.slow
def test_a_task_that_raises_leaves_the_others_and_is_tried_again(
    own: list[str], cache: Path, tmp_path: Path, capfd
):
    out = tmp_path / "out"
    failing(*own, "task.kind=sound,broken", "seed=0,1", *folders(cache, out))
    said = capfd.readouterr()
    assert "2 of 4 runs failed" in said.err
    assert said.err.count("\n") == 1
    assert "KeyError: 'no such column'" in " ".join(said.out.split())
    assert len(errors(out)) == 2
    assert len(list(rows.load(out))) == 2
    assert table.from_rows(out).height == 2  # a report passes over what failed
    assert [each.error for each in rows.missing(out)] == errors(out)
    mended = (tmp_path / "own_code.py").read_text().replace('kind == "broken"', "False")
    (tmp_path / "own_code.py").write_text(mended)
    sys.modules.pop("own_code")
    smallnets(*own, "task.kind=sound,broken", "seed=0,1", *folders(cache, out))
    assert not errors(out)
    assert not rows.missing(out)


@pytest.mark.slow
def test_a_loss_that_raises_while_training_leaves_the_others(
    own: list[str], cache: Path, tmp_path: Path
):
    out = tmp_path / "out"
    failing(*own, "objective=cross_entropy,own", *folders(cache, out))
    (error,) = errors(out)
    assert "a batch that it does not like" in error
    assert len(list(rows.load(out))) == 1


def test_where_all_fail_at_once_it_is_one_line_as_ever(own, cache, tmp_path: Path, capfd):
    with pytest.raises(SystemExit) as ended:
        smallnets(*own, "task.kind=broken", *folders(cache, tmp_path / "out"))
    assert ended.value.code == 2
    assert capfd.readouterr().err.count("\n") == 1
    assert not list((tmp_path / "out").glob("*/row.json"))


@pytest.mark.slow  # two programs
def test_a_network_too_large_for_the_memory_leaves_the_others(cache, tmp_path: Path, capfd):
    words = ["-m", "model=perceptron", "model.widths=[8],[2000,2000]", "seed=0,1", *TINY]
    failing(*words, "hydra.launcher.memory_limit=33_000_000", *folders(cache, tmp_path))
    assert len(list(rows.load(tmp_path))) == 2
    assert all("one run must fit into memory" in each for each in errors(tmp_path))
    assert "2 of 4 runs failed" in capfd.readouterr().err


@pytest.mark.slow
def test_a_program_out_of_memory_is_halved_and_named(cache, tmp_path: Path, capfd, monkeypatch):
    """As a device says it that has no room for more than two runs."""
    advance = batch.Compiled.advance

    def full(self, values, shared, cut, last):
        if self.chunk > 2:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating")
        return advance(self, values, shared, cut, last)

    monkeypatch.setattr(batch.Compiled, "advance", full)
    words = ["-m", "model.width=8", "model.depth=1", "seed=range(5)", *TINY]
    smallnets(*words, "hydra.launcher.execution=vmap", *folders(cache, tmp_path))
    said = " ".join(capfd.readouterr().out.split())
    assert "width 8, " in said
    assert "parameters: out of memory with 5 runs at once, so 2 are tried" in said
    found = list(rows.load(tmp_path))
    assert len(found) == 5
    assert {row.members for row in found} == {2}


@pytest.mark.slow
def test_other_errors_of_a_device_fail_the_runs(cache, tmp_path: Path, monkeypatch, capfd):
    def broken(self, values, shared, cut, last):
        raise jax.errors.JaxRuntimeError("INTERNAL: the device is gone")

    monkeypatch.setattr(batch.Compiled, "advance", broken)
    failing("-m", "model=logistic", "seed=0,1", *TINY, *folders(cache, tmp_path))
    assert errors(tmp_path) == 2 * ["JaxRuntimeError: INTERNAL: the device is gone"]

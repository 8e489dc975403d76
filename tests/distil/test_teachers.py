"""Who may teach: a chain's parent, a function, networks of other kinds; and what gets one line."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from command import TINY, folders

import smallnets as library
from smallnets import rows
from smallnets.sweep.teachers import Function, teaching

MODULE = """
import jax.numpy as jnp
import numpy as np

def of_numpy(inputs):
    x = np.asarray(inputs).reshape(len(inputs), -1)
    return np.stack([k * x.mean(axis=1) for k in range(10)], axis=1)

def of_jax(inputs):
    return jnp.stack([k * inputs.reshape(len(inputs), -1).mean(axis=1) for k in range(10)], axis=1)

def of_three(inputs):
    return jnp.zeros((len(inputs), 3))

def broken(inputs):
    raise KeyError("of its own")
"""
STUDENT = ["model.width=8", "model.depth=2", *TINY]
ENCODER = ["model=encoder", "++model.attention.head_dim=4", *STUDENT]


@pytest.fixture(scope="module")
def run(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = folders(cache, tmp_path_factory.mktemp("teacher") / "study")
    (found,) = library.train(library.plan("model.width=16", "model.depth=3", *TINY, *out))
    return found.folder


@pytest.fixture
def functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "taught_by.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "taught_by", raising=False)
    return "allow=[taught_by]"


@pytest.mark.slow  # trains a teacher and a chain
def test_the_parent_of_a_chain_teaches_what_it_was_made_into(
    run: Path, cache: Path, tmp_path: Path
):
    words = [f"start={run}", "compress=[factorise,finetune]", "calibration=64", *TINY]
    words += ["+distil=logits", "distil.teacher=parent"]
    library.train(library.plan(*words, *folders(cache, tmp_path / "out")))
    of = {row.route.split(" > ")[-1]: row for row in rows.load(tmp_path / "out")}
    key = f"{rows.read(run).key}-last"
    small, tuned = of["factorise ratio=0.5"], of["finetune"]
    assert (small.teacher, small.parent) == ("", key)
    assert (tuned.teacher, tuned.parent) == (key, f"{small.key}-last")
    assert tuned.config["distil"]["teacher"] == str(run)  # which the row alone leads to
    assert tuned.costs["teacher_flops"] == 20 * 16 * rows.read(run).costs["flops"]


@pytest.mark.slow  # compiles two programs
def test_a_function_teaches_whether_it_is_of_jax_or_not(
    functions: str, cache: Path, tmp_path: Path
):
    losses = {}
    for name in ("of_jax", "of_numpy"):
        words = [*STUDENT, "+distil=logits", f"distil.teacher=taught_by.{name}", functions]
        plan = library.plan(*words, *folders(cache, tmp_path / name))
        (found,) = library.train(plan)
        assert found.row.teacher.startswith(f"taught_by.{name}-")
        losses[name] = found.row.curves["train_loss"]
    np.testing.assert_allclose(losses["of_jax"], losses["of_numpy"], rtol=1e-5)


def test_a_function_that_is_not_of_jax_is_called_on_the_host():
    def double(x: np.ndarray) -> np.ndarray:
        return 2.0 * np.asarray(x)

    x = jnp.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(jax.jit(Function(double))(x), 2 * x)


@pytest.mark.slow  # composes many configs
def test_one_teacher_is_held_once_for_all_runs_of_a_program(run: Path, cache: Path, tmp_path: Path):
    words = [*STUDENT, "+distil=logits", f"distil.teacher={run}", "distil.temperature=1,2,4"]
    (program,) = library.plan(*words, "seed=0,1", *folders(cache, tmp_path)).programs
    (asked,) = teaching([program], 0)
    assert asked.taught
    assert asked.taught.answers is None
    assert {leaf.shape[0] for leaf in jax.tree.leaves(asked.taught.networks)} == {1}
    _, _, index, _ = asked.inputs  # all of the teacher that has an axis of runs
    np.testing.assert_array_equal(index, [0] * 6)


@pytest.mark.slow  # composes many configs
def test_what_can_not_teach_is_one_line_before_anything_is_compiled(
    run: Path, functions: str, cache: Path, tmp_path: Path
):
    logits = [*STUDENT, "+distil=logits"]
    features = [*STUDENT, "+distil=features", f"distil.teacher={run}"]
    text = ["task=austen", "task.length=16", "model=transformer", *STUDENT]
    empty = tmp_path / "empty"
    empty.mkdir()
    for words, said in (
        (logits, "distil.teacher must be given"),
        ([*logits, "distil.teacher=/nowhere"], "distil.teacher=/nowhere holds no run for seed=0"),
        ([*logits, f"distil.teacher={empty}"], "holds no run"),
        ([*logits, "distil.teacher=parent"], "add start=RUN"),
        ([*logits, f"distil.teacher={run}", "distil.memory=2"], r"must lie in \[0, 1\]"),
        ([*text, "+distil=logits", f"distil.teacher={run}"], "reads arrays and the task gives byt"),
        ([*features, "distil.layer=3"], "distil.layer must be the number of a block, 1 to 2"),
        ([*features, "distil.teacher_layer=0"], "distil.teacher_layer must be .* 1 to 3, but is 0"),
        ([*ENCODER, "+distil=features", f"distil.teacher={run}"], "choose distil=relations"),
        ([*ENCODER, "+distil=attention", f"distil.teacher={run}"], "needs blocks with attention"),
        (["model=perceptron", *TINY, "+distil=features", f"distil.teacher={run}"], "a Perceptron"),
        ([*STUDENT, "+distil=features", f"distil.teacher=[{run}]"], "is of a Ensemble"),
        (
            [*STUDENT, "+distil=sequences", f"distil.teacher={run}"],
            "choose a task of text, or distil=logits",
        ),
        ([*logits, "distil.teacher=taught_by.of_jax"], "if you trust it, allow its package"),
        ([*logits, functions, "distil.teacher=taught_by.none"], "which is not there"),
        ([*logits, functions, "distil.teacher=taught_by.of_three"], r"but gives float32 \(16, 3\)"),
        ([*logits, functions, "distil.teacher=taught_by.broken"], "KeyError: 'of its own'"),
    ):
        with pytest.raises(ValueError, match=said) as error:
            library.plan(*words, *folders(cache, tmp_path / "out"))
        assert "\n" not in str(error.value), words
    assert not (tmp_path / "out").exists()

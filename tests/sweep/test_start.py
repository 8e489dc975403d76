"""Training on from a kept model: which parent each run has, and what is refused."""

from pathlib import Path

import jax
import numpy as np
import pytest
from command import TINY, folders

import smallnets
from smallnets import rows


def perceptron(width: int) -> list[str]:
    return ["model=perceptron", f"model.widths=[{width}]"]


@pytest.fixture(scope="module")
def parents(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of two seeds, and two of another width beside them."""
    folder = tmp_path_factory.mktemp("parents") / "study"
    words = [*perceptron(8), "seed=range(2)", *TINY, *folders(cache, folder)]
    smallnets.train(smallnets.plan(*words))
    return folder


def child(parents: Path | str, cache: Path, out: Path, *words: str) -> list:
    words = ("optimizer.learning_rate=1e-9", "optimizer.weight_decay=0", *words)
    plan = smallnets.plan(f"start={parents}", *words, *TINY, *folders(cache, out))
    return smallnets.train(plan)


@pytest.mark.slow
def test_each_run_starts_from_the_parent_of_its_seed(parents: Path, cache: Path, tmp_path: Path):
    runs = child(parents, cache, tmp_path / "out", "seed=range(2)")
    of_seed = {row.seed: row for row in rows.load(parents)}
    for run in runs:
        parent = of_seed[run.row.seed]
        assert run.row.parent == f"{parent.key}-last"
        assert run.row.family == parent.family
        assert run.row.config["model"] == parent.config["model"]
        before, after = (
            jax.tree.leaves(smallnets.load(folder)) for folder in (parents / parent.key, run.folder)
        )
        for one, other in zip(before, after, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-6)
        assert abs(run.row.metrics["test_loss"] - parent.metrics["test_loss"]) < 1e-4


@pytest.mark.slow
def test_one_run_may_be_the_parent_of_all(parents: Path, cache: Path, tmp_path: Path):
    row = next(iter(rows.load(parents)))
    runs = child(parents / row.key, cache, tmp_path / "out", "seed=range(2)")
    assert {run.row.parent for run in runs} == {f"{row.key}-last"}
    assert len({run.row.key for run in runs}) == 2


@pytest.mark.slow
def test_parents_of_other_shapes_are_other_programs(parents: Path, cache: Path, tmp_path: Path):
    both = tmp_path / "both"
    words = [*perceptron(12), "seed=2", *TINY, *folders(cache, both)]
    smallnets.train(smallnets.plan(*words))
    for row in rows.load(parents):
        (both / row.key).symlink_to(parents / row.key)
    plan = smallnets.plan(
        f"start={both}/*", "seed=range(3)", *TINY, *folders(cache, tmp_path / "c")
    )
    assert [len(program.group.jobs) for program in plan.programs] == [2, 1]


@pytest.mark.slow  # two programs
def test_a_child_is_another_run_than_the_same_from_scratch(
    parents: Path, cache: Path, tmp_path: Path
):
    row = next(iter(rows.load(parents)))
    words = ["seed=0", *TINY, *folders(cache, tmp_path)]
    scratch = smallnets.plan(*perceptron(8), *words).programs[0].keys
    assert smallnets.plan(f"start={parents / row.key}", *words).programs[0].keys != scratch


@pytest.mark.slow
def test_what_is_refused(parents: Path, cache: Path, tmp_path: Path):
    row = next(iter(rows.load(parents)))
    run = parents / row.key
    out = folders(cache, tmp_path / "out")
    for words, said in (
        ([f"start={run}", "model.width=16"], "brings its network: leave out model.width=16"),
        ([f"start={run}", "family=monarch"], "brings its network: leave out family=monarch"),
        ([f"start={run}", "budget.params=900"], "leave out budget.params=900"),
        ([f"start={parents}", "seed=7"], "holds no run for seed=7"),
        (["start=/nowhere"], "holds no run for seed=0"),
        ([f"start={run}", "task=sparse_parity"], "perceptron dense widths.count=1: "),
    ):
        with pytest.raises(ValueError, match=said.replace("(", r"\(")) as error:
            smallnets.plan(*words, *TINY, *out)
        assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_two_parents_of_one_seed_are_refused(parents: Path, cache: Path, tmp_path: Path):
    run = parents / next(iter(rows.load(parents))).key
    out = folders(cache, tmp_path / "out")
    child(run, cache, tmp_path / "twice", "seed=0")
    child(run, cache, tmp_path / "twice", "seed=0", "optimizer.learning_rate=1e-8")
    with pytest.raises(ValueError, match="must match one run for each seed"):
        smallnets.plan(f"start={tmp_path / 'twice'}", *TINY, *out)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_last_and_the_best_of_a_run_are_two_parents(cache: Path, tmp_path: Path):
    words = ["model=logistic", *TINY, *folders(cache, tmp_path / "study")]
    keys = []
    for save in ("last", "best"):
        (run,) = smallnets.train(smallnets.plan(*words, f"save={save}"))
        again = [f"start={run.folder}", *TINY, *folders(cache, tmp_path / "children")]
        keys.append(smallnets.plan(*again).programs[0].keys[0])
    assert keys[0] != keys[1]

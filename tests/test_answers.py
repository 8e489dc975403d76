"""Targets, labels and classes from the command to the row, the kept model and the report."""

import json
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from command import TINY, folders
from command import smallnets as command

import smallnets
from smallnets import rows
from smallnets.sweep.result import best_metrics
from smallnets.training import cross_entropy
from smallnets.training.fit import Fit

random = np.random.default_rng(0)
INPUTS = random.normal(size=(200, 6)).astype(np.float32)
ANSWERS = {
    "targets": np.stack([50 + 20 * INPUTS[:, 0], INPUTS[:, 1] - 3], axis=1),
    "labels": (INPUTS[:, :3] > 0).astype(np.int32),
    "classes": (INPUTS[:, 0] > 1).astype(np.int32),
}
WORDS = {
    "targets": ["objective=huber", "task.metrics=[rmse]"],
    "labels": ["objective=binary_cross_entropy", "task.metrics=[auc,f1]"],
    "classes": ["objective.class_weights=balanced", "task.metrics=[auc,balanced_accuracy]"],
}


def perceptron(width: int) -> list[str]:
    return ["model=perceptron", f"model.widths=[{width}]"]


def of(kind: str, folder: Path) -> list[str]:
    np.savez(folder / "own.npz", inputs=INPUTS, labels=ANSWERS[kind])
    return ["task=arrays", f"task.source={folder / 'own.npz'}", f"task.kind={kind}"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["targets", "labels", "classes"])
def test_a_run_of_each_kind(kind: str, cache: Path, tmp_path: Path):
    words = [*of(kind, tmp_path), *perceptron(16), *WORDS[kind], "steps=200", "evaluations=2"]
    words += ["batch_size=16", "optimizer.learning_rate=1e-2", *folders(cache, tmp_path / "out")]
    command(*words)
    (row,) = rows.load(tmp_path / "out")
    (program,) = smallnets.plan(*words).programs
    model = smallnets.load(tmp_path / "out" / row.key)
    names = tuple(program.data.metrics)
    found = model.evaluate(program.data.test, metrics=names, batch_size=7)
    assert set(names) < set(found)
    for name, value in found.items():
        assert row.metrics[f"test_{name}"] == pytest.approx(value, rel=1e-4, abs=1e-6), name
    answers = np.asarray(model(INPUTS))
    if kind == "targets":  # in their units
        spread = np.abs(answers - ANSWERS[kind]).mean(axis=0)
        assert (spread < [5, 0.3]).all()
        assert row.metrics["test_r2"] > 0.9
        assert row.perfect == {"r2": 1.0}
    else:
        assert row.metrics["test_auc"] > 0.95
        assert row.perfect["auc"] == 1


@pytest.mark.slow
def test_the_report_of_targets_fits_the_loss_and_of_any_metric_the_distance_from_its_best(
    cache: Path, tmp_path: Path, capsys
):
    words = [*of("targets", tmp_path), "objective=squared_error", "model=perceptron", *TINY]
    words += ["model.widths=[2,2],[4,4],[8,8]", "seed=0,1", *folders(cache, tmp_path / "out")]
    command("-m", *words, report=True)
    assert "report: " in capsys.readouterr().out
    command("analyse", tmp_path / "out", "--score", "test_r2", "--validation", "validation_r2")
    assert "report: " in capsys.readouterr().out
    assert "1 - test r2" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.breadth
@pytest.mark.parametrize(
    ("kind", "words", "said"),
    [
        ("targets", [], "objective=cross_entropy is for classes but the task has float32 labels"),
        ("labels", [], "the task has several labels: choose objective=binary_cross_entropy"),
        ("classes", ["objective=huber"], "objective=huber is for targets"),
        ("classes", ["task.metrics=[r2]"], "metrics of classes are error, top_5_error"),
        ("classes", ["objective.class_weights=[1,2,3]"], "there are 3 for 2 classes"),
        ("classes", ["patience=2"], "patience=2 is for the best model, but save=last"),
        ("classes", ["precision=float8"], "precision"),
    ],
)
def test_what_does_not_fit_gets_one_line(kind, words, said, cache: Path, tmp_path: Path):
    out = folders(cache, tmp_path / "out")
    with pytest.raises(ValueError, match=r"\w") as error:
        smallnets.plan(*of(kind, tmp_path), *perceptron(4), *words, *TINY, *out)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_a_metric_that_is_no_number_does_not_make_a_run_diverged(cache: Path, tmp_path: Path):
    """The AUC of a test split of one class."""
    arrays = {"train_inputs": INPUTS[:150], "train_labels": ANSWERS["classes"][:150]}
    arrays |= {"test_inputs": INPUTS[150:], "test_labels": np.zeros(50, np.int32)}
    np.savez(tmp_path / "own.npz", **arrays)
    words = ["task=arrays", f"task.source={tmp_path / 'own.npz'}", "task.metrics=[auc]"]
    command(*words, "model=logistic", *TINY, *folders(cache, tmp_path / "out"))
    (row,) = rows.load(tmp_path / "out")
    assert math.isnan(row.metrics["test_auc"])
    assert row.status == "finished"


@pytest.mark.slow
def test_text_has_perplexity_and_no_metric_of_all_answers_at_once(cache: Path, tmp_path: Path):
    (tmp_path / "book.txt").write_text("so it goes, and goes on. " * 200)
    words = ["task=text", f"task.source={tmp_path / 'book.txt'}", "task.length=16", *TINY]
    words += ["model=transformer", "model.width=16", "model.depth=1"]
    words += [f"cache={cache}", f"hydra.sweep.dir={tmp_path / 'out'}"]
    assert smallnets.plan(*words, "task.metrics=[perplexity]").runs == 1
    with pytest.raises(ValueError, match="a mean over its tokens, but auc is not"):
        smallnets.plan(*words, "task.metrics=[auc]")


@pytest.mark.parametrize("patience", [None, 1, 2, 3])
def test_the_best_metrics_of_a_row_are_those_of_the_model_that_is_kept(patience: int | None):
    fit = Fit(
        optimizer=optax.adam, objective=cross_entropy, steps=8, batch_size=1, evaluations=8,
        keep="best", patience=patience,
    )  # fmt: skip
    for losses in random.normal(size=(20, 8)).astype(np.float32):
        best = (jnp.inf, jnp.zeros((), int), jnp.zeros(()), ())
        for place, loss in enumerate(losses):
            now = (jnp.full((), float(place)), ())
            best = fit._best(best, {"validation_loss": loss}, now, jnp.asarray(place == 0))
        curves = {"validation_loss": losses.tolist()}
        assert best_metrics(curves, list(range(8)), patience)["best_step"] == float(best[2])


@pytest.mark.slow
def test_a_mixture_answers_each_example_alone_as_in_a_batch(cache: Path, tmp_path: Path):
    words = ["family=mixture", "model.width=8", "model.depth=1", *TINY, *folders(cache, tmp_path)]
    (run,) = smallnets.train(smallnets.plan(*words))
    assert run.row.dropless
    assert json.loads((run.folder / "row.json").read_text())["dropless"] is True
    model = smallnets.load(run.folder)
    x = random.normal(size=(40, 40, 1)).astype(np.float32)
    answer = jax.jit(model)
    alone = np.concatenate([answer(x[i : i + 1]) for i in range(40)])
    np.testing.assert_allclose(alone, answer(x), rtol=1e-5, atol=1e-6)

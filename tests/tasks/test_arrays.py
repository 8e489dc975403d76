"""Own arrays and tables, through the command and by their values."""

import logging
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import polars as pl
import pytest
from command import TINY, folders, smallnets

from smallnets import plan, rows
from smallnets.tasks import arrays
from smallnets.tasks.data import Data
from smallnets.tasks.examples import parted

DRAW = np.random.default_rng(0)
X = DRAW.normal(3, 2, (100, 4))
Y = np.arange(100) % 4
CSV = """age,town,member,fare,survived
20,Rome,true,1.5,yes
40,Oslo,false,2.5,no
,Rome,true,3.5,yes
60,Rome,false,,no
30,Oslo,true,0.5,yes
50,Rome,false,2.0,no
"""
SPLIT = [*["train"] * 4, "validation", "test"]
SMALL = ["model=perceptron", "model.widths=[8]"]


def npz(folder: Path, **named: Any) -> str:
    np.savez(folder / "x.npz", **named)
    return str(folder / "x.npz")


def csv(folder: Path, text: str = CSV) -> str:
    (folder / "x.csv").write_text(text)
    return str(folder / "x.csv")


def table(folder: Path, **options) -> Data:
    frame = pl.read_csv(CSV.encode()).with_columns(part=pl.Series(SPLIT))
    frame.write_parquet(folder / "x.parquet")
    source = str(folder / "x.parquet")
    return arrays.load(source=source, **{"target": "survived", "split": "part", **options})


def test_the_command_trains_on_arrays_and_on_a_table(tmp_path, cache):
    words = np.asarray(["cat", "dog", "eel", "fly"])[Y]
    arguments = ["task=arrays", f"task.source={npz(tmp_path, data=X, target=words)}", *SMALL]
    smallnets(*arguments, *TINY, *folders(cache, tmp_path / "out"))
    (row,) = rows.load(tmp_path / "out")
    assert {"test_error", "validation_error"} <= row.metrics.keys()
    source = [f"task.source={csv(tmp_path)}", "task.target=survived", "task.missing=mean"]
    words = ["task=arrays", *source, "task.validation=0.2", *SMALL, "batch_size=2"]
    made = plan(*words, f"cache={cache}")
    assert str(made.folder) == "multirun/runs-arrays-x"
    (program,) = made.programs
    assert program.data.train.inputs.shape == (4, 5)
    assert program.task == "arrays missing=mean source=x.csv target=survived validation=0.2"


@pytest.mark.parametrize("dtype", [np.float64, np.int16, np.uint8, bool])
def test_whatever_numbers_are_kept_or_converted_and_cut(tmp_path, dtype):
    x = (X * 10 % 200).astype(dtype)
    data = arrays.load(source=npz(tmp_path, x=x, y=Y.astype(np.uint8)))
    assert [len(s) for s in (data.train, data.validation, data.test)] == [70, 10, 20]
    assert data.train.inputs.dtype == (np.uint8 if dtype == np.uint8 else np.float32)
    prepared = data.preparation(data.train.inputs) if data.raw else data.train.inputs
    np.testing.assert_allclose(np.asarray(prepared).mean(axis=0), 0, atol=1e-5)
    assert data.names == ("0", "1", "2", "3")
    np.testing.assert_array_equal(np.bincount(data.test.labels), [5] * 4)  # of each its share


def test_splits_in_the_file_stay_and_images_get_a_channel(tmp_path):
    images = DRAW.integers(0, 256, (10, 6, 5), np.uint8)
    labels = np.arange(10)[:, None] % 3 + 4
    source = npz(
        tmp_path, train_images=images, train_labels=labels, val_images=images[:3] + 1,
        val_labels=labels[:3], test_images=images[:4] + 2, test_labels=labels[:4],
    )  # fmt: skip
    data = arrays.load(source=source)
    np.testing.assert_array_equal(data.train.inputs[..., 0], images)
    np.testing.assert_array_equal(data.test.labels, [0, 1, 2, 0])
    assert (len(data.validation), data.names) == (3, ("4", "5", "6"))
    keras = npz(tmp_path, x_train=X, y_train=Y, x_test=X[:9] + 1, y_test=Y[:9])
    data = arrays.load(source=keras)
    assert [len(s) for s in (data.train, data.validation, data.test)] == [90, 10, 9]


def test_what_labels_are_is_inferred_or_said(tmp_path):
    def kind(y, **options):
        return arrays.load(source=npz(tmp_path, x=X, y=y), **options)

    targets = kind(np.stack([X[:, 0], 100 + 0 * Y], axis=1))
    assert (targets.kind, targets.outputs, targets.train.labels.dtype) == ("targets", 2, "float32")
    assert targets.targets is not None
    np.testing.assert_allclose(targets.train.labels.mean(axis=0), 0, atol=1e-6)
    back = np.asarray(targets.targets(jnp.asarray(targets.test.labels)))
    np.testing.assert_allclose(back[:, 1], 100)
    assert np.abs(back[:, :1] - X[None, :, 0]).min(axis=1).max() < 1e-5
    counts = kind(Y, kind="targets")
    assert (counts.kind, counts.outputs) == ("targets", 1)
    several = kind((np.stack([Y, Y + 1], axis=1) % 2) * (X[:, :2] > 0).astype(int))
    assert (several.kind, several.outputs) == ("labels", 2)
    one_hot = kind(np.eye(4, dtype=int)[Y], kind="classes")
    assert (one_hot.kind, one_hot.outputs) == ("classes", 4)
    assert kind(Y.astype(float), kind="classes").names == ("0", "1", "2", "3")


def test_a_table_is_encoded_by_its_train_split(tmp_path, caplog):
    data = table(tmp_path, missing="mean", inputs=["age", "town", "fare", "member"])
    age = np.asarray([20, 40, 40, 60])  # the missing one is the mean
    expected = (age - age.mean()) / age.std()
    np.testing.assert_allclose(data.train.inputs[:, 0], expected, rtol=1e-6)
    np.testing.assert_array_equal(data.train.inputs[:, 1:3], [[0, 1], [1, 0], [0, 1], [0, 1]])
    assert data.names == ("no", "yes")
    np.testing.assert_allclose(data.test.inputs[0, 0], (50 - 40) / age.std(), rtol=1e-6)
    assert data.preparation.mean is not None
    np.testing.assert_array_equal(data.preparation.mean[...][0, 1:3], [0, 0])
    assert "1 in age, 1 in fare" in caplog.text


def test_rows_with_a_gap_may_be_dropped_and_unseen_words_are_zeros(tmp_path, caplog):
    data = table(tmp_path, missing="drop")
    assert len(data.train) == 2
    assert "2 rows with missing values are left out" in caplog.text
    frame = pl.DataFrame(
        {"a": ["x", "y", "x", "z"], "b": [1, 0, 1, 1], "s": ["train"] * 3 + ["test"]}
    )
    frame.write_csv(tmp_path / "u.csv")
    source = str(tmp_path / "u.csv")
    data = arrays.load(source=source, target="b", split="s", validation=0.34)
    np.testing.assert_array_equal(data.test.inputs, [[0, 0]][: len(data.test)])
    assert "1 test rows have a category of a that no train row has" in caplog.text


def test_several_columns_may_be_predicted(tmp_path):
    frame = pl.DataFrame(X, schema=["a", "b", "c", "d"])
    frame.write_csv(tmp_path / "t.csv")
    data = arrays.load(source=str(tmp_path / "t.csv"), target=["c", "d"])
    assert (data.kind, data.names, data.train.inputs.shape) == ("targets", ("c", "d"), (70, 2))


def test_examples_in_two_splits_are_said(tmp_path, caplog):
    twice = np.r_[X[:7], X[:7] + 1]
    source = npz(tmp_path, train_x=X, train_y=Y, test_x=twice, test_y=Y[:14])
    with caplog.at_level(logging.WARNING):
        arrays.load(source=source, validation=0)
    assert "7 of 14 test examples have the same inputs as a train example" in caplog.text


def test_a_cut_gives_each_class_its_share_and_keeps_a_rare_one_for_training():
    labels = np.asarray([0] * 60 + [1] * 30 + [2], np.int32)
    examples = {"train": arrays.Examples(np.arange(91), labels)}
    options = {"validation": 0.1, "test": 0.2, "stratify": True}
    found = parted("x", examples, **options, seed=0)
    assert sorted(np.concatenate([each.inputs for each in found.values()])) == list(range(91))
    np.testing.assert_array_equal(np.bincount(found["test"].labels), [12, 6])
    other = parted("x", examples, **options, seed=1)
    assert set(other["test"].inputs) != set(found["test"].inputs)


def test_what_is_wrong_is_one_line_of_the_command(tmp_path, cache, capsys):
    source = csv(tmp_path)
    with pytest.raises(SystemExit):
        smallnets("task=arrays", f"task.source={source}", "task.target=survived", *SMALL, *TINY)
    error = capsys.readouterr().err
    assert "no value may be missing, but these are: 1 in age, 1 in fare" in error
    assert error.count("\n") == 1


NAN = np.where(np.arange(100)[:, None] == 3, np.nan, X)
REFUSED = {
    "no file": (lambda d: str(d / "none.npz"), {}, "none.npz: a .npz, .csv or .parquet file"),
    "another format": (lambda d: str(Path(__file__)), {}, "name or convert one"),
    "not an archive": (lambda d: (d / "a.npz").write_text("a") and str(d / "a.npz"), {}, "whole"),
    "objects": (lambda d: npz(d, x=X, y=np.asarray([{}] * 100)), {}, "plain arrays is needed"),
    "other names": (lambda d: npz(d, a=X, b=Y), {}, "no inputs of train under .* a, b:"),
    "no labels": (lambda d: npz(d, x=X), {}, "no labels of train under labels, y"),
    "no test labels": (
        lambda d: npz(d, x_train=X, y_train=Y, x_test=X), {}, "no labels of test under",
    ),
    "lengths": (lambda d: npz(d, x=X, y=Y[:9]), {}, r"they are \(100, 4\) and \(9,\)"),
    "words": (lambda d: npz(d, x=X.astype(str), y=Y), {}, "inputs must be numbers"),
    "a gap": (lambda d: npz(d, x=NAN, y=Y), {}, "1 in feature 0, 1 in feature 1"),
    "infinity": (lambda d: npz(d, x=X / np.where(X.min() < X, 1, 0), y=Y), {}, "not finite"),
    "a gap in the target": (lambda d: npz(d, x=X, y=NAN[:, 0]), {}, "1 targets are not finite"),
    "one class": (lambda d: npz(d, x=X, y=0 * Y), {}, "every example has 0"),
    "one hot": (lambda d: npz(d, x=X, y=np.eye(4)[Y]), {}, "set kind=classes or kind=labels"),
    "no kind": (lambda d: npz(d, x=X, y=Y), {"kind": "class"}, "kind must be one of classes"),
    "floats as classes": (lambda d: npz(d, x=X, y=X[:, 0]), {"kind": "classes"}, "one whole"),
    "no labels of 0 and 1": (lambda d: npz(d, x=X, y=Y), {"kind": "labels"}, "run from 0 to 3"),
    "words as targets": (lambda d: csv(d), {"target": "town", "kind": "targets", "missing": "mean"},
                         "targets are numbers"),
    "shares": (lambda d: npz(d, x=X, y=Y), {"test": 0.95}, "leave -5, 10 and 95 of 100"),
    "no test": (lambda d: npz(d, x=X, y=Y), {"test": 0}, "at least 1 is needed of each"),
    "a share": (lambda d: npz(d, x=X, y=Y), {"validation": "a"}, "validation must be a share"),
    "a split of arrays": (lambda d: npz(d, x=X, y=Y), {"split": "s"}, "split names a column"),
    "no target": (lambda d: csv(d), {}, "set task.target to one of age, town"),
    "no column": (lambda d: csv(d), {"target": "ages"}, "target names a column 'ages', but there"),
    "the target as input": (lambda d: csv(d), {"target": "age", "inputs": ["age"]}, "beside"),
    "no such split": (lambda d: csv(d), {"target": "age", "split": "town"}, "but has Oslo, Rome"),
    "a missing target": (lambda d: csv(d), {"target": "age"}, "1 in age are missing"),
    "missing how": (lambda d: csv(d), {"target": "town", "missing": "zero"}, "must be mean"),
    "no row": (lambda d: csv(d, "a,b\n"), {"target": "a"}, "holds no row"),
    "nothing left": (
        lambda d: csv(d, "a,b\n,1\n,0\n"), {"target": "b", "missing": "drop"}, "no row of train",
    ),
    "an empty column": (
        lambda d: csv(d, "a,b\n" + ",1\n,0\n" * 9), {"target": "b", "missing": "mean"},
        "a has no value at all",
    ),
    "ragged": (lambda d: csv(d, "a,b\n1,2,3\n"), {"target": "a"}, "whole .csv file is needed"),
    "a date": (
        lambda d: pl.DataFrame({"a": [1, 2] * 9}).with_columns(b=pl.date(2020, 1, 1))
        .write_parquet(d / "d.parquet") or str(d / "d.parquet"), {"target": "a"}, "but b is Date",
    ),
    "names": (
        lambda d: csv(d, "n,y\n" + "".join(f"n{i},{i % 2}\n" for i in range(2000))),
        {"target": "y"}, "n has 1400 categories in 1400 train rows",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("write", "options", "said"), REFUSED.values(), ids=REFUSED)
def test_what_can_not_be_read_is_refused_in_one_line(tmp_path, write, options, said):
    with pytest.raises(ValueError, match=said) as raised, np.errstate(divide="ignore"):
        arrays.load(source=write(tmp_path), **options)
    assert "\n" not in str(raised.value)

"""A TFDS directory is read whole and in order, or refused in one line that says what is wrong."""

import io
import json
import os
import shutil
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from smallnets.tasks import tfds as task
from smallnets.tasks.data import hold_out, standardise
from smallnets.tasks.tfds import INFO, load, read

N = {"train": 30, "test": 11}


def example(index: int) -> dict:
    return {
        "image": np.full((4, 5, 1), index, np.uint8),
        "label": index % 3,
        "age": index % 7,
        "shift": index - 1,
        "weight": np.float64(index / 4),
        "name": f"number {index}",
        "picture": png(np.full((2 + index % 2, 3, 1), index, np.uint8)),
        "photo": png(np.full((2, 3, 3), index, np.uint8)),
        "broken": io.BytesIO(b"no picture"),
    }


def png(pixels: np.ndarray) -> io.BytesIO:
    file = io.BytesIO()
    Image.fromarray(pixels.squeeze()).save(file, "png")
    file.seek(0)
    return file


class Toy(tfds.core.GeneratorBasedBuilder):
    """Every kind of feature that a task may meet."""

    VERSION = tfds.core.Version("1.2.0")

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Tensor(shape=(4, 5, 1), dtype=np.uint8),
                    "label": tfds.features.ClassLabel(num_classes=4),
                    "age": tfds.features.Tensor(shape=(), dtype=np.int64),
                    "shift": tfds.features.Tensor(shape=(), dtype=np.int64),
                    "weight": tfds.features.Tensor(shape=(), dtype=np.float64),
                    "name": tfds.features.Text(),
                    "picture": tfds.features.Image(shape=(None, None, 1)),
                    "photo": tfds.features.Image(shape=(2, 3, 3)),
                    "broken": tfds.features.Image(shape=(2, 3, 3)),
                }
            ),
            supervised_keys=("image", "label"),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        return {name: ((i, example(i)) for i in range(n)) for name, n in N.items()}

    def _generate_examples(self):
        raise AssertionError("the split generators hold the examples")


@pytest.fixture(scope="session")
def toy(tmp_path_factory) -> Path:
    builder = Toy(data_dir=tmp_path_factory.mktemp("toy"), file_format="array_record")
    config = tfds.download.DownloadConfig(num_shards=3)
    builder.download_and_prepare(download_config=config)
    return Path(builder.data_path)


@pytest.fixture
def directory(toy, tmp_path) -> Path:
    return Path(shutil.copytree(toy, tmp_path / "toy"))


@pytest.fixture
def cache(tmp_path) -> Path:
    return tmp_path / "cache"


def test_a_directory_is_read_whole_and_in_order(directory, cache):
    assert len(list(directory.glob("*train*"))) == 3
    data = read(directory, cache=cache)
    for name, n in N.items():
        split = getattr(data, name)
        assert split.inputs.shape == (n, 4, 5, 1)
        np.testing.assert_array_equal(split.inputs[:, 2, 2, 0], np.arange(n))
        np.testing.assert_array_equal(split.labels, np.arange(n) % 3)
    assert len(data.validation) == 0
    assert (data.outputs, data.names) == (4, ("0", "1", "2", "3"))


def test_features_and_splits_are_named_by_option(directory, cache):
    data = read(
        directory,
        cache=cache,
        inputs="photo",
        labels="age",
        train="train[:20]",
        test="train[20:]",
    )
    assert (data.outputs, data.names) == (7, ())  # numbers without names
    assert data.train.inputs.shape == (20, 2, 3, 3)
    np.testing.assert_array_equal(data.test.inputs[:, 0, 0, 0], np.arange(20, 30))


def test_the_second_time_nothing_is_decoded(directory, cache, monkeypatch):
    first = read(directory, cache=cache)
    monkeypatch.setattr(task, "_decode", None)
    second = read(directory, cache=cache)
    np.testing.assert_array_equal(first.train.inputs, second.train.inputs)
    np.testing.assert_array_equal(first.test.labels, second.test.labels)


def test_a_cache_that_cannot_be_written_is_said_and_the_data_are_read(directory, cache):
    cache.mkdir()
    (cache / "arrays").touch()  # a file in the folder's place
    with pytest.warns(UserWarning, match="what was decoded is not kept for the next time: cache"):
        data = read(directory, cache=cache)
    assert len(data.train)


def test_other_options_and_other_files_are_read_anew(directory, cache):
    read(directory, cache=cache)
    assert read(directory, cache=cache, inputs="photo").train.inputs.shape[1:] == (2, 3, 3)
    os.utime(directory / INFO, (0, 0))
    next(directory.glob("*test*")).unlink()
    with pytest.raises(ValueError, match="must hold 3 records, 0 can"):
        read(directory, cache=cache)


@pytest.mark.slow
def test_damaged_kept_arrays_are_never_taken_for_whole(directory, cache):
    first = read(directory, cache=cache, train="train[:2]", test="test[:1]")
    (kept,) = (cache / "arrays").iterdir()
    content = kept.read_bytes()
    with np.load(kept) as arrays:
        whole = dict(arrays)
    flips = (
        content[:i] + bytes([content[i] ^ (1 << i % 8)]) + content[i + 1 :]
        for i in range(len(content))
    )
    for damaged in (*flips, content[:-1], content[:100], b""):
        kept.write_bytes(damaged)
        arrays = task._load(kept)
        assert arrays is None or all((arrays[name] == whole[name]).all() for name in whole)
    second = read(directory, cache=cache, train="train[:2]", test="test[:1]")
    np.testing.assert_array_equal(first.train.inputs, second.train.inputs)


def of(directory: Path, cache: Path) -> dict[str, Any]:
    return {"directory": str(directory), "cache": str(cache)}


def edit(directory: Path, **changes) -> None:
    info = json.loads((directory / INFO).read_text())
    (directory / INFO).write_text(json.dumps(info | changes))


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


SHARD = "toy-train.array_record-00001-of-00003"
LOST = f"{SHARD} must hold 10 records, 0 can be read"
DAMAGES = {
    "absent": (lambda d: shutil.rmtree(d), "is needed, there is none"),
    "a file": (lambda d: (shutil.rmtree(d), d.touch()), "is needed, there is none"),
    "no info": (lambda d: (d / INFO).unlink(), "holds dataset_info.json, this folder does not"),
    "no features": (lambda d: (d / "features.json").unlink(), "must be whole"),
    "info cut": (lambda d: cut(d / INFO), "must be whole, but: Failed to load JSON"),
    "info of nothing": (lambda d: (d / INFO).write_text("{}"), "must be whole, but: Invalid"),
    "features cut": (lambda d: cut(d / "features.json"), "must be whole"),
    "no shard": (lambda d: (d / SHARD).unlink(), LOST),
    "shard cut": (lambda d: cut(d / SHARD), LOST),
    "shard ends early": (lambda d: os.truncate(d / SHARD, 70_000), LOST),
    "shard empty": (lambda d: os.truncate(d / SHARD, 0), LOST),
    "record": (lambda d: flip(d / SHARD, 1100), "split 'train' can't be decoded .*hash mismatch"),
    "no format": (lambda d: edit(d, fileFormat=""), "array_record is needed"),
    "tfrecord": (lambda d: edit(d, fileFormat="tfrecord"), "written as tfrecord, array_record"),
    "parquet": (lambda d: edit(d, fileFormat="parquet"), "written as parquet, array_record"),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGES.values(), ids=DAMAGES)
def test_a_directory_that_is_not_whole_is_refused(directory, cache, damage, message):
    damage(directory)
    with pytest.raises(ValueError, match=message) as error:
        read(directory, cache=cache)
    assert str(error.value).startswith(str(directory))
    assert "\n" not in str(error.value)
    assert not cache.exists()


def test_the_folder_above_is_refused_with_the_folders_to_name(directory, cache):
    with pytest.raises(ValueError, match=r"name one of its folders \['toy'\]"):
        read(directory.parent, cache=cache)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inputs": "imgae"}, "no feature 'imgae' for inputs; choose one of .*'image'"),
        ({"labels": "y"}, "no feature 'y' for labels"),
        ({"labels": "weight"}, "labels must be one integer an example, feature 'weight'"),
        ({"labels": "image"}, "labels must be one integer an example, feature 'image'"),
        ({"labels": "name"}, "feature 'name' must be numbers"),
        ({"inputs": "name"}, "feature 'name' must be numbers"),
        ({"inputs": "age"}, r"inputs: float32 or uint8 \[n, ...\] or int32"),
        ({"inputs": "picture"}, r"feature 'picture' must have one shape, found 2 in 30"),
        (
            {"test": "validation"},
            r"no examples in split 'validation'; choose among \['test', 'train'\]",
        ),
        ({"train": "train[90%"}, "no examples in split 'train.90%'"),
        ({"inputs": "broken"}, "split 'train' can't be decoded .cannot identify image"),
        ({"labels": "shift"}, r"labels lie in \[0, 29\), these run from -1 to 28"),
        ({"test": "test[11:]"}, r"no examples in split 'test.11:.'"),
    ],
)
def test_what_the_dataset_does_not_hold_is_refused(directory, cache, options, message):
    with pytest.raises(ValueError, match=message) as error:
        read(directory, cache=cache, **options)
    assert "\n" not in str(error.value)
    assert not cache.exists()


def test_reading_prints_nothing(directory, cache, capfd):
    read(directory, cache=cache)
    assert capfd.readouterr() == ("", "")


def test_the_task_holds_out_and_standardises_what_is_read(directory, cache):
    options: dict[str, Any] = {"inputs": "photo", "labels": "age"}
    found = load(directory=str(directory), cache=str(cache), validation=0.1, **options)
    expected = standardise(hold_out(read(directory, cache=cache, **options), 0.1))
    for name in ("train", "validation", "test"):
        ours, wanted = getattr(found, name), getattr(expected, name)
        np.testing.assert_array_equal(ours.inputs, wanted.inputs)
        np.testing.assert_array_equal(ours.labels, wanted.labels)
    assert len(found.validation) == 3
    prepared = np.asarray(found.preparation(found.train.inputs))
    np.testing.assert_allclose(prepared.mean(axis=(0, 1, 2)), 0, atol=1e-5)


def test_several_features_are_a_table(directory, cache):
    found = load(
        directory=str(directory), cache=str(cache), validation=0.1,
        inputs=["age", "photo", "label"], labels="weight", train="train[:20]", test="train[20:]",
    )  # fmt: skip
    assert (found.kind, found.outputs, len(found.train)) == ("targets", 1, 18)
    assert found.train.inputs.shape[1:] == (1 + 2 * 3 * 3 + 3,)
    np.testing.assert_array_equal(found.train.inputs[:, -3:].sum(axis=1), 1)  # of the label
    assert found.targets is not None
    weights = np.asarray(found.targets(jnp.asarray(found.test.labels)))
    np.testing.assert_allclose(weights[:, 0], np.arange(20, 30) / 4, rtol=1e-6)
    words = load(directory=str(directory), cache=str(cache), validation=0, inputs=["age"])
    assert (words.kind, words.names) == ("classes", ("0", "1", "2"))


def test_a_feature_of_text_is_predicted_token_by_token(directory, cache):
    options: dict[str, Any] = {**of(directory, cache), "inputs": "name"}
    found = load(**options, validation=0.1, length=4, train="train[10:]")
    assert bytes(found.train.inputs[0].astype(np.uint8)) == b"numb"
    assert [len(s) for s in (found.train, found.validation, found.test)] == [36, 4, 11 + 1]
    with pytest.raises(ValueError, match="no feature 'nam' for inputs"):
        load(**{**options, "inputs": ["nam"]}, validation=0.1)


@pytest.mark.parametrize("option", ["inputs", "labels", "train", "test"])
def test_the_task_passes_every_name_on(directory, cache, option):
    with pytest.raises(ValueError, match="'absent'"):
        load(**{**of(directory, cache), option: "absent"}, validation=0)


def test_the_task_refuses_bad_options_before_anything_is_written(tmp_path, cache):
    with pytest.raises(ValueError, match="nowhere: a readable folder prepared by TFDS"):
        load(directory=str(tmp_path / "nowhere"), cache=str(cache), validation=0)
    with pytest.raises(ValueError, match="validation"):
        load(directory=str(tmp_path), cache=str(cache), validation=1)
    assert not cache.exists()

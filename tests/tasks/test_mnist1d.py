"""MNIST-1D is the package's own data, whatever the state of the global generators."""

import random
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from mnist1d.data import get_dataset_args, make_dataset

from smallnets.tasks import mnist1d
from smallnets.tasks.mnist1d_builder import generate


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> str:
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def made() -> dict:
    states = random.getstate(), np.random.get_state()
    made = make_dataset(get_dataset_args())
    random.setstate(states[0])
    np.random.set_state(states[1])
    return made


@pytest.mark.slow
def test_it_equals_the_package_to_the_last_bit_of_float32(cache, made):
    data = mnist1d.load(cache=cache, validation=0)
    assert data.outputs == 10
    assert len(data.validation) == 0
    for split, suffix in ((data.train, ""), (data.test, "_test")):
        np.testing.assert_array_equal(split.inputs[..., 0], made[f"x{suffix}"].astype(np.float32))
        np.testing.assert_array_equal(split.labels, made[f"y{suffix}"])
    assert data.train.inputs.shape == (4000, 40, 1)
    assert data.test.inputs.shape == (1000, 40, 1)


@pytest.mark.slow
def test_a_tenth_is_held_out_and_the_test_split_stays(cache):
    whole, parted = (mnist1d.load(cache=cache, validation=share) for share in (0, 0.1))
    assert (len(parted.train), len(parted.validation)) == (3600, 400)
    np.testing.assert_array_equal(whole.test.inputs, parted.test.inputs)


@pytest.mark.breadth
@pytest.mark.parametrize("damage", ["records", "features.json", "dataset_info.json", "folder"])
@pytest.mark.slow
def test_what_is_damaged_in_the_cache_is_made_anew(damage, cache, tmp_path):
    whole = mnist1d.load(cache=cache, validation=0)
    folder = tmp_path / "mnist1d-1.0.0"
    if damage == "folder":
        folder.write_text("a file in its place")
    else:
        shutil.copytree(Path(cache) / folder.name, folder)
        name = next(folder.glob("*train*")).name if damage == "records" else damage
        (folder / name).write_bytes((folder / name).read_bytes()[:100])
    with pytest.warns(UserWarning, match=r"mnist1d-1\.0\.0 is damaged, and is made anew"):
        again = mnist1d.load(cache=str(tmp_path), validation=0)
    np.testing.assert_array_equal(again.train.inputs, whole.train.inputs)
    mnist1d.load(cache=str(tmp_path), validation=0)  # and is whole now: without a warning


@pytest.mark.slow
def test_a_cache_that_has_all_is_only_read(cache, monkeypatch):
    mnist1d.load(cache=cache, validation=0)
    for place in ("tfds.writing", "cache.writing", "tfds.replacing"):
        monkeypatch.setattr(f"smallnets.tasks.{place}", lambda path: pytest.fail("written"))
    assert len(mnist1d.load(cache=cache, validation=0).train) == 4000


def test_generating_leaves_the_global_generators_alone(monkeypatch):
    few = SimpleNamespace(**{**vars(get_dataset_args()), "num_samples": 50})
    monkeypatch.setattr("mnist1d.data.get_dataset_args", lambda: few)
    draws = []
    for between in (dict, generate):
        random.seed(7)
        np.random.seed(7)
        between()
        draws.append((random.random(), np.random.random()))
    assert draws[0] == draws[1]
    assert len(generate()["train"][0]) == 40


def test_a_wrong_share_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match="validation"):
        mnist1d.load(cache=str(tmp_path / "cache"), validation=1)
    assert not (tmp_path / "cache").exists()

"""The task of any TFDS directory: ours here, with names by option and inputs standardised."""

import numpy as np
import pytest

from smallnets.tasks import fashion_mnist, tfds


@pytest.fixture
def prepared(idx_folder, tmp_path):
    fashion_mnist.load(source=str(idx_folder), cache=str(tmp_path), validation=0)
    (directory,) = (path for path in tmp_path.glob("fashion_mnist-*") if path.is_dir())
    return directory


def test_a_prepared_directory_gives_the_same_data_as_the_task_that_prepared_it(
    prepared, idx_folder, tmp_path
):
    ours = fashion_mnist.load(source=str(idx_folder), cache=str(tmp_path), validation=0.1)
    read = tfds.load(
        directory=str(prepared), cache=str(tmp_path / "other"), validation=0.1, labels="label"
    )
    for name in ("train", "validation", "test"):
        np.testing.assert_array_equal(getattr(ours, name).inputs, getattr(read, name).inputs)
        np.testing.assert_array_equal(getattr(ours, name).labels, getattr(read, name).labels)


@pytest.mark.parametrize("option", ["inputs", "labels", "train", "test"])
def test_every_name_is_passed_on(prepared, tmp_path, option):
    with pytest.raises(ValueError, match="'absent'"):
        tfds.load(directory=str(prepared), cache=str(tmp_path), validation=0, **{option: "absent"})


def test_bad_options_are_refused_before_anything_is_written(tmp_path):
    cache = tmp_path / "cache"
    with pytest.raises(ValueError, match="nowhere: a readable folder prepared by TFDS"):
        tfds.load(directory=str(tmp_path / "nowhere"), cache=str(cache), validation=0)
    with pytest.raises(ValueError, match="validation"):
        tfds.load(directory=str(tmp_path), cache=str(cache), validation=1)
    assert not cache.exists()

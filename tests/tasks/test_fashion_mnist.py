"""Fashion-MNIST from idx files: small made-up ones always, the real ones where they lie."""

import numpy as np
import pytest

from smallnets.tasks import fashion_mnist


def refused(source, message: str, validation: float = 0) -> None:
    with pytest.raises(ValueError, match=message) as error:
        fashion_mnist.load(source=str(source), validation=validation)
    assert "\n" not in str(error.value)


def test_pixels_and_labels_are_those_of_the_files(idx_folder, images):
    data = fashion_mnist.load(source=str(idx_folder), validation=0)
    pixels = images["train"][0].astype(np.float64)
    for split, name in ((data.train, "train"), (data.test, "t10k")):
        np.testing.assert_array_equal(split.inputs[..., 0], images[name][0])
        expected = (images[name][0] - pixels.mean()) / pixels.std()
        np.testing.assert_allclose(data.preparation(split.inputs)[..., 0], expected, atol=1e-5)
        np.testing.assert_array_equal(split.labels, images[name][1])
    assert data.outputs == len(data.names) == 10
    assert data.names[9] == "Ankle boot"


def test_held_out_pixels_do_not_enter_the_standardisation(idx_folder):
    data = fashion_mnist.load(source=str(idx_folder), validation=0.25)
    assert (len(data.train), len(data.validation)) == (45, 15)
    means = (abs(data.preparation(s.inputs).mean()) for s in (data.train, data.validation))
    assert next(means) < 1e-5 < next(means)


def test_other_files_are_other_data(idx_folder):
    first = fashion_mnist.load(source=str(idx_folder), validation=0)
    for part in ("images-idx3", "labels-idx1"):
        (idx_folder / f"train-{part}-ubyte.gz").replace(idx_folder / f"t10k-{part}-ubyte.gz.new")
        (idx_folder / f"t10k-{part}-ubyte.gz").replace(idx_folder / f"train-{part}-ubyte.gz")
        (idx_folder / f"t10k-{part}-ubyte.gz.new").replace(idx_folder / f"t10k-{part}-ubyte.gz")
    second = fashion_mnist.load(source=str(idx_folder), validation=0)
    assert (len(first.train), len(second.train)) == (60, 20)


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    refused(tmp_path / "nowhere", r"nowhere: a readable folder of idx.gz .* task.source=/path")


def test_a_wrong_share_is_refused(idx_folder):
    refused(idx_folder, "validation", validation=-1)


@pytest.mark.parametrize("part", ["train-images-idx3", "t10k-labels-idx1"])
def test_missing_and_half_written_files_are_refused(idx_folder, part):
    path = idx_folder / f"{part}-ubyte.gz"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    refused(idx_folder, f"{part}.*end-of-stream")
    path.unlink()
    refused(idx_folder, f"{part}.*No such file")
    path.mkdir()
    refused(idx_folder, f"{part}.*Is a directory")


@pytest.mark.parametrize(
    ("shape", "labels", "message"),
    [
        ((3, 32, 32), [0, 1, 2], r"found \(3, 32, 32\)"),
        ((3, 28, 28), [0, 10, 2], "labels up to 10"),
        ((0, 28, 28), [], r"found \(0, 28, 28\)"),
    ],
)
def test_other_images_and_labels_are_refused(idx_folder, write_idx, shape, labels, message):
    write_idx(idx_folder / "t10k-images-idx3-ubyte.gz", np.zeros(shape))
    write_idx(idx_folder / "t10k-labels-idx1-ubyte.gz", np.array(labels))
    refused(idx_folder, f"'t10k' must hold .* {message}")


def test_the_real_files_have_the_published_counts_and_moments(fashion_folder):
    data = fashion_mnist.raw(fashion_folder)
    np.testing.assert_array_equal(np.bincount(data.train.labels), [6000] * 10)
    np.testing.assert_array_equal(np.bincount(data.test.labels), [1000] * 10)
    pixels = data.train.inputs.astype(np.float32)
    mean = pixels.mean(dtype=np.float64) / 255
    variance = np.square(pixels).mean(dtype=np.float64) / 255**2 - mean**2
    assert (round(mean, 4), round(variance**0.5, 4)) == (0.2860, 0.3530)

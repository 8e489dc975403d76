"""Own images, from folders and idx files to a trained run."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from command import TINY, folders, smallnets
from PIL import Image

from smallnets import rows
from smallnets.tasks import images

DRAW = np.random.default_rng(0)


def picture(path: Path, mode: str = "L", size: tuple[int, int] = (6, 4)) -> np.ndarray:
    """A random picture of a width and a height; what the task should make of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    channels = len(Image.new(mode, (1, 1)).getbands())
    pixels = DRAW.integers(0, 256, (size[1], size[0], channels), np.uint8)
    Image.fromarray(pixels.squeeze(), mode if channels > 1 else None).save(path)
    return pixels


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of 20 pictures each."""
    for i in range(20):
        for name in ("dog", "cat"):
            picture(tmp_path / "pets" / name / f"{i:02}.png")
    (tmp_path / "pets" / "cat" / "notes.txt").write_text("not a picture")
    (tmp_path / "pets" / ".hidden").mkdir()
    return tmp_path / "pets"


def of(folder: Path, **options):
    return images.load(source=str(folder), **options)


@pytest.mark.slow
def test_the_command_trains_on_a_folder_of_pictures(folder, tmp_path, cache):
    small = ["model=perceptron", "model.widths=[8]", *TINY]
    smallnets("task=images", f"task.source={folder}", *small, *folders(cache, tmp_path / "out"))
    (row,) = rows.load(tmp_path / "out")
    assert {"test_error", "validation_error"} <= row.metrics.keys()


def test_pixels_and_classes_are_those_of_the_files(folder):
    data = of(folder)
    assert data.names == ("cat", "dog")
    assert [len(s) for s in (data.train, data.validation, data.test)] == [28, 4, 8]
    assert (data.train.inputs.dtype, data.train.inputs.shape[1:]) == (np.uint8, (4, 6, 1))
    np.testing.assert_array_equal(np.bincount(data.test.labels), [4, 4])
    seen = {row.tobytes() for s in (data.train, data.validation, data.test) for row in s.inputs}
    files = {np.asarray(Image.open(path)).tobytes() for path in folder.rglob("*.png")}
    assert seen == files
    prepared = np.asarray(data.preparation(data.train.inputs))
    np.testing.assert_allclose([prepared.mean(), prepared.std()], [0, 1], atol=1e-4)


def test_the_folders_splits_stay(tmp_path):
    kept = {}
    for split, count in (("train", 5), ("val", 2), ("test", 3)):
        for name in ("a", "b"):
            for i in range(count):
                kept[split] = picture(tmp_path / split / name / f"{i}.png", "RGB")
    data = of(tmp_path)
    assert [len(s) for s in (data.train, data.validation, data.test)] == [10, 4, 6]
    np.testing.assert_array_equal(data.test.inputs[-1], kept["test"])
    np.testing.assert_array_equal(data.test.labels, [0, 0, 0, 1, 1, 1])


def test_one_colour_picture_makes_all_colour_and_alpha_is_dropped(folder):
    opaque = picture(folder / "dog" / "99.png", "RGBA")
    data = of(folder, test=0.5)
    assert data.train.inputs.shape[1:] == (4, 6, 3)
    every = np.concatenate([s.inputs for s in (data.train, data.validation, data.test)])
    assert any((row == opaque[..., :3]).all() for row in every)
    assert sum((row == row[..., :1]).all() for row in every) == 40  # the grey ones stay grey


def test_pictures_of_several_sizes_are_refused_or_resized(folder):
    picture(folder / "dog" / "large.jpg", size=(8, 8))
    with pytest.raises(
        ValueError, match=r"from \(4, 6\) .* to \(8, 8\) \(large.jpg\): set task.si"
    ):
        of(folder)
    assert of(folder, size=[5, 3]).train.inputs.shape[1:] == (5, 3, 1)


@pytest.mark.parametrize("packed", [True, False])
def test_idx_files_are_read_packed_or_not(idx_folder, images, packed):
    if not packed:
        for path in list(idx_folder.iterdir()):
            name = path.stem.replace("-idx", ".idx")
            (idx_folder / name).write_bytes(gzip.decompress(path.read_bytes()))
            path.unlink()
    data = of(idx_folder, validation=0)
    np.testing.assert_array_equal(data.train.inputs[..., 0], images["train"][0])
    np.testing.assert_array_equal(data.test.labels, images["t10k"][1])
    assert data.outputs == 10


REFUSED = {
    "no folder": (lambda f: f / "none", {}, "a folder of images is needed"),
    "no classes": (lambda f: f / "cat", {}, "as in cat/cat/1.png"),
    "one class": (lambda f: (f / "dog").rename(f.parent / "d") and f, {}, "has 'cat'"),
    "an empty class": (lambda f: (f / "eel").mkdir() or f, {}, "eel: holds no image"),
    "damaged": (lambda f: (f / "dog" / "x.png").write_bytes(b"\x89PNG") and f, {}, "x.png: a"),
    "16 bits": (
        lambda f: Image.fromarray(np.zeros((4, 6), np.uint16)).save(f / "dog" / "x.png") or f,
        {}, "x.png: .* more than 8 bits",
    ),
    "a size": (lambda f: f, {"size": 32}, "size is a height and a width"),
    "sizes": (lambda f: f, {"size": [0, 3]}, r"size\[0\] must be a whole number"),
    "shares": (lambda f: f, {"test": 1.0}, "test must be a share"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "options", "said"), REFUSED.values(), ids=REFUSED)
def test_what_can_not_be_read_is_refused_in_one_line(folder, change, options, said):
    with pytest.raises(ValueError, match=said) as raised:
        of(change(folder), **options)
    assert "\n" not in str(raised.value)

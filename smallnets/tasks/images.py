"""Own images: a folder for each class of PNG, JPEG and the like, or a folder of idx files."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from smallnets.tasks import idx
from smallnets.tasks.data import Data, check_whole
from smallnets.tasks.examples import NAMES, Examples, answered, assembled, parted

SUFFIXES = {
    ".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp",
}  # fmt: skip
GREY = ("1", "L", "LA")
DEEP = ("I", "F")  # and what starts with them: 16 bits and more


def load(
    *,
    source: str,
    size: Sequence[int] | None = None,
    validation: float = 0.1,
    test: float = 0.2,
    split_seed: int = 0,
    metrics: Sequence[str] = (),
) -> Data:
    """Images ``[n, H, W, C]`` as uint8, standardised in training, and their classes.

    ``source`` is a folder with a folder for each class, or with the folders ``train``, ``test`` and
    perhaps ``validation`` of such folders; or one of idx files, gzipped or not, named as MNIST's.
    Classes are numbered in the order of their names. One channel where all images are grey, else
    three; transparency is dropped, and photographs are turned as they were taken. ``size``, height
    and width, resizes them (bilinear, antialiased).

    What the folder does not split is cut by the shares ``validation`` and ``test``, drawn by
    ``split_seed``, of each class its share. Raises ValueError, naming the file, for a folder that
    is otherwise, for files that are no whole images of 8 bits, and for images of several sizes.
    """
    folder = Path(source).expanduser()
    if not folder.is_dir():
        raise ValueError(f"{folder}: a folder of images is needed, there is none: name another")
    if size is not None:
        if not isinstance(size, Sequence) or isinstance(size, str) or len(size) != 2:
            raise ValueError(f"size is a height and a width, as [32,32], but is {size!r}: give two")
        check_whole({"size[0]": size[0], "size[1]": size[1]}, least=1)
    if any(idx.find(folder, name)[0].exists() for name in ("train", "t10k")):
        if size is not None:
            raise ValueError(
                f"{folder}: size resizes files of images, idx files have one: leave it"
            )
        found = _of_idx(folder)
    else:
        found = _of_folders(folder, size)
    found, answers = answered(folder, found)
    found = parted(folder, found, validation=validation, test=test, seed=split_seed, stratify=True)
    inputs = {name: each.inputs for name, each in found.items()}
    return assembled(folder, inputs, found, answers, metrics=metrics)


def _of_idx(folder: Path) -> dict[str, Examples]:
    found = {}
    for split, name in (("train", "train"), ("test", "t10k")):
        images, labels = idx.read_examples(folder, name)
        found[split] = Examples(images[..., None], labels)
    return found


def _of_folders(folder: Path, size: Sequence[int] | None) -> dict[str, Examples]:
    inside = {path.name: path for path in _folders(folder)}
    splits = {"train": folder}
    if "train" in inside:
        splits = {
            split: inside[name]
            for split, names in NAMES.items()
            for name in names
            if name in inside
        }
    files = {split: list(_files(path)) for split, path in splits.items()}
    names = [[path for path, _ in pairs] for pairs in files.values()]
    with ThreadPoolExecutor() as pool:  # decoding leaves Python's lock
        read = partial(_read, size=size)
        images = dict(zip(files, [list(pool.map(read, each)) for each in names], strict=True))
    shapes = {
        array.shape[:2]: path
        for each, paths in zip(images.values(), names, strict=True)
        for array, path in zip(each, paths, strict=True)
    }
    if len(shapes) > 1:
        (one, first), *_, (other, last) = sorted(shapes.items())
        raise ValueError(
            f"{folder}: images must have one size, but there are {len(shapes)}, from {one} "
            f"({first.name}) to {other} ({last.name}): set task.size=[32,32] to resize them"
        )
    colours = any(array.shape[2] == 3 for each in images.values() for array in each)
    found = {}
    for split, pairs in files.items():
        labels = np.asarray([label for _, label in pairs])
        arrays = [np.repeat(a, 3, 2) if colours and a.shape[2] == 1 else a for a in images[split]]
        found[split] = Examples(np.stack(arrays), labels)
    return found


def _folders(folder: Path) -> list[Path]:
    return sorted(
        path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")
    )


def _files(folder: Path) -> list[tuple[Path, str]]:
    """The images below ``folder``, and of each its class, the name of the folder in it."""
    found = []
    for inside in _folders(folder):
        paths = [
            path
            for path in sorted(inside.rglob("*"))
            if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
        ]
        if not paths:
            raise ValueError(
                f"{inside}: holds no image ({', '.join(sorted(SUFFIXES))}), but a folder of "
                f"{folder} is a class: put its images there, or take it away"
            )
        found += [(path, inside.name) for path in paths]
    if not found:
        raise ValueError(
            f"{folder}: a folder for each class is needed, as in {folder.name}/cat/1.png, or idx "
            "files, but there is none: name another"
        )
    return found


def _read(path: Path, size: Sequence[int] | None) -> np.ndarray:
    """uint8 ``[height, width, 1 or 3]``."""
    try:
        with Image.open(path) as opened:
            image = ImageOps.exif_transpose(opened)
            if image.mode.startswith(DEEP):
                raise ValueError(f"it has more than 8 bits a channel ({image.mode})")
            if image.mode == "P" and "transparency" in image.info:
                image = image.convert("RGBA")
            image = image.convert("L" if image.mode in GREY else "RGB")
            if size is not None:
                image = image.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(
            f"{path}: a whole image of 8 bits is needed, but: {error}: replace it, or take it away"
        ) from None
    array = np.asarray(image)
    return array[..., None] if array.ndim == 2 else array

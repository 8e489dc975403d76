"""Small data sets in the formats that the tasks read."""

import gzip
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest


def _write_idx(path: Path, array: np.ndarray) -> None:
    header = bytes([0, 0, 8, array.ndim]) + np.asarray(array.shape, ">u4").tobytes()
    path.write_bytes(gzip.compress(header + array.astype(np.uint8).tobytes()))


@pytest.fixture(scope="session")
def write_idx() -> Callable[[Path, np.ndarray], None]:
    """A function that writes unsigned bytes as an idx.gz file."""
    return _write_idx


@pytest.fixture
def images() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Random images and labels under the names of Fashion-MNIST's files."""
    draw = np.random.default_rng(0)
    return {
        name: (draw.integers(0, 256, (n, 28, 28), np.uint8), draw.permutation(np.arange(n) % 10))
        for name, n in (("train", 60), ("t10k", 20))
    }


@pytest.fixture
def idx_folder(tmp_path, images) -> Path:
    """A small folder in the format of Fashion-MNIST."""
    folder = tmp_path / "idx"
    folder.mkdir()
    for name, (pixels, labels) in images.items():
        _write_idx(folder / f"{name}-images-idx3-ubyte.gz", pixels)
        _write_idx(folder / f"{name}-labels-idx1-ubyte.gz", labels)
    return folder


@pytest.fixture(scope="session")
def fashion_folder() -> Path:
    """The real files, from FASHION_MNIST or Debian's folder; the test is skipped without them."""
    folder = Path(os.environ.get("FASHION_MNIST", "/usr/share/datasets/fashion-mnist"))
    if not folder.is_dir():
        pytest.skip(f"no Fashion-MNIST in {folder}; set FASHION_MNIST to its folder")
    return folder

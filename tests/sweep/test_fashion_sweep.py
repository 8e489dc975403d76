"""A small sweep on real images."""

import os
from pathlib import Path

import pytest
from command import folders, smallnets

from smallnets.rows import load

SOURCE = Path(os.environ.get("FASHION_MNIST", "/usr/share/datasets/fashion-mnist"))


@pytest.mark.slow  # four programs
@pytest.mark.skipif(not SOURCE.is_dir(), reason="needs Debian's package dataset-fashion-mnist")
def test_a_sweep_on_fashion_mnist_learns(cache: Path, tmp_path: Path):
    smallnets(
        "-m", "+experiment=fashion_mnist", f"task.source={SOURCE}", "family=dense,low_rank",
        "model.width=8", "seed=0,1", "optimizer.learning_rate=3e-3", "steps=100",
        *folders(cache, tmp_path),
    )  # fmt: skip
    rows = list(load(tmp_path))
    assert {(row.family, row.seed) for row in rows} == {
        ("residual dense", 0), ("residual dense", 1),
        ("residual low_rank", 0), ("residual low_rank", 1),
    }  # fmt: skip
    assert all(row.metrics["test_error"] < 0.4 for row in rows)

"""Text under the launcher: from the command line to rows in bits per byte."""

import math
from pathlib import Path

import pytest
from command import TINY, folders, smallnets

from smallnets.rows import load

TEXT = ["task=austen", "task.length=16"]
SMALL = ["model.width=8", "model.depth=2", "++model.attention.head_dim=4"]


@pytest.mark.slow  # the novels' held-out ends are long; bits per byte are tested in tests/tasks
def test_a_sweep_of_decoders_gives_bits_per_byte(cache: Path, tmp_path: Path):
    decoder = ["model=transformer", "family=shared", *SMALL]
    smallnets("-m", *decoder, *TEXT, "seed=0,1", *TINY, *folders(cache, tmp_path))
    rows = list(load(tmp_path))
    assert len(rows) == 2
    for row in rows:
        assert row.family == "transformer shared attention.head_dim=4 depth=2"
        assert (row.status, row.members) == ("finished", 2)
        for split in ("validation", "test"):
            nats, bits = (row.metrics[f"{split}_{name}"] for name in ("loss", "bits_per_byte"))
            assert bits == pytest.approx(nats / math.log(2))  # a byte is a token
            assert len(row.curves[f"{split}_bits_per_byte"]) == 2
        best = row.metrics["best_test_loss"] / math.log(2)
        assert row.metrics["best_test_bits_per_byte"] == pytest.approx(best)
        assert row.metrics["test_loss"] < row.curves["test_loss"][0] < 2 * math.log(256)

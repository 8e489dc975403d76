"""Text under the launcher: from the command line to rows in bits per byte."""

import math
from pathlib import Path

import pytest
from command import TINY, folders, smallnets

from smallnets.rows import load

TEXT = ["task=austen", "task.length=16"]
SMALL = ["model.width=8", "model.depth=2", "++model.attention.head_dim=4"]


def test_a_sweep_of_decoders_gives_bits_per_byte(cache: Path, tmp_path: Path):
    models = "model=transformer,transformer_shared"
    smallnets("-m", models, *TEXT, *SMALL, "seed=0,1", *TINY, *folders(cache, tmp_path))
    rows = list(load(tmp_path))
    assert {row.family for row in rows} == {
        "transformer attention.head_dim=4 depth=2",
        "transformer_shared attention.head_dim=4 depth=2",
    }
    for row in rows:
        assert (row.status, row.members) == ("finished", 2)
        for split in ("validation", "test"):
            nats, bits = (row.metrics[f"{split}_{name}"] for name in ("loss", "bits_per_byte"))
            assert bits == pytest.approx(nats / math.log(2))  # a byte is a token
            assert len(row.curves[f"{split}_bits_per_byte"]) == 2
        best = row.metrics["best_test_loss"] / math.log(2)
        assert row.metrics["best_test_bits_per_byte"] == pytest.approx(best)
        assert row.metrics["test_loss"] < row.curves["test_loss"][0] < 2 * math.log(256)


def test_classes_of_whole_sequences_have_no_bits_per_byte(cache: Path, tmp_path: Path):
    smallnets("model=encoder", *SMALL, *TINY, *folders(cache, tmp_path))
    (row,) = load(tmp_path)
    assert row.family == "encoder attention.head_dim=4"
    assert not any("bits_per_byte" in name for name in row.metrics)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["task=mnist1d", "model=transformer"], "a tied embedding gives the logits of a decoder"),
        ([*TEXT, "model=encoder"], "must return float32 logits (16, 16, 256), but returns float32"),
        ([*TEXT, "model=transformer", "model.width=20"], "head_dim must divide the width"),
        (["task=austen", "model=transformer", "task.length=0"], "length must be a whole number"),
    ],
)
def test_models_that_do_not_fit_get_one_line(overrides, said, cache, tmp_path, capsys):
    with pytest.raises(SystemExit):
        smallnets(*overrides, *TINY, *folders(cache, tmp_path))
    errors = capsys.readouterr().err.strip()
    assert said in errors
    assert "\n" not in errors

"""A recorded run is trained again: equal to the last bit, within a tolerance, or not."""

import dataclasses
import json
from pathlib import Path

import pytest
from command import TINY, folders, smallnets

from smallnets import rows


@pytest.fixture(scope="module")
def run(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of two runs that were trained side by side."""
    out = tmp_path_factory.mktemp("out")
    words = ["-m", "model=perceptron", "model.widths=[8]", "seed=3,4", *TINY]
    smallnets(*words, "hydra.launcher.execution=vmap", *folders(cache, out))
    return sorted(out.glob("*/row.json"))[0].parent


@pytest.mark.slow
def test_a_run_is_bit_equal_again(run: Path, capsys):
    smallnets("reproduce", run)
    assert capsys.readouterr().out.startswith("bit-equal: ")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "verdict", "by"),  # of the largest that is recorded
    [(1e-6, "within tolerance", "1e-06"), (0.5, "differs", "0.33")],
)
def test_other_numbers_are_within_tolerance_or_differ(
    run: Path, tmp_path: Path, change: float, verdict: str, by: str, capsys
):
    row = rows.read(run)
    curves = {
        **row.curves,
        "train_loss": [loss * (1 + change) for loss in row.curves["train_loss"]],
    }
    rows.write(dataclasses.replace(row, curves=curves), tmp_path)
    if verdict == "differs":
        with pytest.raises(SystemExit) as ended:
            smallnets("reproduce", tmp_path)
        assert ended.value.code == 1
    else:
        smallnets("reproduce", tmp_path)
    assert capsys.readouterr().out.startswith(f"{verdict}: curves of {tmp_path} by up to {by}")


@pytest.mark.slow
def test_what_can_not_be_reproduced_is_one_line(run: Path, tmp_path: Path, capsys):
    row = json.loads((run / rows.NAME).read_text())
    changed = {
        "holds a run that failed": {"status": "failed", "error": "why"},
        "whose code would be run: add --allow os": {"config": {**row["config"], "allow": ["os"]}},
        "are others": {"key": "0" * 16},
    }
    for said, change in changed.items():
        (tmp_path / rows.NAME).write_text(json.dumps({**row, **change}))
        with pytest.raises(SystemExit) as ended:
            smallnets("reproduce", tmp_path)
        assert ended.value.code == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1

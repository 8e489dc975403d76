import json
import math
from dataclasses import FrozenInstanceError

import pytest

from smallnets.rows import Row, load, write


def row(**changes) -> Row:
    fields = {
        "family": "dense",
        "task": "mnist1d",
        "seed": 3,
        "parameters": 1000,
        "status": "finished",
        "metrics": {"test_error": 0.25},
        "curves": {"step": [1, 2], "test_error": [0.5, 0.25]},
        "seconds": 1.5,
        "compile_seconds": 0.5,
        "execution": "map",
        "members": 4,
        "device": "cpu",
        "commit": "abc",
        "config": {"model": {"width": 8}},
    }
    return Row(**{**fields, **changes})


def test_what_is_written_is_read_back(tmp_path):
    for seed in (1, 0):
        folder = tmp_path / str(seed)
        folder.mkdir()
        write(row(seed=seed), folder)
    assert list(load(tmp_path)) == [row(seed=0), row(seed=1)]


def test_numbers_that_json_does_not_have_are_null_in_the_file_and_nan_in_the_row(tmp_path):
    write(row(metrics={"test_loss": math.nan}, curves={"test_loss": [1.0, math.inf]}), tmp_path)
    stored = json.loads((tmp_path / "row.json").read_text(), parse_constant=pytest.fail)
    assert stored["metrics"] == {"test_loss": None}
    (read,) = load(tmp_path)
    assert math.isnan(read.metrics["test_loss"])
    assert math.isnan(read.curves["test_loss"][1])


def test_a_write_that_fails_leaves_the_row_before(tmp_path):
    write(row(), tmp_path)
    with pytest.raises(TypeError):
        write(row(config={"a set has no JSON": {1, 2}}), tmp_path)
    assert list(load(tmp_path)) == [row()]


def test_a_row_is_frozen():
    with pytest.raises(FrozenInstanceError):
        row().seed = 4  # pyright: ignore[reportAttributeAccessIssue]

"""What a user reads about a network, and what is said to what no network can be."""

import json
import re
import subprocess
import sys
from pathlib import Path
from unittest import mock

import jax.numpy as jnp
import pytest
from command import smallnets

from smallnets.measure.flop_rules import OTHERS
from smallnets.nn import Dense


@pytest.fixture
def described(cache: Path, capsys, monkeypatch):
    """What the command prints; raises SystemExit as it would end."""
    monkeypatch.setenv("COLUMNS", "120")

    def described(*words: str) -> str:
        smallnets("describe", *words, f"cache={cache}")
        return capsys.readouterr().out

    return described


def row(said: str, part: str) -> list[int]:
    (line,) = [line for line in said.splitlines() if f" {part} " in line and "│" in line]
    return [int(cell.replace(",", "")) for cell in re.findall(r"[\d,]+(?= +│)", line)]


def test_a_network_by_its_parts(described):
    said = described("family=dense", "model.width=8")
    assert row(said, "embedding") == [320, 320, 1280, 640]
    assert row(said, "stack.blocks.layer.up") == [256, 256, 1024, 512]
    assert row(said, "whole") == [936, 936, 3744, 2 * (936 - 24)]  # norms multiply nothing


@pytest.mark.slow
def test_routing_uses_a_share_of_what_is_stored(described):
    said = described("family=mixture", "model.width=8")
    assert row(said, "stack.blocks.layer.expert.up")[:2] == [1024, 512]


def test_a_training_step(described):
    said = described("model=logistic", "batch_size=10")
    assert f"step of 10 examples: {10 * 2 * 2 * 400:,} FLOPs in matrix products" in said


@pytest.mark.slow
def test_a_budget_and_how_it_is_met(described):
    said = described("family=monarch", "budget.params=3_000")
    (found,) = re.findall(r"budget\.params=3,000: ([\d,]+) \(([+-][\d.]+)%\) at width=\d+", said)
    assert row(said, "whole")[0] == int(found[0].replace(",", ""))
    assert abs(float(found[1])) <= 0.5


@pytest.mark.slow
def test_every_program_of_a_sweep_is_described(described):
    said = described("family=dense,low_rank", "model.width=8", "seed=0,1")
    titles = [line.partition(":")[0] for line in said.splitlines() if "FLOPs per example" in line]
    assert titles == ["residual dense", "residual low_rank"]


@pytest.mark.slow
def test_it_is_run_only_when_asked(described):
    said = described("model.width=8", "--measured")
    assert re.search(r"│ +1024 │( +[\d.]+ │){4} +[\d,]+ │", said)
    assert re.search(r"1,000 inferences in batches of 1,024: [\d.e-]+ J \(m", said)
    assert "forward pass in ms" not in described("model.width=8")


WRONG = {
    "a budget of zero": (["budget.params=0"], "must be a number above 0"),
    "a tolerance that is no share": (["budget.tolerance=2"], "tolerance must be a share"),
    "below the smallest network": (
        ["budget.params=10"],
        "params=10 lies below the smallest network, 57 (at width=1, hidden=1)",
    ),
    "no width fits": (
        ["budget.params=1_000", "budget.knobs=[width]"],
        "the nearest are 936 (at width=8) and 1,125 (at width=9)",
    ),
    "contradictory budgets": (
        ["budget.params=20_000", "budget.flops=1_000"],
        "budgets must be met together",
    ),
    "a size that is chosen and set": (
        ["budget.params=20_000", "model.width=8"],
        "a budget chooses model.width, but it is set too",
    ),
    "a model without a width": (["model=logistic", "budget.params=400"], "needs one of width"),
    "a latency that no network has": (
        ["budget.latency_ms=1e-9"],
        "lies below the smallest network",
    ),
    "an axis that is none": (["budget.joules=3"], "Could not override 'budget.joules'"),
    "what no width mends": (["budget.params=20_000", "model.unique=3"], "unique=3 for depth=2"),
}


@pytest.mark.breadth
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if place % 2 else pytest.mark.slow)
        for place, name in enumerate(WRONG)
    ],
)
def test_one_line_and_status_2(name, described, capsys):
    arguments, line = WRONG[name]
    with pytest.raises(SystemExit) as ended:
        described(*arguments)
    assert ended.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("smallnets: ")
    assert line in said.err
    assert len(said.err.splitlines()) == 1


@pytest.mark.slow
def test_a_narrow_terminal_cuts_no_number(described, monkeypatch):
    wide = described("family=mixture", "model.width=8")
    monkeypatch.setenv("COLUMNS", "40")
    assert described("family=mixture", "model.width=8") == wide
    assert "…" not in wide


@pytest.mark.slow
def test_json_says_what_the_table_says(described):
    words = ["family=monarch", "budget.params=3_000"]
    (said,) = json.loads(described(*words, "--json"))
    table = described(*words)
    for name, costs in {**said["parts"], "whole": said["whole"]}.items():
        shown = row(table, name)
        assert shown == [*(costs[each] for each in ("parameters", "active", "bytes")), shown[3]]
        assert shown[3] == round(costs["flops"])
    assert said["budget"]["params"]["found"] == said["whole"]["parameters"]
    assert set(said["sizes"]) <= {"width", "hidden"}
    assert f"{said['training_step']['products']:,.0f} FLOPs in matrix" in table


def of_one(layer: Dense):
    """The matrix, where the axes of stacked layers are forgotten."""
    return jnp.einsum("io,op->ip", layer.kernel[...], jnp.eye(layer.kernel.shape[-1]))


@pytest.mark.slow  # timings
def test_a_matrix_that_forgets_stacked_layers_costs_the_merged_timing_alone(described):
    with mock.patch.object(Dense, "matrix", of_one):
        said = described("model.width=8", "--measured")
    assert "it is not timed: Dense.matrix() must keep the axes on which layers are" in said
    assert re.search(r"│ as it is │ +1024 │", said)
    assert "│ merged" not in said


def test_help_and_counts_load_neither_tfds_nor_the_reports():
    code = (
        "import sys, smallnets.sweep.description\n"
        "print(sorted({'tensorflow_datasets', 'polars', 'matplotlib', 'scipy'} & {*sys.modules}))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"


def test_an_operation_without_a_rule_costs_the_flops_alone(described):
    with mock.patch.dict(OTHERS):
        del OTHERS["rsqrt"]  # of the norms
        said = described("family=dense", "model.width=8")
    assert row(said, "whole") == [936, 936, 3744]
    assert "FLOPs" not in said.split("FLOPs are not counted: no rule")[0]
    assert "'rsqrt'" in said

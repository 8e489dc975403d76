"""A budget in any config: the run, its sweep and its row."""

from pathlib import Path

import pytest
from command import TINY, folders, smallnets

from smallnets.rows import load


def test_a_run_meets_its_budget_and_says_what_it_costs(cache: Path, tmp_path: Path):
    smallnets("budget.params=3_000", *TINY, *folders(cache, tmp_path))
    (row,) = load(tmp_path)
    assert row.parameters == row.costs["params"] == 3009
    assert row.costs["flops"] == 2 * (3009 - 3 * 17)  # all but the scales of three norms
    assert row.costs["bytes"] == 4 * 3009
    assert (row.config["model"]["width"], row.config["model"]["hidden"]) == (17, 31)
    assert row.config["budget"]["params"] == 3000


def test_each_family_of_a_sweep_meets_the_budget(cache: Path, tmp_path: Path):
    sweep = ["-m", "model=low_rank,monarch", "budget.params=3_000", "seed=0,1"]
    smallnets(*sweep, *TINY, *folders(cache, tmp_path))
    rows = list(load(tmp_path))
    assert [row.members for row in rows] == [2] * 4
    assert {row.family for row in rows} == {"low_rank", "monarch"}
    for row in rows:
        assert row.parameters == pytest.approx(3000, rel=0.005)


def test_the_row_repeats_the_run_without_the_budget(cache: Path, tmp_path: Path):
    smallnets("budget.params=3_000", *TINY, *folders(cache, tmp_path / "budget"))
    sizes = ["model.width=17", "model.hidden=31"]
    smallnets(*sizes, *TINY, *folders(cache, tmp_path / "sizes"))
    by_budget, by_sizes = load(tmp_path)
    assert by_budget.curves == by_sizes.curves


def test_without_a_budget_the_sizes_stay(cache: Path, tmp_path: Path):
    smallnets("model.width=8", *TINY, *folders(cache, tmp_path))
    (row,) = load(tmp_path)
    assert row.config["model"]["width"] == 8
    assert row.config["model"]["hidden"] is None
    assert row.costs["params"] == 936

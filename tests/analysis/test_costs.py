import polars as pl
import pytest

from smallnets.analysis.ranking import mismatch
from smallnets.analysis.study import analyse
from smallnets.analysis.table import from_rows


def test_what_was_not_matched_is_seen(reported):
    table = mismatch(analyse(from_rows(reported)), "dense")
    assert len(table) == 2 * 6
    ratios = dict(table.group_by("family").agg(pl.col("costs.flops ratio").mean()).iter_rows())
    assert ratios == {"dense": pytest.approx(1), "monarch": pytest.approx(1.5)}
    assert "1.5)" in (reported / "report.html").read_text()


def test_sizes_that_are_far_apart_are_not_compared(write_study):
    table = from_rows(write_study(name="apart"))
    size = pl.col("parameters")
    table = table.with_columns(
        pl.when(pl.col("family") == "monarch").then(size * 1.2).otherwise(size).alias("parameters")
    )
    found = mismatch(analyse(table), "dense").filter(pl.col("family") == "monarch")
    assert found["costs.flops ratio"].null_count() == len(found) == 6


def test_runs_without_costs_have_no_table(write_study):
    table = from_rows(write_study(name="bare")).drop("costs.flops")
    assert mismatch(analyse(table), "dense").is_empty()


def test_a_counted_cost_is_an_axis_of_the_study(reported):
    study = analyse(from_rows(reported), cost="costs.flops")
    assert study.columns.size == "costs.flops"
    assert {curve.choice is None for curve in study.curves} == {False}
    assert mismatch(study, "dense").is_empty()  # it is the only cost, and the size now

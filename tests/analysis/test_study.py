from functools import partial

import polars as pl
import pytest

from smallnets.analysis.claims import claims
from smallnets.analysis.study import analyse
from smallnets.analysis.table import from_rows

analyse_runs = partial(analyse, size="n", score="loss", family="arch", seed="run")


def runs(**change) -> pl.DataFrame:
    lines = [
        {"arch": arch, "n": n, "run": run, "loss": scale * n**-0.3 + 0.001 * run}
        for arch, scale in (("a", 3.0), ("b", 2.0))
        for n in (10, 30, 100, 300, 1000)
        for run in (0, 1)
    ]
    return pl.DataFrame(lines).with_columns(**change)


def test_a_study_of_ours_finds_its_truth(write_study):
    study = analyse(from_rows(write_study()))
    assert [curve.family for curve in study.curves] == ["dense", "monarch"]
    for curve, scale in zip(study.curves, (0.6, 0.4), strict=True):
        truth = (0.2, scale * 1000**0.5, 0.5)
        for interval, value in zip(curve.intervals, truth, strict=True):
            assert interval.low <= value <= interval.high
    assert study.selection is not None
    assert set(study.runs["config.optimizer.learning_rate"]) == {3e-3}
    compared = claims(study)
    assert compared.reference == "dense"
    pair = compared.comparisons[0]
    assert (pair.family, pair.other) == ("monarch", "dense")
    assert pair.low <= (0.6 / 0.4) ** 2 <= pair.high
    assert pair.p_value < 0.01


def test_a_choice_at_the_edge_of_the_grid_is_noted(write_study):
    study = analyse(from_rows(write_study(best=1e-2)))
    assert any("edge of its grid" in note for note in study.notes)


def test_a_family_that_diverged_everywhere_keeps_its_place(write_study):
    folder = write_study(diverged=lambda family, *_: family == "dense")
    study = analyse(from_rows(folder))
    dense, monarch = study.curves
    assert dense.family == "dense"
    assert dense.choice is None
    assert dense.notes == ("no curve: every run diverged",)
    assert monarch.choice is not None


def test_few_sizes_give_a_curve_without_an_interval(write_study):
    study = analyse(from_rows(write_study(sizes=3, seeds=1)))
    for curve in study.curves:
        assert curve.choice is not None
        assert any("not identifiable" in note for note in curve.notes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"loss": pl.when(pl.col("n") == 10).then(float("inf")).otherwise("loss")},
            "infinite in 4",
        ),
        ({"loss": -pl.col("loss")}, "loss is negative in 20 of 20"),
        ({"n": -pl.col("n")}, "n is negative"),
        ({"n": pl.col("n") - 10}, "n is zero"),
        ({"n": pl.lit(10), "run": pl.int_range(20)}, "single n: a curve needs at least two"),
        ({"run": pl.lit(0)}, "20 runs share their arch, n, run"),
        ({"loss": pl.lit(True)}, "must hold numbers"),
        ({"arch": pl.when(pl.col("n") == 10).then(None).otherwise("arch")}, "arch is missing in 4"),
    ],
)
def test_bad_data_get_one_line(change, message):
    with pytest.raises(ValueError, match=message) as caught:
        analyse_runs(runs(**change))
    assert "\n" not in str(caught.value)


def test_a_column_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="no column test_error; there are arch, n, run, loss"):
        analyse(runs(), size="n", family="arch", seed="run")


def test_several_tasks_ask_for_one():
    table = runs(task=pl.when(pl.col("run") == 0).then(pl.lit("x")).otherwise(pl.lit("y")))
    with pytest.raises(ValueError, match="there are x, y: name one"):
        analyse_runs(table)
    assert set(analyse_runs(table, task="y").runs["run"]) == {1}
    with pytest.raises(ValueError, match="no task z"):
        analyse_runs(table, task="z")


def test_a_cost_that_differs_between_seeds_is_taken_at_its_median():
    third = runs().filter(pl.col("run") == 0).with_columns(run=pl.lit(2, pl.Int64))
    table = pl.concat([runs(), third]).with_columns(ms=pl.col("n") * 2.0 + pl.col("run") ** 2)
    study = analyse_runs(table, cost="ms")
    assert study.columns.size == "ms"
    assert study.curves[0].choice is not None
    assert study.curves[0].choice.best.sizes == 5
    assert set(study.runs["ms"]) == {21.0, 61.0, 201.0, 601.0, 2001.0}
    with pytest.raises(ValueError, match="positive number"):
        analyse_runs(runs(ms=pl.lit(0.0)), cost="ms")


def test_a_reference_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="no family c"):
        claims(analyse_runs(runs()), reference="c")


def test_families_may_be_numbers():
    study = analyse_runs(runs(arch=pl.when(pl.col("arch") == "a").then(1).otherwise(2)))
    assert [curve.family for curve in study.curves] == ["1", "2"]

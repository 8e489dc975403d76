from functools import partial
from typing import Any

import numpy as np
import polars as pl
import pytest

from smallnets.analysis import report
from smallnets.analysis import runs as runs_module
from smallnets.analysis.answer import answer, best_run
from smallnets.analysis.compare import claims
from smallnets.analysis.figures import figures
from smallnets.analysis.report import curves as curves_of
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
            "loss is infinite in 4 of 20 runs, the first in row 1: ",
        ),
        ({"loss": -pl.col("loss")}, "loss is negative in 20 of 20 runs, the first in row 1: "),
        (
            {"loss": pl.when(pl.col("n") == 30).then(-1.0).otherwise("loss")},
            "loss is negative in 4 of 20 runs, the first in row 3: ",
        ),
        (
            {"loss": pl.when(pl.col("n") == 30).then(1e-120).otherwise("loss")},
            "loss goes from 1e-120, the first in row 3, to 1.5.*, the first in row 2: no law spans",
        ),
        ({"n": -pl.col("n")}, "n is negative"),
        ({"^x$": pl.lit(1.0)}, r"a column can't be named '\^x\$', which is a pattern: rename it"),
        ({"n": pl.col("n") - 10}, "n is zero, the first time in row 1: "),
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
    free = pl.when((pl.col("arch") == "b") & (pl.col("n") == 10)).then(0.0).otherwise(1.0)
    with pytest.raises(ValueError, match="2 of 20 have none, the first in row 9"):
        analyse_runs(runs(ms=free).reverse(), cost="ms")
    assert runs_module.ROW not in study.runs.columns
    assert runs_module.ROW not in study.table.columns


def test_a_reference_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="no family c"):
        claims(analyse_runs(runs()), reference="c")


def test_families_may_be_numbers():
    study = analyse_runs(runs(arch=pl.when(pl.col("arch") == "a").then(1).otherwise(2)))
    assert [curve.family for curve in study.curves] == ["1", "2"]


def curves(floor=0.2, noise=0.02, families=("a", "b"), **change) -> pl.DataFrame:
    random = np.random.default_rng(0)
    lines = [
        {"arch": arch, "n": n, "run": run, "loss": (floor + n**-0.4) * np.exp(noise * z)}
        for arch in families
        for n in (10, 30, 100, 300, 1000, 3000)
        for run, z in enumerate(random.standard_normal(3))
    ]
    return pl.DataFrame(lines).with_columns(**change)


def test_all_families_have_one_law_and_both_are_printed_where_it_is_not_settled():
    study = analyse_runs(curves(floor=0.0))
    assert study.verdict is not None
    assert not study.verdict.settled
    assert any(note.startswith("Not settled") for note in study.notes)
    for curve in study.curves:
        assert [each.parameter for each in curve.intervals] == ["E", "A", "alpha"]
        assert [each.parameter for each in curve.beside] == ["A", "alpha"]
        assert curve.intervals[2].low < 0.4 < curve.intervals[2].high
    settled = analyse_runs(curves(floor=0.3))
    assert settled.verdict is not None
    assert settled.verdict.settled
    assert all(curve.beside == () for curve in settled.curves)


def test_higher_is_better_is_refused_with_a_hint_and_taken_when_said():
    accuracy = curves(loss=1 - pl.col("loss") / 2)
    with pytest.raises(ValueError, match="say --higher-is-better"):
        analyse_runs(accuracy)
    study = analyse_runs(accuracy, higher_is_better=True)
    assert study.columns.score == "1 - loss"
    assert study.curves[0].choice is not None
    assert study.curves[0].intervals[2].low < 0.4 < study.curves[0].intervals[2].high
    percent = analyse_runs(accuracy.with_columns(loss=pl.col("loss") * 100), higher_is_better=True)
    assert percent.columns.score == "100 - loss"
    with pytest.raises(ValueError, match="above the perfect score"):
        analyse_runs(accuracy, higher_is_better=True, perfect=0.5)
    with pytest.raises(ValueError, match="leave --higher-is-better and --perfect out"):
        analyse_runs(curves(), higher_is_better=True)


def test_sizes_at_chance_are_left_out_and_said():
    chance = pl.when(pl.col("n") < 50).then(0.9 + 0.001 * pl.col("run")).otherwise("loss")
    study = analyse_runs(curves(loss=chance), chance=0.9)
    assert any("a: left out, not told from chance (0.9): " in note for note in study.notes)
    assert study.runs["n"].min() == 100
    accuracy = {"loss": 1 - pl.col("loss")}  # in whose own units chance is said
    turned = curves(loss=chance).with_columns(**accuracy)
    study = analyse_runs(turned, chance=0.1, higher_is_better=True)
    assert study.runs["n"].min() == 100
    with pytest.raises(ValueError, match="chance is a score, got nan"):
        analyse_runs(curves(), chance=float("nan"))


def test_the_noise_of_a_test_set_is_told_from_that_of_training():
    study = analyse_runs(curves(), test_examples=100)
    notes = " ".join(study.curves[0].notes)
    assert "100 test examples alone give" in notes
    assert "more test examples do" in notes  # a share of about .5 scatters by a tenth
    with pytest.raises(ValueError, match="a share between 0 and 1"):
        analyse_runs(curves(loss=pl.col("loss") * 10), test_examples=100)


def test_families_grow_by_a_word_of_their_label():
    table = curves(families=("net depth=2", "net depth=4"))
    grown = table.with_columns(
        arch=pl.concat_str(pl.lit("net depth="), pl.col("n")), run=pl.int_range(pl.len())
    )
    study = analyse_runs(grown)
    assert [curve.family for curve in study.curves] == ["net"]
    assert any("grow by depth" in note for note in study.notes)
    by_hand = analyse_runs(
        table.with_columns(n=pl.col("n") + (pl.col("arch") == "net depth=4")), grow="depth"
    )
    assert [curve.family for curve in by_hand.curves] == ["net"]
    with pytest.raises(ValueError, match="no families differ in a word width="):
        analyse_runs(table, grow="width")


def test_weights_count_and_a_pin_is_held():
    table = curves(w=pl.when(pl.col("run") == 0).then(1e6).otherwise(1.0))
    alone = analyse_runs(table.filter(pl.col("run") == 0), pins={"E": 0.2})
    heavy = analyse_runs(table, weights="w", pins={"E": 0.2})
    for one, other in zip(alone.curves, heavy.curves, strict=True):
        assert one.choice is not None
        assert other.choice is not None
        assert one.choice.best.parameters["E"] == 0.2
        assert one.choice.best.parameters == pytest.approx(other.choice.best.parameters, rel=1e-4)
    with pytest.raises(ValueError, match="no law has F to pin"):
        analyse_runs(table, pins={"F": 1.0})
    with pytest.raises(ValueError, match="E is pinned to 5, and the scores of a go down to 0"):
        analyse_runs(table, pins={"E": 5.0})


def test_a_law_in_size_and_data_gives_exponents_of_both_and_a_prediction():
    random = np.random.default_rng(0)
    table = pl.DataFrame(
        [
            {"arch": "x", "n": n, "tokens": d, "run": 0}
            | {"loss": (1.7 + 400 * n**-0.34 + 900 * d**-0.3) * np.exp(0.002 * z)}
            for n in np.geomspace(1e6, 1e8, 5)
            for d, z in zip(np.geomspace(1e7, 1e9, 5), random.standard_normal(5), strict=True)
        ]
    )
    study = analyse_runs(table, data="tokens", predict=[(1e9, 2e10)])
    (curve,) = study.curves
    assert curve.allocation is not None
    assert curve.allocation.size.low < 0.3 / 0.64 < curve.allocation.size.high
    assert curve.allocation.data.low < 0.34 / 0.64 < curve.allocation.data.high
    truth = 1.7 + 400 * 1e9**-0.34 + 900 * 2e10**-0.3
    assert curve.predictions[0].low < truth < curve.predictions[0].high
    assert claims(study).comparisons == ()
    # Both tests are said in words: against seeds there are none, of shape there is one.
    assert "not testable" in str(curve.lack_of_fit)
    assert any("squares and product of the two log variables p" in each for each in study.notes)
    assert answer(study, claims(study))[-1].startswith("Nothing seen speaks against E + A N^-alpha")
    study = analyse_runs(table.filter(pl.col("n") < 5e6)[:8], data="tokens")
    assert any("not tested: 8 cells of size and data leave too" in each for each in study.notes)
    assert answer(study, claims(study))[-1].startswith("Whether E + A N^-alpha + B D^-beta holds")


@pytest.mark.parametrize(
    ("unit", "words"), [(1e200, {}), (1e-200, {"pins": {"E": 0.2}}), (1e-200, {"data": "tokens"})]
)
def test_the_unit_of_the_score_changes_nothing_but_the_factors(unit: float, words: dict[str, Any]):
    tokens = pl.col("n") * pl.col("run").replace_strict({0: 20, 1: 60, 2: 180})
    table = curves(tokens=tokens, loss=pl.col("loss") + 3 * tokens**-0.3)
    scaled: dict[str, Any] = {"pins": {"E": 0.2 * unit}} if "pins" in words else words
    plain = analyse_runs(table, **words)
    study = analyse_runs(table.with_columns(loss=pl.col("loss") * unit), **scaled)
    for curve, other in zip(plain.curves, study.curves, strict=True):
        for interval, same in zip(curve.intervals, other.intervals, strict=True):
            factor = unit if interval.parameter in ("E", "A", "B") else 1
            ends = (interval.estimate, interval.low, interval.high)
            found = (same.estimate, same.low, same.high)
            assert found == pytest.approx([end * factor for end in ends], rel=1e-3)
    for pair, same in zip(claims(plain).comparisons, claims(study).comparisons, strict=True):
        assert same.answer == pytest.approx(pair.answer, rel=1e-3)
        assert same.score == pytest.approx(pair.score * unit, rel=1e-3)


def test_hold_out_errors_of_one_sign_are_said():
    bend = pl.when(pl.col("n") > 500).then(pl.col("loss") * 1.2).otherwise("loss")
    notes = analyse_runs(curves(loss=bend), held=2).notes
    assert any("All 4 hold-out errors have one sign" in note for note in notes)
    assert any(note.startswith("No hold-out") for note in analyse_runs(curves(), held=5).notes)


def test_the_shape_is_questioned_in_words_and_interpolation_leads():
    wave = np.exp([-0.02, 0.08, 0, -0.08, -0.02, 0.05])
    sizes = (10, 30, 100, 300, 1000, 3000)
    factor = pl.col("n").replace_strict(dict(zip(sizes, wave, strict=True)))
    families = ("a", "b", "c", "d")
    study = analyse_runs(curves(loss=pl.col("loss") * factor, families=families))
    assert study.shape.questioned
    assert any("shape of the law is questioned" in note for note in study.notes)
    compared = claims(study)
    assert {pair.leads for pair in compared.comparisons} == {"interpolation"}
    # So it does in the figure, where the laws' are muted beside, and in the numbers.
    drawn = figures(study, compared)["multiplier"]
    assert "By monotone interpolation" in drawn.caption
    named = {panel["title"]["text"]: panel["layer"] for panel in drawn.panels}
    assert named.keys() == compared.interpolated.keys() == {"b", "c", "d"}
    lines = {
        bool(each["mark"].get("strokeDash")): [point["y"] for point in each["data"]["values"]]
        for each in named["b"]
        if each["mark"]["type"] == "line" and "stroke" in each["encoding"]
    }
    leading = pl.Series([each.value for each in compared.interpolated["b"]])
    known = leading.is_not_nan()
    assert 0 < known.sum() < len(known)  # at the ends no slope is told from zero: a gap
    assert [y is not None for y in lines[False]] == known.to_list()
    assert pl.Series(lines[False]).filter(known).to_list() == pytest.approx(
        leading.filter(known).to_list(), rel=1e-5
    )
    assert lines[True] == pytest.approx(compared.multipliers["b"].value, rel=1e-5)
    written = report.multipliers(compared).filter(kind="interpolation", family="b")
    assert written["times_fewer"].is_not_null().to_list() == known.to_list()
    assert (written["reason"] == "").to_list() == known.to_list()


def test_exact_curves_question_nothing():
    exact = 0.3 + pl.col("n").cast(pl.Float64) ** -0.4
    study = analyse_runs(curves(loss=exact))
    assert not study.shape.questioned
    assert not any(curve.lack_of_fit and curve.lack_of_fit.found for curve in study.curves)


def test_what_is_established_is_so_at_the_level_that_was_asked_for():
    table = curves(loss=pl.col("loss") * pl.when(pl.col("arch") == "a").then(1.05).otherwise(1.0))
    said = {}
    for level in (0.5, 0.95, 0.9999):
        study = analyse_runs(table, level=level)
        compared = claims(study)
        (pair,) = compared.comparisons
        said[level] = "Not established" not in " ".join(answer(study, compared))
        assert said[level] == (pair.p_adjusted < 1 - level), level
    assert said[0.5]
    assert not said[0.9999]


def test_the_answer_names_who_cannot_be_compared():
    higher = pl.when(pl.col("arch") == "c").then(pl.col("loss") * 9).otherwise("loss")
    study = analyse_runs(curves(loss=higher, families=("a", "b", "c")))
    assert "Not comparable with a: c." in answer(study, claims(study))


def test_without_laws_settings_that_are_named_are_points_and_no_seeds():
    table = runs().join(pl.DataFrame({"rate": [0.1, 0.2], "depth": ["x", "y"]}), how="cross")
    table = table.with_columns(loss=pl.col("loss") * (1 + pl.col("rate")))
    study = analyse_runs(table, laws=(), setting=("rate", "depth"))
    points = claims(study).points
    assert len(points) == 2 * 5 * 2
    assert set(points["runs"]) == {2}
    assert set(points.filter("front")["setting"]) == {"rate=0.1, depth=x"}
    assert points.filter("front")["family"].to_list() == ["b"] * 5  # each at its better rate
    assert len(curves_of(study)) == 20
    assert set(curves_of(study)["setting"]) == set(points["setting"])
    assert points["setting"].n_unique() == 2
    drawn = figures(study, claims(study))["pareto"].panels[0]["layer"]
    assert sum(len(each["data"]["values"]) for each in drawn if "shape" in each["encoding"]) == 20
    assert figures(study, claims(study))["curves"].caption.startswith("2 families, 5 sizes")
    best = best_run(study)
    assert best is not None
    assert "seeds" not in best.sentence


def test_points_of_a_law_in_size_and_data_are_set_apart_by_both():
    tokens = pl.col("n") * pl.col("run").replace_strict({0: 20, 1: 60, 2: 180})
    study = analyse_runs(curves(tokens=tokens), data="tokens")
    assert len(claims(study).points) == 36


def test_a_family_of_which_nothing_is_said_is_named_under_the_multipliers():
    higher = pl.when(pl.col("arch") == "c").then(pl.col("loss") * 9).otherwise("loss")
    study = analyse_runs(curves(loss=higher, families=("a", "b", "c")))
    caption = figures(study, claims(study))["multiplier"].caption
    assert "Nothing is said of c: the table of pairs says why." in caption


def test_without_laws_there_is_a_front_and_no_curve():
    rates = pl.DataFrame({"config.rate": [0.1, 0.2]})
    table = runs().filter(pl.col("run") == 0).join(rates, how="cross")
    table = table.with_columns(loss=pl.col("loss") * (1 + pl.col("config.rate")))
    study = analyse_runs(table, laws=())
    assert all(curve.choice is None for curve in study.curves)
    assert len(claims(study).points) == 20
    best = best_run(study)
    assert best is not None
    assert "seeds" not in best.sentence  # two rates are no seeds
    (said,) = answer(study, claims(study))
    assert said.startswith("No law was fitted: none was asked for. On the Pareto front of loss")
    with pytest.raises(ValueError, match="takes a law"):
        analyse_runs(table, laws=(), predict=[10.0])

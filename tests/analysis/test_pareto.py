import numpy as np
import polars as pl
import pytest

from smallnets.analysis.fit import fit
from smallnets.analysis.laws import POWER
from smallnets.analysis.ranking import at_cost, front, pareto


def test_equal_points_are_on_the_front_together():
    points = np.array([[1, 5], [1, 5], [2, 5], [2, 4], [3, 4], [0.5, 9]])
    assert front(points).tolist() == [True, True, False, True, False, True]


def runs(scores: dict[tuple[str, int], list[float]]) -> pl.DataFrame:
    return pl.DataFrame(
        [
            {"family": family, "parameters": cost, "error": value}
            for (family, cost), values in scores.items()
            for value in values
        ]
    )


def table(scores) -> pl.DataFrame:
    return pareto(runs(scores), cost="parameters", score="error", family="family")


def test_the_table_agrees_with_the_definition_on_random_points():
    random = np.random.default_rng(0)
    scores = {
        (f"f{i % 3}", int(cost)): [float(s)]
        for i, (cost, s) in enumerate(
            zip(random.integers(1, 30, 60), random.integers(1, 20, 60), strict=True)
        )
    }
    found = table(scores)
    points = found.select("cost", "score").to_numpy().round(9)
    assert found["front"].to_list() == front(points).tolist()


def test_the_probability_is_a_coin_between_equals_and_certain_when_far():
    near = [0.5, 0.52, 0.48, 0.51]
    found = table({("a", 10): near, ("b", 10): near, ("c", 10): [0.9, 0.91, 0.92, 0.9]})
    chance = dict(zip(found["family"], found["probability"], strict=True))
    assert chance["a"] == pytest.approx(0.5, abs=0.05)
    assert chance["a"] + chance["b"] == pytest.approx(1, abs=1e-9)
    assert chance["c"] == 0


def test_one_run_a_cost_has_no_probability():
    assert table({("a", 10): [0.5], ("a", 20): [0.4]})["probability"].null_count() == 2


def test_without_a_positive_score_there_is_no_front():
    with pytest.raises(ValueError, match="no run has a positive error"):
        table({("a", 10): [0.0]})


def test_equal_budgets_are_ordered_and_never_extrapolated():
    size = np.repeat(np.geomspace(10, 1000, 5), 2)
    fits = {
        "worse": fit(POWER, size, 3 * size**-0.3),
        "better": fit(POWER, size, 2 * size**-0.3),
        "small": fit(POWER, size / 100, 2 * size**-0.3),
    }
    cut = at_cost(fits, 100.0)
    assert cut.families == ("better", "worse")
    assert cut.score == pytest.approx([2 * 100**-0.3, 3 * 100**-0.3])
    assert len(cut.reasons) == 1
    assert cut.reasons[0].startswith("small was run from")


def test_one_diverged_run_leaves_the_front_to_the_others():
    found = table({("a", 10): [0.5, float("nan")], ("b", 20): [float("inf"), 0.4]})
    assert found["front"].to_list() == [True, True]
    assert found["score"].to_list() == pytest.approx([0.5, 0.4])


def test_rows_at_several_settings_are_points_and_no_seeds():
    rows = runs({("a", 10): [0.5, 0.3]}).with_columns(rate=pl.Series([1, 2]))
    found = pareto(rows, cost="parameters", score="error", family="family", apart=("rate",))
    assert sorted(found["score"]) == pytest.approx([0.3, 0.5])
    assert found["front"].sum() == 1

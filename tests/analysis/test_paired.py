"""Differences by seed hold the truth as often as they say, and refuse what is no pairing."""

import numpy as np
import polars as pl
import pytest
from scipy import stats

from smallnets.analysis.paired import difference, paired


def test_an_interval_of_differences_holds_the_truth_as_often_as_it_says():
    random = np.random.default_rng(0)
    found = [difference(0.5 + random.standard_normal(5), level=0.9) for _ in range(2000)]
    held = np.mean([each["low"] < 0.5 < each["high"] for each in found])  # type: ignore[operator]
    assert abs(held - 0.9) < 3 * np.sqrt(0.09 / 2000)


def test_groups_are_paired_by_seed():
    random = np.random.default_rng(1)
    seeds = {seed: 10 * random.standard_normal() for seed in range(8)}  # far apart, but shared
    lines = [
        {"route": route, "seed": seed, "error": level + off + random.standard_normal()}
        for route, level in (("b", 3.0), ("a", 0.0), ("c", 0.0))
        for seed, off in seeds.items()
        if (route, seed) != ("c", 7)
    ]
    table = pl.DataFrame(lines)
    found = paired(table, group="route", reference="a", score="error")
    assert found["group"].to_list() == ["a", "b", "c"]
    assert found["runs"].to_list() == [8, 8, 7]  # seed 7 of "a" has no other in "c"
    wide = table.pivot("route", index="seed", values="error")
    expected = stats.ttest_rel(wide["b"], wide["a"])
    low, high = expected.confidence_interval(0.95)
    line = found.row(1, named=True)
    told = [line[name] for name in ("difference", "low", "high", "p_value")]
    mean = float((wide["b"] - wide["a"]).mean())  # type: ignore[arg-type]
    np.testing.assert_allclose(told, [mean, low, high, expected.pvalue])
    assert line["p_holm"] == pytest.approx(min(2 * line["p_value"], 1))
    assert found.row(0, named=True)["difference"] is None
    assert found.row(0, named=True)["mean"] == pytest.approx(wide["a"].mean())


def test_one_seed_has_no_interval():
    table = pl.DataFrame({"route": ["a", "b"], "seed": [0, 0], "error": [1.0, 3.0]})
    line = paired(table, group="route", reference="a", score="error").row(1, named=True)
    assert line["difference"] == 2
    assert line["low"] is line["high"] is line["p_value"] is line["p_holm"] is None


def test_what_is_no_pairing_is_refused():
    table = pl.DataFrame({"route": ["a", "b", "b"], "seed": [0, 0, 0], "error": [1.0, 2.0, 3.0]})
    with pytest.raises(ValueError, match="but b has two of seed=0: narrow the groups"):
        paired(table, group="route", reference="a", score="error")
    with pytest.raises(ValueError, match="there is no group 'c', only a, b"):
        paired(table.unique("route"), group="route", reference="c", score="error")

import numpy as np
import polars as pl
import pytest
from scipy import stats

from smallnets.analysis.ranking import rank_stability, scores_at

FAMILIES = ("a", "b", "c")


def test_the_same_order_in_every_seed_agrees_fully():
    found = rank_stability(np.array([[1, 2, 3], [2, 4, 9], [0.1, 0.2, 0.3]]), FAMILIES)
    assert found.agreement == pytest.approx(1)
    assert np.array_equal(found.probability, np.eye(3))


def test_agreement_equals_friedmans_statistic():
    scores = np.random.default_rng(0).integers(0, 5, (8, 3)).astype(float)
    statistic = stats.friedmanchisquare(*scores.T).statistic
    assert rank_stability(scores, FAMILIES).agreement == pytest.approx(statistic / (8 * 2))


def test_equal_scores_share_all_their_ranks():
    three = rank_stability(np.ones((2, 3)), FAMILIES)
    assert three.probability == pytest.approx(np.full((3, 3), 1 / 3))
    assert three.agreement == 0.0
    found = rank_stability(np.array([[1.0, 1.0, 2.0], [1.0, 1.0, 2.0]]), FAMILIES)
    assert found.probability[0].tolist() == [0.5, 0.5, 0]


def test_one_seed_has_no_stability():
    with pytest.raises(ValueError, match="two seeds"):
        rank_stability(np.ones((1, 3)), FAMILIES)


def test_each_seed_is_interpolated_within_its_own_runs():
    lines = [
        {"family": f, "n": n, "seed": s, "e": k * n**-0.5}
        for f, k, sizes in (("a", 1.0, (10, 1000)), ("b", 2.0, (10, 1000)), ("far", 1.0, (1, 5)))
        for n in sizes
        for s in (0, 1)
    ]
    scores, families = scores_at(
        pl.DataFrame(lines), 100.0, size="n", score="e", family="family", seed="seed"
    )
    assert families == ("a", "b")
    assert scores == pytest.approx(np.array([[0.1, 0.2], [0.1, 0.2]]))

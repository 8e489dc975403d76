import numpy as np
import pytest

from smallnets.analysis.compare import compare, holm, multiplier, overlap
from smallnets.analysis.fit import fit
from smallnets.analysis.laws import ASYMPTOTE, POWER, TWO_AXES

SIZE = np.repeat(np.geomspace(1e3, 1e5, 6), 5)


def study(scale: float, *, floor=0.3, alpha=0.5, noise=0.02, seed=0, size=SIZE):
    random = np.random.default_rng(seed)
    score = floor + scale * (size / 1e3) ** -alpha
    return fit(ASYMPTOTE, size, score * np.exp(noise * random.standard_normal(len(size))))


def test_a_pinned_asymptote_gives_the_closed_form():
    better, worse = study(0.4, noise=0.0), study(0.7, noise=0.0)
    found = multiplier(better, worse)
    assert found.value == pytest.approx((0.7 / 0.4) ** (1 / 0.5), rel=1e-6)
    at = np.array([1e4])
    loss = 0.3 + np.array([0.4, 0.7]) * (at / 1e3) ** -0.5
    assert found.value == pytest.approx(((loss[1] - 0.3) / (loss[0] - 0.3)) ** (1 / 0.5))


def test_swapping_the_families_inverts_everything():
    a, b = study(0.4), study(0.6, seed=1)
    score = np.array([0.5])
    one, other = multiplier(a, b, score=score), multiplier(b, a, score=score)
    assert one.value == pytest.approx(1 / other.value)
    assert one.low == pytest.approx(1 / other.high)
    assert one.p_value == pytest.approx(other.p_value)


@pytest.mark.parametrize("scale", [0.6, 0.9])
def test_coverage_of_the_truth(scale):
    truth, score = (scale / 0.6) ** 2, np.array([0.3 + 0.6 * 10**-0.5])
    held = []
    for seed in range(100):
        a, b = study(0.6, seed=2 * seed), study(scale, seed=2 * seed + 1)
        m = multiplier(a, b, score=score)
        held.append(m.low[0] <= truth <= m.high[0])
    assert np.mean(held) >= 0.93


def test_a_family_against_its_own_copy_is_one():
    a = study(0.6)
    m = multiplier(a, a)
    assert m.value == pytest.approx(1)
    assert (m.low < 1).all()
    assert (m.high > 1).all()
    assert m.p_value == pytest.approx(1)


def test_outside_the_overlap_it_refuses_with_the_reason():
    a, b = study(0.6), study(0.6, floor=0.32, seed=1)
    low, high = overlap(a, b)
    with pytest.raises(ValueError, match="would be extrapolated"):
        multiplier(a, b, score=np.array([low * 0.99]))
    with pytest.raises(ValueError, match="no score that both reach"):
        multiplier(a, study(0.6, floor=2.0, seed=1))
    few = SIZE < 1e4
    with pytest.raises(ValueError, match="leave no interval"):
        multiplier(a, study(0.6, size=SIZE[few]))
    x = np.stack([SIZE, np.tile(np.geomspace(1e6, 1e8, 5), 6)])
    both = fit(TWO_AXES, x, 1 + 3 * x[0] ** -0.3 + 5 * x[1] ** -0.3)
    with pytest.raises(ValueError, match="one variable"):
        multiplier(a, both)
    assert high > low


def test_laws_of_different_form_are_inverted_too():
    a = study(0.6)
    b = fit(POWER, SIZE, 0.9 * (SIZE / 1e3) ** -0.2)
    m = multiplier(a, b, score=np.array([0.6]))
    assert m.value[0] == pytest.approx((0.6 / 0.9) ** -5 / (0.5) ** -2, rel=0.1)


def test_pairs_put_the_cheaper_first_and_correct_for_their_number():
    fits = {"worse": study(0.8, seed=1), "best": study(0.4), "far": study(0.4, floor=3.0)}
    found = {(c.family, c.other): c for c in compare(fits)}
    pair = found["best", "worse"]
    assert pair.value > 1
    assert pair.low < pair.value < pair.high
    assert pair.p_adjusted == pair.p_value  # the only pair that can be compared
    refused = [c for c in found.values() if c.reason]
    assert len(refused) == 2
    assert all(np.isnan(c.p_adjusted) for c in refused)


def test_holm_as_in_the_paper():
    assert holm(np.array([0.01, 0.04, 0.03, np.nan])) == pytest.approx(
        [0.03, 0.06, 0.06, np.nan], nan_ok=True
    )


def test_where_the_shape_is_questioned_interpolation_leads():
    fits = {"worse": study(0.8, seed=1), "best": study(0.4)}
    law, means = compare(fits)[0], compare(fits, leads="interpolation")[0]
    assert law.answer[0] == law.value
    assert means.answer[0] == means.interpolated.value
    assert means.interpolated.low < 4 < means.interpolated.high
    assert means.p_adjusted == pytest.approx(means.interpolated.p_value)


def test_what_as_many_runs_would_show_is_above_what_is_just_significant():
    pair = compare({"a": study(0.6), "b": study(0.6, seed=1)})[0]
    half = pair.high / pair.value
    assert half < pair.detectable < half**2

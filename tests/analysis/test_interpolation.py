import numpy as np
import pytest

from smallnets.analysis.fit import fit
from smallnets.analysis.interpolation import interpolated, interpolation, scatter
from smallnets.analysis.laws import ASYMPTOTE
from smallnets.analysis.simulation import BENT, BENT_FACTOR

SIZE = np.repeat(np.geomspace(1e3, 1e5, 8), 3)


def bent(name: str, factor: float, seed: int, noise: float = 0.02):
    truth = BENT[name](np.log(SIZE / 1e3 / factor))
    random = np.random.default_rng(seed)
    return fit(ASYMPTOTE, SIZE, truth * np.exp(noise * random.standard_normal(len(SIZE))))


def curves(a, b):
    errors = scatter([a, b])
    return interpolation(a, errors), interpolation(b, errors)


@pytest.mark.parametrize("name", BENT)
def test_the_interval_holds_the_truth_where_every_law_is_wrong(name):
    held = []
    for seed in range(15):
        a, b = bent(name, 1, 2 * seed), bent(name, BENT_FACTOR, 2 * seed + 1)
        found = interpolated(*curves(a, b))
        assert not found.reason
        held.append(found.low <= BENT_FACTOR <= found.high)
    assert np.mean(held) >= 0.9


@pytest.mark.parametrize("name", BENT)
def test_a_sharp_bend_is_not_counted_as_noise(name):
    pairs = [(bent(name, 1, 2 * seed), bent(name, BENT_FACTOR, 2 * seed + 1)) for seed in range(15)]
    found = np.median([np.sqrt(scatter(pair).variance) for pair in pairs])
    assert 0.014 < found < 0.04  # seeds scatter by .02, and means about cubics by .07 to .10


def test_a_slope_that_is_not_told_from_zero_is_refused_and_nothing_is_extrapolated():
    random = np.random.default_rng(0)
    flat = 0.5 * np.exp(0.02 * random.standard_normal((2, len(SIZE))))
    a, b = (fit(ASYMPTOTE, SIZE, score) for score in flat)
    found = interpolated(*curves(a, b))
    assert "not distinguishable from zero" in found.reason or "no score" in found.reason
    assert np.isnan(found.value)
    a, b = bent("S-shaped", 1, 0), bent("S-shaped", BENT_FACTOR, 1)
    assert "extrapolated" in interpolated(*curves(a, b), score=0.05).reason


def test_swapping_the_families_inverts_it_and_the_p_value_agrees_with_the_interval():
    a, b = bent("plateau", 1, 0), bent("plateau", 1.2, 1)
    first, second = curves(a, b)
    one, other = interpolated(first, second, score=0.5), interpolated(second, first, score=0.5)
    assert one.value == pytest.approx(1 / other.value)
    assert one.low == pytest.approx(1 / other.high)
    assert one.p_value == pytest.approx(other.p_value, rel=1e-3)
    at = interpolated(first, second, score=0.5, level=1 - one.p_value)
    assert min(abs(np.log(at.low)), abs(np.log(at.high))) == pytest.approx(0, abs=1e-3)


def test_exact_curves_give_the_factor_itself():
    a, b = (fit(ASYMPTOTE, SIZE, 0.3 + 0.6 * (SIZE / 1e3 / f) ** -0.5) for f in (1.0, 2.0))
    found = interpolated(*curves(a, b), score=0.5)
    assert found.value == pytest.approx(2, rel=2e-2)
    assert found.low < 2 < found.high

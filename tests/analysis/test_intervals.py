import numpy as np
import pytest
from scipy import stats

from smallnets.analysis.bands import band, covariances
from smallnets.analysis.fit import centred, fit
from smallnets.analysis.intervals import NOT_IDENTIFIABLE, intervals, profile, size_means
from smallnets.analysis.laws import ASYMPTOTE, POWER

SIZE = np.repeat(np.geomspace(1e3, 1e5, 6), 5)


def regression(x: np.ndarray, y: np.ndarray) -> tuple[float, float, float, float]:
    """Intercept, slope, the slope's standard error and the residual standard deviation."""
    slope, intercept = np.polyfit(x, y, 1)
    spread = np.sqrt(((y - intercept - slope * x) ** 2).sum() / (len(x) - 2))
    return intercept, slope, spread / np.sqrt(((x - x.mean()) ** 2).sum()), spread


def draw(datasets: int, *, noise: float, shared: float = 0.0, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    y = np.log(0.3 + 0.6 * (SIZE / 1e3) ** -0.5) + noise * random.standard_normal(
        (datasets, len(SIZE))
    )
    return y + shared * np.repeat(random.standard_normal((datasets, 6)), 5, axis=1)


def test_the_interval_of_a_power_law_equals_linear_regression():
    y = np.log(3 * SIZE**-0.3) + 0.05 * np.random.default_rng(0).standard_normal(len(SIZE))
    _, slope, error, _ = regression(np.log(SIZE), y)
    half = stats.t.ppf(0.975, len(SIZE) - 2) * error
    alpha = intervals(fit(POWER, SIZE, np.exp(y)))[1]
    assert alpha.runs == pytest.approx((-slope - half, -slope + half), rel=1e-4)
    x, means = size_means(np.log(SIZE)[None], y)
    _, slope, error, _ = regression(x[0], means)
    half = stats.t.ppf(0.975, 4) * error
    assert alpha.means == pytest.approx((-slope - half, -slope + half), rel=1e-4)


def test_the_wider_of_the_two_is_the_headline():
    for shared in (0.0, 0.05):
        for interval in intervals(
            fit(ASYMPTOTE, SIZE, np.exp(draw(1, noise=0.02, shared=shared)[0]))
        ):
            wider = max(interval.runs, interval.means, key=lambda pair: pair[1] - pair[0])
            assert (interval.low, interval.high) == wider
            assert interval.method == ("runs" if wider == interval.runs else "size means")
            assert interval.low < interval.estimate < interval.high


@pytest.mark.parametrize(("shared", "runs_hold"), [(0.0, True), (0.04, False)])
def test_coverage_and_that_the_check_can_fail(shared, runs_hold):
    y = draw(400, noise=0.02, shared=shared)
    centre, z = centred(ASYMPTOTE, SIZE[None])
    ones = np.ones((1, len(SIZE)))
    on_runs = profile(ASYMPTOTE, z, y, ones, centre)[2]
    x, means = size_means(z, y)
    on_means = profile(ASYMPTOTE, x, means, np.ones((1, 6)), centre)[2]
    held = [((i[:, 0] <= 0.5) & (i[:, 1] >= 0.5)).mean() for i in (on_runs, on_means)]
    assert 0.92 <= held[1] <= 0.98  # three standard errors about .95
    assert (0.92 <= held[0] <= 0.98) if runs_hold else held[0] < 0.75


def test_too_few_sizes_are_not_identifiable():
    few = SIZE < 3e4
    found = intervals(fit(ASYMPTOTE, SIZE[few], np.exp(draw(1, noise=0.02)[0, few])))
    assert {str(interval) for interval in found} == {NOT_IDENTIFIABLE}


def test_noise_as_large_as_the_curve_is_not_identifiable():
    found = intervals(fit(ASYMPTOTE, SIZE, np.exp(draw(1, noise=1.5)[0])))
    assert found[2].method == NOT_IDENTIFIABLE


def test_an_asymptote_that_may_be_zero_has_zero_in_its_interval():
    y = np.log(3 * SIZE**-0.3) + 0.02 * np.random.default_rng(3).standard_normal(len(SIZE))
    assert intervals(fit(ASYMPTOTE, SIZE, np.exp(y)))[0].low == pytest.approx(0, abs=1e-6)


def test_a_level_outside_its_range_is_refused():
    with pytest.raises(ValueError, match="between 0 and 1"):
        intervals(fit(POWER, SIZE, SIZE**-0.3), level=95)


def test_bands_of_a_power_law_equal_linear_regression():
    y = np.log(3 * SIZE**-0.3) + 0.05 * np.random.default_rng(0).standard_normal(len(SIZE))
    fitted = fit(POWER, SIZE, np.exp(y))
    assert covariances(fitted)["runs"].degrees_of_freedom == len(SIZE) - 2
    x, means = size_means(np.log(SIZE)[None], y)
    at = np.array([2e3, 5e5])
    found = band(fitted, at)
    half = []
    for a, b in ((np.log(SIZE), y), (x[0], means)):
        spread = regression(a, b)[3]
        away = (np.log(at) - a.mean()) ** 2 / ((a - a.mean()) ** 2).sum()
        half.append(stats.t.ppf(0.975, len(a) - 2) * spread * np.sqrt(1 / len(a) + away))
    assert np.log(found.mean_high / found.curve) == pytest.approx(np.max(half, axis=0), rel=1e-6)
    assert (found.run_high > found.mean_high).all()
    assert (found.run_low < found.mean_low).all()

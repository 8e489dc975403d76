import numpy as np
import pytest
from scipy import stats

from smallnets.analysis.choose import lack_of_fit, shape
from smallnets.analysis.fit import fit
from smallnets.analysis.laws import ASYMPTOTE, POWER

SIZE = np.repeat(np.geomspace(1e3, 1e5, 6), 5)
# How far every family of the default study leaves its law, from the smallest size.
PATTERN = np.array([-0.02, 0.08, 0, -0.08, -0.02, 0.05])


def family(seed: int, *, size_error: float = 0.0, pattern: np.ndarray = 0 * PATTERN):
    random = np.random.default_rng(seed)
    y = np.log(0.3 + 0.6 * (SIZE / 1e3) ** -0.5) + 0.02 * random.standard_normal(30)
    y += np.repeat(size_error * random.standard_normal(6) + pattern, 5)
    return fit(ASYMPTOTE, SIZE, np.exp(y))


def test_lack_of_fit_of_a_line_as_in_the_book():
    random = np.random.default_rng(0)
    y = np.log(3 * SIZE**-0.3) + 0.05 * random.standard_normal(30)
    found = lack_of_fit(fit(POWER, SIZE, np.exp(y)))
    means = y.reshape(6, 5).mean(axis=1)
    line = np.polyval(np.polyfit(np.log(SIZE), y, 1), np.log(SIZE[::5]))
    between = 5 * ((means - line) ** 2).sum() / 4
    within = ((y.reshape(6, 5) - means[:, None]) ** 2).sum() / 24
    assert found.degrees == (4, 24)
    assert found.f_statistic == pytest.approx(between / within)
    assert found.p_value == pytest.approx(stats.f.sf(between / within, 4, 24))


def test_lack_of_fit_is_rare_under_the_law_and_found_with_an_error_of_sizes():
    assert np.mean([lack_of_fit(family(seed)).found for seed in range(60)]) <= 0.15
    assert np.mean([lack_of_fit(family(s, size_error=0.05)).found for s in range(20)]) > 0.8
    single = fit(ASYMPTOTE, SIZE[::5], family(0).score[::5])
    assert np.isnan(lack_of_fit(single).p_value)
    assert "not testable" in str(lack_of_fit(single))


@pytest.mark.parametrize("size_error", [0.0, 0.02])
def test_errors_of_sizes_do_not_question_the_shape(size_error):
    questioned = [
        shape({str(i): family(3 * s + i, size_error=size_error) for i in range(3)}).questioned
        for s in range(40)
    ]
    assert np.mean(questioned) <= 0.15


def test_a_pattern_that_families_share_questions_the_shape_and_says_where():
    found = shape({str(i): family(i, size_error=0.02, pattern=PATTERN) for i in range(5)})
    assert found.questioned
    assert found.agreement < 0.01
    assert found.signs[1] == (5, 5)
    assert "questioned" in str(found)
    assert "5 of 5" in str(found)


def test_without_sizes_over_there_is_nothing_to_test():
    few = SIZE < 1e4
    found = shape({"one": fit(ASYMPTOTE, SIZE[few], family(0).score[few])})
    assert np.isnan(found.p_value)
    assert not found.questioned

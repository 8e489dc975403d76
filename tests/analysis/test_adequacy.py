import numpy as np
import pytest
from scipy import stats

from smallnets.analysis.adequacy import lack_of_fit, shape
from smallnets.analysis.fit import fit
from smallnets.analysis.laws import ASYMPTOTE, POWER, TWO_AXES

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
    assert str(found).startswith("The shape of the law is not tested: no family has two sizes more")


GRID = np.array([(n, d) for n in np.geomspace(1e6, 1e8, 5) for d in np.geomspace(1e7, 1e9, 4)]).T


def chinchilla(n: np.ndarray, d: np.ndarray) -> np.ndarray:
    return 1.69 + 406.4 * n**-0.34 + 410.7 * d**-0.28


def kaplan(n: np.ndarray, d: np.ndarray) -> np.ndarray:
    return ((8.8e13 / n) ** (0.076 / 0.095) + 5.4e13 / d) ** 0.095


def surface(truth, seed: int, *, cells: np.ndarray = GRID, size_error: float = 0.02):
    """Three seeds a cell, each of .02 of the log score, and an error of the cell's own."""
    random = np.random.default_rng(seed)
    y = np.log(truth(*cells)) + size_error * random.standard_normal(cells.shape[1])
    y = y[:, None] + 0.02 * random.standard_normal((cells.shape[1], 3))
    return fit(TWO_AXES, np.repeat(cells, 3, axis=1), np.exp(y.ravel()))


def test_a_surface_that_bends_otherwise_is_questioned_and_a_true_one_is_not():
    true = shape({"one": surface(chinchilla, 0)})
    assert not true.questioned
    assert "squares and product of the two log variables p = " in str(true)
    wrong = shape({"one": surface(kaplan, 0, size_error=0.005)})
    assert wrong.questioned
    assert "the surface bends otherwise" in str(wrong)
    several = shape({str(i): surface(chinchilla, i) for i in range(3)})
    assert 0.05 < several.p_value < 1


@pytest.mark.slow
def test_a_true_surface_is_seldom_questioned_and_a_wrong_one_mostly():
    """As the docstring of the tests says; iso-FLOP profiles share no size and no amount of data."""
    found = [shape({"": surface(chinchilla, seed)}).p_value for seed in range(200)]
    assert np.mean(np.array(found) < 0.05) <= 0.09
    assert np.mean(np.array(found) < 0.5) == pytest.approx(0.5, abs=0.12)
    wrong = [shape({"": surface(kaplan, s, size_error=0.005)}).questioned for s in range(20)]
    assert np.mean(wrong) > 0.9
    flops = np.geomspace(1e14, 1e16, 4).repeat(5)
    size = np.sqrt(flops / 60) * np.tile(np.geomspace(0.25, 4, 5), 4)
    profiles = np.array([size, flops / 6 / size])
    found = [shape({"": surface(chinchilla, s, cells=profiles)}).questioned for s in range(100)]
    assert np.mean(found) <= 0.11


def test_a_design_that_cannot_answer_is_not_tested_and_says_why():
    few = shape({"one": surface(chinchilla, 0, cells=GRID[:, :9])})
    assert np.isnan(few.p_value)
    assert "not tested: 9 cells of size and data leave too little scatter beside 5" in str(few)
    assert shape({"one": surface(chinchilla, 0, cells=GRID[:, :12])}).reason == ""
    fewer = shape({"one": surface(chinchilla, 0, cells=GRID[:, :6])})
    assert "not tested: no family has two sizes more" in str(fewer)
    exact = shape({"one": fit(TWO_AXES, GRID, chinchilla(*GRID))})
    assert "not tested: all sizes lie on their laws" in str(exact)

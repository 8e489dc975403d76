import numpy as np
import pytest

from smallnets.analysis.choose import aicc, choose, effective_runs
from smallnets.analysis.fit import fit
from smallnets.analysis.laws import ASYMPTOTE, BROKEN, POWER

SIZE = np.repeat(np.geomspace(1e3, 1e6, 10), 5)
Z = np.log(SIZE / 1e3)
TRUTH = {
    POWER.name: 0.9 * np.exp(-0.25 * Z),
    ASYMPTOTE.name: 0.3 + 0.6 * np.exp(-0.5 * Z),
    BROKEN.name: np.exp(-0.05 * Z - 0.15 * np.logaddexp(0, (Z - 3.5) / 0.3)),
}


@pytest.mark.parametrize("name", TRUTH)
@pytest.mark.parametrize("shared", [0.0, 0.02])
def test_the_true_form_is_chosen_nearly_always(name, shared):
    random = np.random.default_rng(0)
    right = 0
    for _ in range(10):
        error = 0.02 * random.standard_normal(len(SIZE))
        error += shared * np.repeat(random.standard_normal(10), 5)
        right += choose(SIZE, TRUTH[name] * np.exp(error)).best.law.name == name
    assert right >= 8


def test_aicc_of_a_power_law_as_in_the_book():
    random = np.random.default_rng(0)
    fitted = fit(POWER, SIZE, TRUTH[POWER.name] * np.exp(0.02 * random.standard_normal(50)))
    rss = (fitted.residuals**2).sum()
    assert aicc(fitted, 50) == pytest.approx(50 * np.log(rss / 50) + 6 + 2 * 3 * 4 / 46)


def test_seeds_that_share_an_error_count_as_one():
    random = np.random.default_rng(0)
    own = fit(POWER, SIZE, TRUTH[POWER.name] * np.exp(0.02 * random.standard_normal(50)))
    shared = 0.05 * np.repeat(random.standard_normal(10), 5)
    common = fit(POWER, SIZE, TRUTH[POWER.name] * np.exp(shared))
    assert effective_runs(own) > 30
    assert effective_runs(common) == pytest.approx(10)


def test_alternatives_are_those_within_four():
    random = np.random.default_rng(1)
    choice = choose(SIZE, TRUTH[POWER.name] * np.exp(0.02 * random.standard_normal(50)))
    near = [f for f, d in zip(choice.fits, choice.differences, strict=True) if 0 < d <= 4]
    assert list(choice.alternatives) == near
    assert choice.differences[0] == 0


def test_the_hold_out_is_the_error_at_the_largest_size_of_a_fit_without_it():
    score = TRUTH[POWER.name].copy()
    score[-5:] *= np.exp(0.1)
    choice = choose(SIZE, score, laws=(POWER,))
    assert choice.hold_out[0] == pytest.approx(0.1)


def test_laws_that_the_sizes_do_not_allow_are_named():
    few = SIZE < 1e4
    choice = choose(SIZE[few], TRUTH[POWER.name][few])
    assert choice.best.law is POWER
    assert any(BROKEN.name in text for text in choice.skipped)


def test_a_break_beside_the_first_sizes_is_not_believed():
    score = TRUTH[POWER.name].copy()
    score[:5] *= 1.3  # the smallest size alone is off
    choice = choose(SIZE, score * np.exp(0.001 * np.random.default_rng(0).standard_normal(50)))
    assert all(fitted.law is not BROKEN for fitted in choice.fits)
    assert any("on one side" in text for text in choice.skipped)

import numpy as np
import pytest

from smallnets.analysis.choose import Runs, aicc, choose, effective_runs, hold_out
from smallnets.analysis.fit import fit
from smallnets.analysis.laws import ASYMPTOTE, BROKEN, POWER

SIZE = np.repeat(np.geomspace(1e3, 1e6, 10), 5)
Z = np.log(SIZE / 1e3)
TRUTH = {
    POWER.name: 0.9 * np.exp(-0.25 * Z),
    ASYMPTOTE.name: 0.3 + 0.6 * np.exp(-0.5 * Z),
    BROKEN.name: np.exp(-0.05 * Z - 0.15 * np.logaddexp(0, (Z - 3.5) / 0.3)),
}


def runs(score: np.ndarray, keep: np.ndarray | slice = slice(None)) -> Runs:
    return Runs(x=SIZE[None, keep], score=score[keep], weights=np.ones(len(score[keep])))


def noisy(name: str, random: np.random.Generator, shared: float = 0.0) -> np.ndarray:
    error = 0.02 * random.standard_normal(len(SIZE))
    return TRUTH[name] * np.exp(error + shared * np.repeat(random.standard_normal(10), 5))


@pytest.mark.breadth
@pytest.mark.parametrize("name", TRUTH)
@pytest.mark.parametrize("shared", [0.0, 0.02])
def test_the_true_form_is_preferred_nearly_always_and_by_all_families_together(name, shared):
    random = np.random.default_rng(0)
    right = 0
    for _ in range(6):
        families = {f"f{i}": runs(noisy(name, random, shared)) for i in range(2)}
        verdict, choices = choose(families)
        assert verdict is not None
        right += verdict.preferred.name == name
        assert {choice.best.law.name for choice in choices.values()} == {verdict.law.name}
        assert verdict.sums[verdict.preferred.name] == 0
    assert right >= 5


def test_a_power_law_is_never_settled_where_an_asymptote_has_an_interval():
    verdict, choices = choose({"one": runs(noisy(POWER.name, np.random.default_rng(2)))})
    assert verdict is not None
    assert verdict.preferred is POWER
    assert verdict.law is ASYMPTOTE
    assert not verdict.settled
    assert choices["one"].best.law is ASYMPTOTE
    assert choices["one"].of(POWER) in choices["one"].alternatives
    alone, _ = choose({"one": runs(noisy(POWER.name, np.random.default_rng(0)))}, laws=(POWER,))
    assert alone is not None
    assert alone.settled  # where it is asked for alone


def test_a_family_without_the_sizes_keeps_the_law_that_it_can_have():
    random = np.random.default_rng(0)
    few = SIZE < 1e4  # four sizes: no asymptote
    families = {f"f{i}": runs(noisy(ASYMPTOTE.name, random)) for i in range(2)}
    verdict, choices = choose(families | {"few": runs(noisy(ASYMPTOTE.name, random), few)})
    assert verdict is not None
    assert verdict.law is ASYMPTOTE
    assert choices["few"].best.law is POWER


def test_aicc_of_a_power_law_as_in_the_book():
    fitted = fit(POWER, SIZE, noisy(POWER.name, np.random.default_rng(0)))
    rss = (fitted.residuals**2).sum()
    assert aicc(fitted, 50) == pytest.approx(50 * np.log(rss / 50) + 6 + 2 * 3 * 4 / 46)


def test_seeds_that_share_an_error_count_as_one():
    random = np.random.default_rng(0)
    own = fit(POWER, SIZE, noisy(POWER.name, random))
    shared = 0.05 * np.repeat(random.standard_normal(10), 5)
    common = fit(POWER, SIZE, TRUTH[POWER.name] * np.exp(shared))
    assert effective_runs(own) > 30
    assert effective_runs(common) == pytest.approx(10)


def test_alternatives_are_those_within_four():
    _, choices = choose({"one": runs(noisy(POWER.name, np.random.default_rng(1)))})
    choice = choices["one"]
    near = [
        fitted
        for fitted, difference in zip(choice.fits[1:], choice.differences[1:], strict=True)
        if difference <= 4
    ]
    assert list(choice.alternatives) == near
    assert choice.differences[0] == 0


def test_single_run_sizes_too_few_for_aicc_say_so():
    once = np.arange(0, 25, 5)
    _, choices = choose({"one": runs(noisy(ASYMPTOTE.name, np.random.default_rng(0)), once)})
    assert choices["one"].best.law is ASYMPTOTE
    assert choices["one"].differences == (0.0, -np.inf)


def test_the_hold_out_is_the_error_at_the_largest_sizes_of_a_fit_without_them():
    score = TRUTH[POWER.name].copy()
    score[-5:] *= np.exp(0.1)
    score[-10:-5] *= np.exp(-0.05)
    errors = hold_out(fit(POWER, SIZE, score), 2)
    assert [error for _, error in errors] == pytest.approx([-0.05, 0.1])
    assert [size for size, _ in errors] == pytest.approx(np.unique(SIZE)[-2:])
    _, choices = choose({"one": runs(score)}, laws=(POWER,), held=2)
    assert choices["one"].hold_out[0] == pytest.approx(0.025)
    assert choices["one"].held_out == errors


def test_laws_that_the_sizes_do_not_allow_are_named():
    _, choices = choose({"one": runs(TRUTH[POWER.name], SIZE < 1e4)})
    assert choices["one"].best.law is POWER
    assert any(BROKEN.name in text for text in choices["one"].skipped)


def test_a_break_beside_the_first_sizes_is_not_believed():
    score = TRUTH[POWER.name].copy()
    score[:5] *= 1.3  # the smallest size alone is off
    score *= np.exp(0.001 * np.random.default_rng(0).standard_normal(50))
    _, choices = choose({"one": runs(score)})
    assert all(fitted.law is not BROKEN for fitted in choices["one"].fits)
    assert any("on one side" in text for text in choices["one"].skipped)

import numpy as np
import pytest

from smallnets.analysis.fit import fit, predict
from smallnets.analysis.laws import ASYMPTOTE, BROKEN, MIXTURE, POWER, TWO_AXES

LAWS = (POWER, ASYMPTOTE, TWO_AXES, BROKEN, MIXTURE)
TRUTH = {
    POWER.name: {"A": 30.0, "alpha": 0.4},
    ASYMPTOTE.name: {"E": 0.3, "A": 30.0, "alpha": 0.4},
    TWO_AXES.name: {"E": 1.8, "A": 400.0, "B": 900.0, "alpha": 0.34, "beta": 0.3},
    BROKEN.name: {"E": 0.1, "A": 5.0, "c0": 0.1, "c1": 0.6, "d": 3e4, "f": 0.4},
    MIXTURE.name: {"d": 1.5, "a": -0.08, "b": -0.1, "c": 0.005, "s": 1.5, "R_max": 200.0},
}
SIZE = np.geomspace(1e3, 1e6, 12)


def sizes(law) -> np.ndarray:
    if law is MIXTURE:
        grid = np.meshgrid(SIZE, [1.0, 2.0, 4.0, 16.0, 64.0, 256.0])
    else:
        grid = np.meshgrid(*(SIZE for _ in law.variables))
    return np.stack([axis.ravel() for axis in grid])


def closed_form(law, x: np.ndarray) -> np.ndarray:
    """Each law once more, in natural parameters as the papers print it."""
    p = TRUTH[law.name]
    n = x[0]
    if law is POWER:
        return p["A"] * n ** -p["alpha"]
    if law is ASYMPTOTE:
        return p["E"] + p["A"] * n ** -p["alpha"]
    if law is TWO_AXES:
        return p["E"] + p["A"] * n ** -p["alpha"] + p["B"] * x[1] ** -p["beta"]
    if law is BROKEN:
        turn = (1 + (n / p["d"]) ** (1 / p["f"])) ** (-p["c1"] * p["f"])
        return p["E"] + p["A"] * n ** -p["c0"] * turn
    ratio = 1 / (1 / (x[1] - 1 + p["s"]) + 1 / p["R_max"])
    log_n, log_r = np.log(n), np.log(ratio)
    return np.exp(p["d"] + p["a"] * log_n + p["b"] * log_r + p["c"] * log_n * log_r)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
def test_the_fitter_finds_the_truth_that_made_the_data(law):
    x = sizes(law)
    fitted = fit(law, x, closed_form(law, x))
    assert fitted.parameters == pytest.approx(TRUTH[law.name], rel=1e-5)
    assert predict(fitted, x) == pytest.approx(closed_form(law, x), rel=1e-8)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
def test_derivatives_equal_finite_differences(law):
    random = np.random.default_rng(0)
    z = np.log(sizes(law))[:, ::7]
    z = z - np.where(law.centred[: len(z)], z.mean(axis=1), 0)[:, None]
    u = random.uniform(-0.5, 0.5, (3, law.size))
    _, derivative = law.evaluate(u, z)
    for i in range(law.size):
        step = np.zeros(law.size)
        step[i] = 1e-6
        difference = (law.evaluate(u + step, z)[0] - law.evaluate(u - step, z)[0]) / 2e-6
        assert derivative[:, i] == pytest.approx(difference, abs=1e-7)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
def test_lanes_do_not_depend_on_each_other(law):
    u = np.random.default_rng(0).uniform(-0.5, 0.5, (4, law.size))
    z = np.log(sizes(law))[:, ::5]
    together = law.evaluate(u, z)
    for lane in range(4):
        alone = law.evaluate(u[lane : lane + 1], z)
        assert np.array_equal(together[0][lane], alone[0][0])
        assert np.array_equal(together[1][lane], alone[1][0])

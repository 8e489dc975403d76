import numpy as np
import pytest

from smallnets.analysis.bootstrap import LANES, bootstrap, refit, resampled
from smallnets.analysis.fit import fit
from smallnets.analysis.laws import ASYMPTOTE

SIZE = np.repeat(np.geomspace(1e3, 1e5, 6), 5)


def study(delta: float = np.inf):
    random = np.random.default_rng(0)
    score = (0.3 + 0.6 * (SIZE / 1e3) ** -0.5) * np.exp(0.02 * random.standard_normal(30))
    return fit(ASYMPTOTE, SIZE, score, delta=delta)


@pytest.mark.parametrize("delta", [0.005, np.inf])
def test_every_replicate_is_at_the_optimum_that_it_has_alone(delta):
    fitted = study(delta)
    weights = resampled(fitted, replicates=LANES + 12)
    _, objective = refit(fitted, weights)
    for i in (0, 7, LANES - 1, LANES + 11):
        drawn = np.repeat(np.arange(30), weights[i].astype(int))
        alone = fit(ASYMPTOTE, SIZE[drawn], fitted.score[drawn], delta=delta)
        assert objective[i] == pytest.approx(alone.objective, rel=1e-6)


def test_weights_of_one_return_the_fit():
    fitted = study()
    working, objective = refit(fitted, np.ones((1, 30)))
    assert working[0] == pytest.approx(fitted.working, abs=1e-6)
    assert objective[0] == pytest.approx(fitted.objective)


def test_resampling_counts_runs_and_clusters_keep_sizes_whole():
    fitted = study()
    assert (resampled(fitted, replicates=50).sum(axis=1) == 30).all()
    whole = resampled(fitted, replicates=50, clusters=True).reshape(50, 6, 5)
    assert (whole == whole[..., :1]).all()
    assert (whole[..., 0].sum(axis=1) == 6).all()


def test_a_seed_gives_the_same_cloud_about_the_estimate():
    fitted = study()
    cloud = bootstrap(fitted, replicates=400, seed=3)
    assert np.array_equal(cloud, bootstrap(fitted, replicates=400, seed=3))
    assert np.median(cloud, axis=0) == pytest.approx(list(fitted.parameters.values()), rel=0.1)

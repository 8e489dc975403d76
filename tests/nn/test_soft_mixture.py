"""A soft mixture against its formula written out, and what it sees."""

import jax
import numpy as np
import pytest
from flax import nnx

from smallnets.measure import flops
from smallnets.nn.linear import Dense
from smallnets.nn.mixture import SoftMixture

X = jax.random.normal(jax.random.key(3), (2, 5, 8))


def mixture(**options) -> SoftMixture:
    return SoftMixture(
        8, 6, **{"expert": Dense, "experts": 3, "slots": 2, **options}, rngs=nnx.Rngs(0)
    )


def test_it_is_the_formula_for_each_example():
    model = mixture()
    kernel = np.asarray(model.kernel[...], float)
    for x, y in zip(np.asarray(X, float), model(X), strict=True):
        weights = np.exp(x @ kernel)
        slots = (weights / weights.sum(axis=0)).T @ x
        outputs = np.concatenate(
            [slots[2 * i : 2 * i + 2] @ model.expert.kernel[i] for i in range(3)]
        )
        np.testing.assert_allclose(
            y, weights / weights.sum(axis=1, keepdims=True) @ outputs, rtol=1e-4, atol=1e-5
        )


def test_one_expert_and_one_position_is_that_expert():
    model = mixture(experts=1, slots=1)
    one = X[:, :1]
    expert = jax.tree.map(lambda leaf: leaf[0], model.expert)
    np.testing.assert_allclose(model(one), expert(one), rtol=1e-6)


def test_what_runs_is_what_is_counted():
    def call(model, x):
        return model(x)

    products = 2 * (6 * 2 * 8 * 6) + 2 * (2 * 5 * 6 * (2 * 8 + 6))
    assert flops.count(call, mixture(), X).products == products


def test_bad_settings_get_one_line():
    with pytest.raises(ValueError, match="slots=0") as caught:
        mixture(slots=0)
    assert "\n" not in str(caught.value)

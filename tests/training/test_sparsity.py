"""Zeros that stay, and ever more of them: what the arrays hold after a few steps."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from smallnets.nn import Perceptron
from smallnets.nn.linear import Dense
from smallnets.training import gradually_sparse, zeros_kept
from smallnets.training.fit import Arrays, Fit
from smallnets.training.objective import cross_entropy


def trained(rule: Any, steps: int, start: Perceptron) -> tuple[list[np.ndarray], Any]:
    random = np.random.default_rng(0)
    train = Arrays(
        jnp.asarray(random.normal(size=(64, 8)), jnp.float32),
        jnp.asarray(random.integers(0, 3, 64), jnp.int32),
    )
    fit = Fit(
        optimizer=lambda steps: rule(1e-2, rule=optax.adam), objective=cross_entropy,
        steps=steps, batch_size=16, evaluations=1,
    )  # fmt: skip
    model, _ = jax.jit(lambda start: fit.run(None, train, {}, seed=0, start=start))(start)
    return [np.asarray(layer.linear.kernel[...]) for layer in model.layers], model


def network() -> Perceptron:
    return Perceptron((8,), 3, widths=[16], linear=Dense, rngs=nnx.Rngs(0))


@pytest.mark.slow
def test_zeros_stay_and_all_else_moves():
    start = network()
    before = start.layers[0].linear.kernel
    zero = np.arange(8 * 16).reshape(8, 16) % 3 == 0
    start.layers[0].linear.kernel = nnx.Param(
        jnp.where(zero, 0, before[...]), **before.get_metadata()
    )
    (found, _), model = trained(zeros_kept, 8, start)
    np.testing.assert_array_equal(found == 0, zero)
    assert np.abs(model.layers[0].bias[...]).max() > 0  # began at zero, but has no fans


@pytest.mark.slow
@pytest.mark.parametrize(("steps", "share"), [(6, 0.5 * (1 - (1 - 5 / 10) ** 3)), (14, 0.5)])
def test_the_share_of_zeros_is_that_of_the_schedule(steps: int, share: float):
    rule = partial(gradually_sparse, share=0.5, until=10, every=1)
    for kernel in trained(rule, steps, network())[0]:
        assert (kernel == 0).sum() == round(share * kernel.size)


def test_what_is_refused():
    for options, said in (
        ({"share": 1.0, "until": 5}, "share must lie between"),
        ({"share": 0.5, "until": 0}, "must be at least 1"),
    ):
        with pytest.raises(ValueError, match=said):
            gradually_sparse(1e-3, rule=optax.adam, **options)

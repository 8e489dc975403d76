"""Load, drops and entropy in the curves of a run, and a bias that balances the load in one."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from smallnets.nn.linear import Dense
from smallnets.nn.mixture import Mixture
from smallnets.nn.residual import ResidualNetwork
from smallnets.nn.routing import BiasBalanced
from smallnets.nn.sharing import Stack
from smallnets.training.fit import Arrays, Fit
from smallnets.training.objective import cross_entropy
from smallnets.training.optimizer import cosine_schedule, gradient_transformation

CURVES = {"routing_load", "routing_drops", "routing_entropy"}
SKEWED = jax.random.normal(jax.random.key(0), (256, 8)) + 2  # a common part, so few are busy
TRAIN = Arrays(SKEWED, jnp.arange(256, dtype=jnp.int32) % 4)


def train(mixture, *, seed=0, steps=60, learning_rate=1e-3, **options):
    network = partial(
        ResidualNetwork, (8,), 4, width=16, depth=2, linear=Dense, mixture=mixture, **options
    )
    return Fit(
        optimizer=partial(
            gradient_transformation,
            rule=optax.adam,
            learning_rate=learning_rate,
            schedule=cosine_schedule,
        ),
        objective=cross_entropy,
        steps=steps,
        batch_size=64,
        evaluations=3,
    ).run(network, TRAIN, {}, seed=seed)


@pytest.mark.slow
def test_curves_are_the_means_of_the_steps_since_the_evaluation_before():
    """With rates of 0 nothing but the batch changes, so that each is what the model says of it."""
    model, curves = train(
        partial(Mixture, experts=4, top_k=2), learning_rate=0.0, steps=12, unique=1
    )
    assert {name for name in curves if name.startswith("routing_")} == CURVES
    assert all(curve.shape == (3,) for curve in curves.values())
    assert isinstance(model.stack, Stack)
    mixture = jax.tree.map(lambda leaf: leaf[0], model.stack.blocks.layer)
    np.testing.assert_array_equal(mixture.load[1], 2 * 4)  # two calls in each of four steps
    embedded = model.embedding(SKEWED)
    block = jax.tree.map(lambda leaf: leaf[0], model.stack.blocks)
    entropies = []
    for _ in range(2):
        entropies.append(block.layer.router(block.norm(embedded))[1].entropy())
        embedded = block(embedded)
    # three epochs of four batches; batches drop others than the whole set does, hence the margin
    np.testing.assert_allclose(curves["routing_entropy"].mean(), np.mean(entropies), rtol=0.02)


def test_a_network_without_mixtures_has_no_such_curves():
    assert set(jax.eval_shape(lambda: train(None)[1])) == {"train_loss"}


@pytest.mark.slow
def test_the_bias_balances_the_load_past_the_optimiser():
    """At a learning rate of 0 the bias alone moves, and it alone brings the load down."""
    settings = {"experts": 4, "top_k": 2, "balance_weight": 0.0, "router_z_weight": 0.0}

    def biased(rate):
        router = partial(BiasBalanced, rate=rate)
        return train(partial(Mixture, router=router, **settings), learning_rate=0.0)

    models, curves = jax.jit(jax.vmap(biased))(jnp.asarray([0.0, 0.01]))
    still, moved = ({name: curve[i, -1] for name, curve in curves.items()} for i in (0, 1))
    assert still["routing_load"] > 1.8
    assert moved["routing_load"] < 0.75 * still["routing_load"]
    assert moved["routing_drops"] < 0.5 * still["routing_drops"]
    bias = models.stack.blocks.layer.router.bias
    assert not isinstance(bias, nnx.Param)
    assert not bias[0].any()
    np.testing.assert_allclose(bias[1] / 0.01, np.round(bias[1] / 0.01), atol=1e-3)  # whole steps

"""LeNet-5 and LeNet-300-100 have the parameters that the literature counts."""

from functools import partial

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from layers import call

from smallnets.measure import flops
from smallnets.nn import Dense, LeNet, LowRank
from smallnets.sweep import CONF, VERSION_BASE
from smallnets.sweep.build import CHECKED


def network(shape: tuple[int, ...] = (28, 28, 1), **options) -> LeNet:
    plain = {"channels": [20, 50], "hidden": [500], "size": 5, "linear": Dense}
    build = partial(LeNet, shape, 10, **{**plain, **options})
    return jax.eval_shape(lambda: build(rngs=nnx.Rngs(0)))


@pytest.mark.parametrize(("model", "parameters"), [("lenet5", 431_080), ("lenet_300_100", 266_610)])
def test_published_parameters(model: str, parameters: int):
    with initialize_config_dir(str(CONF), **VERSION_BASE):
        config = compose("config", [f"model={model}"])
    factory = instantiate(config.model, _convert_="all", **CHECKED)
    built = jax.eval_shape(lambda: factory((28, 28, 1), 10, rngs=nnx.Rngs(0)))
    assert sum(leaf.size for leaf in jax.tree.leaves(built)) == parameters


def test_products_by_hand():
    """24^2 windows of 25, 8^2 of 25 * 20, then 800, 500, 10."""
    counted = flops.count(call, network(), jnp.ones((1, 28, 28, 1)))
    by_hand = 24**2 * 25 * 20 + 8**2 * 25 * 20 * 50 + 800 * 500 + 500 * 10
    assert counted.products == 2 * by_hand


def test_it_classifies_signals_too_by_any_layer():
    model = network((40, 1), linear=partial(LowRank, rank=2))
    assert jax.eval_shape(call, model, jnp.ones((3, 40, 1))).shape == (3, 10)


@pytest.mark.parametrize(
    ("shape", "said"), [((10, 10, 1), "must leave a position"), ((40,), "needs examples")]
)
def test_what_can_not_be_gets_one_line(shape, said):
    with pytest.raises(ValueError, match=said):
        network(shape)

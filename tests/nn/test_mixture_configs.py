"""Mixtures where no class foresees them, by configuration alone."""

from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from smallnets.nn.linear import LowRank
from smallnets.nn.mixture import Mixture

CONF = Path(__file__).parents[2] / "conf"
LAYERS = "model.depth=1 model.width=32 "


def built(overrides: str, shape=(6,), classes=11):
    """The network of a command line, called on tokens."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", (LAYERS + overrides).split())
    network = instantiate(config.model, _convert_="all")

    def build(key):
        model = network(shape, classes, rngs=nnx.Rngs(params=key))
        return model, model(jax.numpy.zeros((2, *shape), int))

    return jax.jit(build)(jax.random.key(0))


def test_experts_of_low_rank_layers():
    model, y = built("model=transformer_mixture model/linear=low_rank")
    expert = model.stack.blocks.feed_forward.layer.expert
    assert isinstance(expert.up, LowRank)
    assert expert.up.down.shape[:2] == (1, 4)  # blocks, experts
    assert np.isfinite(y).all()


@pytest.mark.parametrize("mixture", ["dropless", "shared_experts", "bias_balanced"])
def test_mixtures_of_low_rank_layers_inside_attention(mixture):
    model, y = built(
        f"model=transformer +model/mixture@model.attention_linear={mixture} "
        "+model/linear@model.attention_linear.expert=low_rank "
        "model.attention_linear.capacity_factor=null"
    )
    query = model.stack.blocks.attention.layer.query
    assert isinstance(query, Mixture)
    assert isinstance(query.expert, LowRank)
    assert np.isfinite(y).all()


@pytest.mark.parametrize("mixture", ["expert_choice", "soft", "top_k", "bias_balanced"])
def test_a_decoder_refuses_mixtures_that_see_later_positions(mixture):
    with pytest.raises(ValueError, match="must not see later ones") as caught:
        built(f"model=transformer +model/mixture={mixture}")
    assert "\n" not in str(caught.value)
    _, y = built(f"model=encoder +model/mixture={mixture}")
    assert np.isfinite(y).all()


def test_a_residual_network_refuses_to_mix_its_examples():
    with pytest.raises(ValueError, match="it would mix examples: choose model=encoder"):
        built("model=residual +model/mixture=soft")

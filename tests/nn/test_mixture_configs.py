"""Mixtures where no class foresees them, by configuration alone."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from families import CONF
from flax import nnx
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from smallnets.nn.linear import LowRank
from smallnets.nn.mixture import Mixture
from smallnets.sweep import VERSION_BASE
from smallnets.sweep.build import CHECKED

SIZES = "model.depth=1 model.width=32 "


def network(overrides: str) -> Callable[[], tuple[nnx.Module, jax.Array]]:
    """What builds the network of a command line and calls it on two sequences of six tokens."""
    with initialize_config_dir(str(CONF), **VERSION_BASE):
        config = compose("config", (SIZES + overrides).split())
    factory = instantiate(config.model, _convert_="all", **CHECKED)

    def build_and_call() -> tuple[nnx.Module, jax.Array]:
        model = factory((6,), 11, rngs=nnx.Rngs(params=jax.random.key(0)))
        return model, model(jnp.zeros((2, 6), int))

    return build_and_call


def built(overrides: str) -> tuple[Any, jax.Array]:
    """The network and what it gives, as shapes."""
    return jax.eval_shape(network(overrides))


@pytest.mark.slow
def test_experts_of_low_rank_layers():
    model, y = built("model=transformer family=mixture model/linear=low_rank")
    expert = model.stack.blocks.feed_forward.layer.expert
    assert isinstance(expert.up, LowRank)
    assert expert.up.down.shape[:2] == (1, 4)  # blocks, experts
    assert y.shape == (2, 6, 11)


@pytest.mark.slow
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
    assert y.shape == (2, 6, 11)


@pytest.mark.slow
def test_a_decoder_of_mixtures_in_every_place_gives_finite_numbers():
    mixtures = "+model/mixture=dropless +model/mixture@model.attention_linear=dropless "
    expert = "+model/linear@model.attention_linear.expert=dense"
    _, y = jax.jit(network(f"model=transformer {mixtures} {expert}"))()
    assert np.isfinite(y).all()


@pytest.mark.breadth
@pytest.mark.parametrize("mixture", ["expert_choice", "soft", "top_k", "bias_balanced"])
def test_a_decoder_refuses_mixtures_that_see_later_positions(mixture):
    with pytest.raises(ValueError, match="must not see later ones") as caught:
        built(f"model=transformer +model/mixture={mixture}")
    assert "\n" not in str(caught.value)
    _, y = built(f"model=encoder +model/mixture={mixture}")
    assert y.shape == (2, 11)


def test_a_residual_network_refuses_to_mix_its_examples():
    with pytest.raises(ValueError, match="it would mix examples: choose model=encoder"):
        built("model=residual +model/mixture=soft")

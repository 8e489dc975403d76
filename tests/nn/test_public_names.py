"""Public names are there for configs, rows and users; importing them changes nothing of NNX's."""

import importlib
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from families import CONF
from hydra.utils import get_object
from omegaconf import OmegaConf

import smallnets.nn


def targets(node: Any) -> Iterator[str]:
    """Every ``_target_`` of ours in a config, at any depth."""
    if isinstance(node, dict):
        if str(node.get("_target_", "")).startswith("smallnets."):
            yield node["_target_"]
        for child in node.values():
            yield from targets(child)
    elif isinstance(node, list):
        for child in node:
            yield from targets(child)


TARGETS = sorted(
    {
        target
        for path in CONF.rglob("*.yaml")
        for target in targets(OmegaConf.to_container(OmegaConf.load(path)))
    }
)


@pytest.mark.parametrize(
    "package", ["smallnets.compress", "smallnets.nn", "smallnets.training", "smallnets.measure"]
)
def test_every_public_name_is_there_and_listed_once(package):
    module = importlib.import_module(package)
    assert len(set(module.__all__)) == len(module.__all__) > 0
    assert [name for name in module.__all__ if not hasattr(module, name)] == []


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_of_a_config_can_be_imported(target):
    assert callable(get_object(target))


def test_configs_name_layers_and_networks_by_their_public_names():
    named = {target for target in TARGETS if target.startswith("smallnets.nn.")}
    assert "smallnets.nn.Monarch" in named
    assert named <= {f"smallnets.nn.{name}" for name in smallnets.nn.__all__}


SHARED_LAYER = """
import jax
import jax.numpy as jnp
from flax import nnx

def settings():
    modes = nnx.set_graph_mode.current_value(), nnx.set_graph_updates.current_value()
    return modes, dict(jax.config.values)

before = settings()
import smallnets.nn
import smallnets.training
assert settings() == before

class Twice(nnx.Module):
    def __init__(self, rngs):
        self.a = nnx.Linear(3, 3, rngs=rngs)
        self.b = self.a

    def __call__(self, x):
        return self.b(self.a(x))

model, x = Twice(nnx.Rngs(0)), jnp.ones((2, 3))
expected = model(x)

graph, state = nnx.split(model)
assert len(jax.tree.leaves(state)) == 2  # a kernel and a bias, once
again = nnx.merge(graph, state)
assert again.a is again.b
assert jnp.allclose(again(x), expected)

assert jnp.allclose(nnx.jit(lambda model, x: model(x))(model, x), expected)

@nnx.jit
def halve(model):
    model.a.kernel[...] = model.a.kernel[...] / 2

halve(model)
assert model.a is model.b
assert not jnp.allclose(model(x), expected)
"""


def test_a_users_own_module_may_hold_a_layer_twice():
    """NNX's modes and JAX's settings are the user's: importing ours leaves them as they were."""
    command = [sys.executable, "-W", "error", "-c", SHARED_LAYER]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr

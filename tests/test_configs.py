"""Every YAML opens with a command that chooses it, builds and shape-checks, nothing computed."""

import itertools
import shlex
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx
from hydra import compose, initialize_config_dir

from smallnets.sweep import CONF, VERSION_BASE
from smallnets.sweep.build import build
from smallnets.sweep.jobs import resolve
from smallnets.tasks.data import Data, Split

FILES = sorted(CONF.rglob("*.yaml"))


def opening(path: Path) -> list[str]:
    """The lines of the comment that a file opens with, without their marks."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith("# @package")]
    comment = itertools.takewhile(lambda line: line.startswith("#"), lines)
    return [line.removeprefix("#") for line in comment]


def commands(path: Path) -> list[list[str]]:
    """The words of each command in the opening, without those that have several values."""
    lines = [line.strip().split("  ")[0] for line in opening(path) if line.startswith("   small")]
    words = [[word for word in shlex.split(line) if "=" in word] for line in lines]
    return [[word for word in each if not _is_swept(word)] for each in words]


def _is_swept(word: str) -> bool:
    return "range(" in word or ("," in word and "[" not in word)


TARGETS, LABELS = ("absolute_error", "huber", "squared_error"), ("binary_cross_entropy",)


def data(config: dict) -> Data:
    """Of the shapes of MNIST-1D, or of text for a decoder: the data are not what is checked.

    The answers are of the kind that the objective is for.
    """
    objective = config["objective"]["_target_"].rpartition(".")[2]
    if config["model"].get("causal"):
        tokens = np.zeros((4000, 64), np.int32)
        split = Split(tokens, tokens, tokens.size)
        return Data(split, split, split, outputs=256)
    inputs = np.zeros((4000, 40, 1), np.float32)
    if objective in TARGETS + LABELS:
        split = Split(inputs, np.zeros((4000, 2), np.int32 if objective in LABELS else np.float32))
        return Data(split, split, split, 2, kind="labels" if objective in LABELS else "targets")
    split = Split(inputs, np.zeros(4000, np.int32))
    return Data(split, split, split, outputs=10)


@pytest.mark.breadth
@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CONF)))
def test_it_says_what_it_is_and_its_commands_build_and_shape_check(path: Path):
    assert opening(path)[0].strip()
    chosen = []
    for words in commands(path):
        with initialize_config_dir(str(CONF), **VERSION_BASE):
            config = compose("config", words, return_hydra_config=True)
        resolved = resolve(config)
        trainer, given = build(resolved)(), data(resolved)
        network = trainer.check(given)
        factory = trainer.network(given)
        drawn = jax.eval_shape(lambda: factory(rngs=nnx.Rngs(params=jax.random.key(0))))  # noqa: B023
        assert jax.tree.all(jax.tree.map(lambda a, b: a == b, network, drawn))
        assert jax.tree.leaves(network)
        assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(network))
        chosen.append(config.hydra.runtime.choices.get(str(path.parent.relative_to(CONF))))
    assert chosen
    assert path.parent == CONF or path.stem in chosen

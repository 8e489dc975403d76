"""Every YAML composes, builds and shape-checks without computing, and opens with its command."""

import shlex
from pathlib import Path

import jax
import numpy as np
import pytest
from hydra import compose, initialize_config_dir

from smallnets.sweep.jobs import resolve
from smallnets.sweep.plan import build
from smallnets.tasks.data import Data, Split

CONF = Path(__file__).parents[1] / "conf"
FILES = sorted(CONF.rglob("*.yaml"))
CHOICES = {  # how a file is chosen, by its folder
    "model/linear": "model=residual model/linear={}",
    "model/mixture": "model=encoder +model/mixture={}",
    "model/convolution": "model=convolutional model/convolution={}",
    "model/stack": "model=transformer model/stack={}",
    "model/exits": "model=residual +model/exits={}",
    "experiment": "+experiment={}",
    "task": "task={} task.directory=/a",
}


def overrides(path: Path) -> list[str]:
    folder = str(path.parent.relative_to(CONF))
    if folder == ".":
        return []
    chosen = CHOICES.get(folder, f"{folder}={{}}").format(path.stem).split()
    return [each for each in chosen if "directory" not in each or path.stem == "tfds"]


def data(model: dict) -> Data:
    """Of the shapes of MNIST-1D, or of text for a decoder: the data are not what is checked."""
    if model.get("causal"):
        tokens = np.zeros((4000, 64), np.int32)
        split = Split(tokens, tokens, tokens.size)
        return Data(split, split, split, classes=256)
    split = Split(np.zeros((4000, 40, 1), np.float32), np.zeros(4000, np.int32))
    return Data(split, split, split, classes=10)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CONF)))
def test_it_builds_and_shape_checks(path: Path):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", overrides(path), return_hydra_config=True)
    resolved = resolve(config)
    network = build(resolved)().check(data(resolved["model"]))
    assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(network))
    assert jax.tree.leaves(network)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CONF)))
def test_it_opens_with_what_it_is_and_its_command(path: Path):
    lines = path.read_text().splitlines()
    head = [line for line in lines if not line.startswith("# @package")]
    comment = []
    for line in head:
        if not line.startswith("#"):
            break
        comment.append(line.removeprefix("#"))
    assert comment[0].strip()
    commands = [line.strip().split("  ")[0] for line in comment if line.startswith("   smallnets")]
    assert commands
    for command in commands:
        words = [word for word in shlex.split(command) if "=" in word]
        swept = [word for word in words if "," in word or "range(" in word]
        with initialize_config_dir(str(CONF), version_base="1.3"):
            compose("config", [word for word in words if word not in swept])

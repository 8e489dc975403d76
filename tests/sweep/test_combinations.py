"""Layers, blocks, sharing and mixtures compose by a command line, without a class for any pair."""

import itertools
from functools import partial

import jax
import numpy as np
import pytest
from hydra import compose, initialize_config_dir

from smallnets.sweep import CONF, VERSION_BASE
from smallnets.sweep.build import build
from smallnets.sweep.jobs import resolve
from smallnets.tasks.data import Data, Split
from smallnets.training.trainer import Trainer, splits

LINEAR = sorted(path.stem for path in (CONF / "model" / "linear").glob("*.yaml"))
MIXTURES = sorted(path.stem for path in (CONF / "model" / "mixture").glob("*.yaml"))
BLOCKS = ("residual", "encoder", "transformer")
SHARING = {
    "unshared": [],
    "shared": ["model.unique=1"],
    "consecutive": ["model.unique=2", "model.stack.order=consecutive"],
    "relaxed": ["model.unique=1", "model.relaxation=1"],
    "part": ["model/stack=shared_part"],
}
REFUSED = {  # a decoder must not see later tokens, nor one example others
    ("transformer", "expert_choice"),
    ("transformer", "soft"),
    ("residual", "soft"),
}
COMBINATIONS = [
    (linear, block, sharing, mixture)
    for linear, block, sharing, mixture in (
        *itertools.product(LINEAR, BLOCKS, sorted({*SHARING} - {"part"}), (None, "top_k")),
        *itertools.product(("low_rank",), BLOCKS, ("part",), (None, "top_k")),
        *itertools.product(("low_rank",), BLOCKS, ("shared",), sorted({*MIXTURES} - {"top_k"})),
    )
    if (block, mixture) not in REFUSED
]

random = np.random.default_rng(0)


def is_quick(linear: str, block: str, sharing: str, mixture: str | None) -> bool:
    """Few of the combinations, in which every choice is; the rest is ``slow``."""
    place = LINEAR.index(linear) + BLOCKS.index(block)
    if sharing == "part" or mixture not in (None, "top_k"):
        return (place + MIXTURES.index(mixture or "top_k")) % 3 == 0
    if LINEAR.index(linear) % len(BLOCKS) != BLOCKS.index(block):
        return False
    return (sorted({*SHARING} - {"part"})[place % 4], (None, "top_k")[place % 2]) == (
        sharing,
        mixture,
    )


def run_of(linear: str, block: str, sharing: str, mixture: str | None, *, steps: int) -> Trainer:
    """What the command line of a combination describes, at width 16 and depth 4."""
    overrides = [f"model={block}", f"model/linear={linear}", *SHARING[sharing]]
    overrides += [f"+model/mixture={mixture}"] if mixture else []
    if mixture and block == "transformer":
        overrides += ["model.mixture.capacity_factor=null"]  # drops would see later tokens
    if sharing == "part" and block == "residual":
        overrides += ["model.stack.part=layer"]
    sizes = ["model.width=16", "model.depth=4", "batch_size=16", f"steps={steps}"]
    sizes += [f"evaluations={min(steps, 4)}", "optimizer.learning_rate=1e-2"]
    with initialize_config_dir(str(CONF), **VERSION_BASE):
        config = compose("config", [*overrides, *sizes], return_hydra_config=True)
    return build(resolve(config))()


def data_of(block: str) -> Data:
    """Sixteen examples to be learned by heart."""
    if block == "transformer":
        inputs, labels = random.integers(0, 12, (2, 16, 8)).astype(np.int32)
    else:
        inputs = random.normal(size=(16, 8, 2)).astype(np.float32)
        labels = random.integers(0, 12, 16).astype(np.int32)
    train, none = Split(inputs, labels), Split(inputs[:0], labels[:0])
    return Data(train, none, train, outputs=12)


def test_there_are_a_hundred_and_more():
    assert len(set(COMBINATIONS)) == len(COMBINATIONS) >= 100


def test_every_choice_is_in_a_combination_that_is_quick():
    quick = [each for each in COMBINATIONS if is_quick(*each)]
    for place in range(4):
        assert {each[place] for each in quick} == {each[place] for each in COMBINATIONS}
    assert len(quick) < 20


@pytest.mark.parametrize(
    ("linear", "block", "sharing", "mixture"),
    [
        pytest.param(*each, marks=() if is_quick(*each) else pytest.mark.slow)
        for each in COMBINATIONS
    ],
)
@pytest.mark.filterwarnings("ignore:.*more than the:smallnets.nn.linear.LargerThanDense")
def test_one_step_of_training(linear: str, block: str, sharing: str, mixture: str | None):
    data = data_of(block)
    run = run_of(linear, block, sharing, mixture, steps=1)
    model, curves = jax.eval_shape(partial(run.fit, data), splits(data))
    assert curves["train_loss"].shape == (1,)
    assert jax.tree.leaves(model)


@pytest.mark.parametrize(
    ("linear", "block", "sharing", "mixture"),
    [
        ("monarch", "residual", "unshared", "top_k"),  # a mixture of Monarchs
        ("low_rank", "encoder", "relaxed", None),  # attention in a relaxed recursion
        ("dense", "residual", "shared", "top_k"),  # a shared stack of mixtures
        ("kronecker", "transformer", "consecutive", None),
        ("block_tensor_train", "encoder", "unshared", "top_k"),
        ("tensor_train", "transformer", "shared", "top_k"),
    ],
)
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*more than the:smallnets.nn.linear.LargerThanDense")
def test_a_sample_of_them_learns(linear: str, block: str, sharing: str, mixture: str | None):
    data = data_of(block)
    run = run_of(linear, block, sharing, mixture, steps=60)
    training = jax.jit(partial(run.fit, data)).lower(splits(data))
    _, curves = training.compile({"xla_backend_optimization_level": "1"})(splits(data))
    early, *_, late = curves["train_loss"]  # means over stretches of training
    assert late < 0.8 * early

"""Every training program lowers for a GPU and a TPU from a machine that has neither."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from smallnets.nn import Dense
from smallnets.nn.dispatch import run_blocks
from smallnets.nn.parameter import stacked
from smallnets.sweep.plan import plan
from smallnets.training.batch import cuttable, trace_runs
from smallnets.training.trainer import splits

SMALL = ["steps=4", "evaluations=2", "batch_size=16", "seed=0,1"]
LANGUAGE = ["task=random_hierarchy", "task.train=200", "task.validation=50", "task.test=50"]
NETWORKS = {
    "residual": ["model.width=8"],
    "encoder": ["model.width=8"],
    "transformer": ["model.width=8", *LANGUAGE],
    "convolutional": ["model.width=8"],
    "perceptron": ["model.widths=[8]"],
    "logistic": [],
}
FAMILIES = ("dense", "low_rank", "monarch", "shared", "mixture")
WITHOUT_BLOCKS = {"convolutional", "perceptron", "logistic"}
QUICK = ("residual", "mixture")
CASES = [
    pytest.param(network, family, marks=() if (network, family) == QUICK else pytest.mark.slow)
    for network, family in (
        (network, family)
        for network in NETWORKS
        for family in FAMILIES
        if not (network in WITHOUT_BLOCKS and family in ("shared", "mixture"))
        if not (network == "logistic" and family != "dense")
    )
]


@pytest.mark.slow
@pytest.mark.parametrize(("network", "family"), CASES)
def test_it_lowers_for_every_platform(network: str, family: str, cache):
    words = [f"model={network}", f"family={family}", *NETWORKS[network], *SMALL, f"cache={cache}"]
    if family == "monarch":
        words.append("model.linear.blocks=2")
    (program,) = plan(*words).programs
    for execution in ("map", "vmap"):
        arrays = program.shared(splits(program.data))
        one, blank = cuttable(program.stages, program.inputs, arrays, program.trainer.evaluations)
        bounds = np.int32(0), np.int32(2)
        traced = trace_runs(one, program.inputs, (arrays, *bounds), execution, blank)
        for platform in ("cpu", "cuda", "tpu"):
            text = traced.lower(lowering_platforms=(platform,)).as_text()
            assert "stablehlo" in text


def test_blocks_of_rows_are_computed_as_the_platform_likes():
    """One after another on a CPU, in a loop; side by side, as a batched product, elsewhere."""
    layers = stacked(partial(Dense, 4, 4), nnx.Rngs(0), 3)
    traced = jax.jit(run_blocks).trace(layers, jnp.ones((5, 8, 4)), jnp.arange(5) % 3)
    loops = {
        platform: "stablehlo.while" in traced.lower(lowering_platforms=(platform,)).as_text()
        for platform in ("cpu", "cuda", "tpu")
    }
    assert loops == {"cpu": True, "cuda": False, "tpu": False}

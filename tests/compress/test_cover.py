"""Every pass on every map, and pairs of all else: found or refused, and loaded as it was kept.

What a pass makes is known from shapes, and a file's loading depends on nothing else: so passes are
traced here, and their arrays drawn. What they compute is tested beside this.
"""

import itertools
import json
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_models import (
    LINEAR,
    PRODUCT,
    check_in_a_new_process,
    example,
    model_of,
    network,
    pairwise,
)

from smallnets import models
from smallnets.compress import (
    in_code,
    low_rank,
    merged_experts,
    projected,
    tied,
    with_zeros,
    without_experts,
    without_heads,
    without_units,
)
from smallnets.nn import Quantised
from smallnets.nn.parameter import is_variable

PASSES = {
    "factorise": partial(low_rank, ratio=0.5),
    "factorise_plain": partial(low_rank, ratio=0.5, weighted=False),
    "project": partial(projected, blocks=4),
    "project_rank": partial(projected, blocks=4, rank=2),
    "units": partial(without_units, keep=0.5),
    "heads": partial(without_heads, keep=0.5),
    "experts": partial(without_experts, keep=0.5),
    "merge_experts": partial(merged_experts, keep=0.5),
    "tie": partial(tied, unique=1),
    "tie_rank": partial(tied, unique=1, rank=4),
    "zeros": partial(with_zeros, share=0.5),
    "int8": partial(in_code, code="int8", group=8),
    "int4": partial(in_code, code="int4", group=8),
    "ternary": partial(in_code, code="ternary", group=0),
}
WHOLE = [(*each, name) for each, name in itertools.product(PRODUCT, PASSES)]


def passed(kind: str, linear: str, mixture: str | None, stack: str, name: str) -> Any:
    """The network after the pass, its arrays abstract; None where it refuses, in one line."""
    before = jax.eval_shape(partial(network, kind, linear, mixture, stack))
    examples = jax.ShapeDtypeStruct(example(kind).shape, example(kind).dtype)
    try:
        return jax.eval_shape(PASSES[name], before, examples)
    except ValueError as error:
        if "must find something to do" in str(error) and "\n" not in str(error):
            return None
        raise


def filled(abstract: Any) -> Any:
    """The network with random numbers; scales of codes are sound."""
    random = np.random.default_rng(0)

    def fill(leaf: Any) -> Any:
        raw = leaf.get_raw_value()
        if not isinstance(leaf, Quantised):
            values = random.normal(0, 0.3, raw.shape).astype(raw.dtype)
        else:
            notes = leaf.get_metadata()
            values = random.integers(0, 256, raw.shape).astype(np.uint8)
            packed = {"int8": 1, "int4": 2, "ternary": 5}[notes["code"]]
            scales = -(-notes["length"] // packed)
            values[..., scales + 1 :: 2, :] = 0x2C  # a float16 of 1/16 to 1/8
        return type(leaf)(jnp.asarray(values), **leaf.get_metadata())

    return jax.tree.map(fill, abstract, is_leaf=is_variable)


def stem(each: tuple[Any, ...]) -> str:
    return "-".join(map(str, each))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*more than the:smallnets.nn.linear.LargerThanDense")
def test_every_pass_on_every_map_is_loaded_as_it_was_kept(tmp_path: Path):
    kept = {}
    for linear, name in itertools.product(LINEAR, PASSES):
        kind = "encoder" if name == "heads" else "residual"
        mixture = "top_k" if "experts" in name else None
        each = (kind, linear, mixture, "repeated", name)
        abstract = passed(*each)
        assert abstract is not None or linear != "dense", each
        if abstract is not None:
            kept[stem(each)] = model_of(kind, filled(abstract))
    assert len(kept) > 50  # others have nothing to act on, and said so
    check_in_a_new_process(kept, tmp_path)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*more than the:smallnets.nn.linear.LargerThanDense")
def test_every_pair_of_network_map_mixture_stack_and_pass_is_loaded_as_it_was_kept(tmp_path: Path):
    found = {each: passed(*each) for each in pairwise(WHOLE)}
    kept = {
        stem(each): model_of(each[0], filled(abstract))
        for each, abstract in found.items()
        if abstract is not None
    }
    assert len(kept) > 40
    check_in_a_new_process(kept, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("step", [101, pytest.param(1, marks=pytest.mark.long)])
@pytest.mark.filterwarnings("ignore:.*more than the:smallnets.nn.linear.LargerThanDense")
def test_every_pass_on_the_whole_product_is_described_by_its_shapes(step: int):
    for each in WHOLE[::step]:
        abstract = passed(*each)
        if abstract is None:
            continue
        arrays: dict[str, Any] = {}
        said = json.loads(json.dumps(models.described(abstract, "", arrays)))
        assert jax.tree.structure(models.built(said, arrays)) == jax.tree.structure(abstract), each
        answers = jax.eval_shape(lambda model, x: model(x), abstract, example(each[0]))
        assert answers.shape[-1] == 5, each

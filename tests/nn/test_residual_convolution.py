"""The residual convolutional network: written out by hand, counted, and refused in one line."""

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from families import CONF, LINEAR, factory
from flax import nnx
from hydra.utils import instantiate
from layers import call, drawn, normal
from omegaconf import OmegaConf

import smallnets
from smallnets import models
from smallnets.nn import Dense, LowRank, ResidualConvolutionalNetwork
from smallnets.nn.pooling import MeanPool
from smallnets.sweep.build import CHECKED

CONVOLUTIONS = {
    path.stem: instantiate(OmegaConf.load(path), _convert_="all", **CHECKED)
    for path in sorted((CONF / "model" / "convolution").glob("*.yaml"))
}


def build(shape: tuple[int, ...] = (8, 8, 3), **options: Any) -> Any:
    plain = {"width": 8, "depth": 2, "stages": 2, "linear": Dense}
    return partial(ResidualConvolutionalNetwork, shape, 10, **{**plain, **options})


def abstract(*shape: int, **options: Any) -> Any:
    return jax.eval_shape(lambda: build(shape or (8, 8, 3), **options)(rngs=nnx.Rngs(0)))


def count(model: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(model))


def normed(x: np.ndarray, scale: Any) -> np.ndarray:
    return x / np.sqrt(np.square(x).mean(axis=-1, keepdims=True) + 1e-6) * np.asarray(scale)


def test_it_is_the_network_written_out_by_hand():
    """One block a stage, signals, all weights drawn: relu after each norm, carried as it is."""
    model, x = drawn(build((6, 3), depth=1)), normal(2, 6, 3)

    def convolved(layer: Any, x: np.ndarray, index: Any = ...) -> np.ndarray:
        padded = np.pad(x, [(0, 0), (1, 1), (0, 0)])
        windows = np.concatenate([padded[:, i : i + x.shape[1]] for i in range(3)], axis=-1)
        affine = layer.layer
        return windows @ np.asarray(affine.linear.kernel[...])[index] + np.asarray(
            affine.bias[...][index]
        )

    h = convolved(model.stem, np.asarray(x))
    for stage in range(2):
        if stage:
            h = h.reshape(2, -1, 2, 8).max(axis=2)
            widener = model.wideners[0]
            h = h @ np.asarray(widener.linear.kernel[...]) + np.asarray(widener.bias[...])
        block = model.stacks[stage].blocks
        inner = np.maximum(normed(h, block.norm.scale[0]), 0)
        inner = convolved(block.layer.first, inner, 0)
        inner = np.maximum(normed(inner, block.layer.norm.scale[0]), 0)
        h = h + convolved(block.layer.second, inner, 0)
    h = np.maximum(normed(h, model.norm.scale[...]), 0).mean(axis=1)
    expected = h @ np.asarray(model.head.kernel[...])
    np.testing.assert_allclose(call(model, x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.breadth
@pytest.mark.filterwarnings("ignore:.*more than the:smallnets.nn.linear.LargerThanDense")
@pytest.mark.parametrize("convolution", CONVOLUTIONS)
@pytest.mark.parametrize("linear", LINEAR)
def test_every_convolution_takes_every_layer(convolution: str, linear: str):
    options = {"convolution": CONVOLUTIONS[convolution], "linear": factory(linear)}
    for shape in [(8, 8, 3), (10, 1)]:
        model = abstract(*shape, **options)
        assert jax.eval_shape(call, model, jnp.ones((5, *shape))).shape == (5, 10)
        assert jax.eval_shape(call, model, jnp.ones(shape)).shape == (10,)


def test_an_answer_is_its_example_s_alone():
    model, x = drawn(build((6, 3), depth=1, pooling=MeanPool)), normal(4, 6, 3)
    alone = call(model, x[:1])
    np.testing.assert_allclose(call(model, x)[:1], alone, rtol=1e-4, atol=1e-5)


def test_parameters_by_hand():
    """Stem; blocks of two convolutions and two norms; a pointwise layer; norm and head."""

    def convolution(d_in: int, d_out: int) -> int:
        return 9 * d_in * d_out + d_out

    def block(width: int, hidden: int) -> int:
        return convolution(width, hidden) + convolution(hidden, width) + width + hidden

    expected = convolution(3, 8) + 2 * block(8, 8) + 8 * 16 + 16 + 2 * block(16, 16) + 16 + 160
    assert count(abstract()) == expected
    assert count(abstract(unique=1)) == expected - block(8, 8) - block(16, 16)
    wider = 2 * (block(8, 5) + block(16, 10) - block(8, 8) - block(16, 16))
    assert count(abstract(hidden=5)) == expected + wider
    assert count(abstract(features=20)) == expected - 160 + 16 * 20 + 20 + 200
    head = partial(LowRank, rank=2)
    assert count(abstract(head_linear=head)) == expected - 160 + 2 * (16 + 10)


@pytest.mark.slow
def test_a_kept_network_comes_back(tmp_path: Path):
    model = drawn(build((6, 3), depth=1, dropout=0.5, features=20))
    again = smallnets.load(models.save(model, tmp_path / models.NAME))
    x = normal(2, 6, 3)
    np.testing.assert_array_equal(again(x), model(x))
    assert jax.tree.structure(again) == jax.tree.structure(model)


@pytest.mark.parametrize(
    ("shape", "options", "said"),
    [
        ((8,), {}, r"needs examples \[\*positions, channels\]"),
        ((8, 8, 3), {"stages": 5}, "must leave a position, but stages=5"),
        ((8, 8, 3), {"stages": 0}, "stages must be at least 1"),
        ((8, 8, 3), {"size": 2}, "size must be odd"),
        ((8, 8, 3), {"features": 15}, "features=15 for 16: choose 16 or more"),
    ],
)
def test_what_can_not_be_gets_one_line(shape, options, said):
    with pytest.raises(ValueError, match=said) as raised:
        abstract(*shape, **options)
    assert "\n" not in str(raised.value)

"""Parameters in a few bits: packed, counted, decoded where they are used, sealed as trained."""

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from test_passes import answers, drawn, encoder, numbers, residual

from smallnets import models
from smallnets.compress import in_code, quantisation_aware
from smallnets.measure.parameters import parameter_bytes, parameters
from smallnets.nn import Attention, Dense, FeedForward, Mixture, Quantised, Transformer
from smallnets.nn.quantised import KINDS, WholeNumbers, _pack, _unpack, decode, encode
from smallnets.tasks import Preparation
from smallnets.training.fit import Arrays, Fit
from smallnets.training.objective import cross_entropy


@pytest.mark.parametrize("code", KINDS)
def test_every_number_of_a_code_comes_back(code: Any):
    lowest, highest, packed = KINDS[code]
    digits = np.random.default_rng(0).integers(0, highest - lowest + 1, (packed * 300, 4))
    if code == "ternary":  # all 243 bytes
        powers = 3 ** np.arange(5)[::-1]
        digits[:, 0] = (np.arange(300)[:, None] // powers % 3).T.reshape(-1)
    found = _unpack(_pack(jnp.asarray(digits, jnp.uint16), code, packed), code, packed)
    np.testing.assert_array_equal(found, digits)


@pytest.mark.breadth
@pytest.mark.parametrize("code", KINDS)
@pytest.mark.parametrize(("rows", "group"), [(1, 0), (7, 5), (64, 32)])
def test_rounding_is_as_near_as_can_be_and_what_is_rounded_stays(code: Any, rows: int, group: int):
    values = jnp.asarray(np.random.default_rng(0).normal(size=(2, rows, 3)), jnp.float32)
    raw = encode(values, code, group)
    found = decode(raw, code, rows, group)
    error = np.square(found - values).mean()
    if code == "int8":
        assert np.abs(found - values).max() <= 0.502 * np.abs(values).max() / 127
    elif code == "int4":  # no more than by the whole numbers -7 .. 7, in groups of its own
        size = group or rows
        padded = np.zeros((2, -(-rows // size) * size, 3), np.float32)
        padded[:, :rows] = values
        grouped = padded.reshape(2, -1, size, 3)
        step = (np.abs(grouped).max(axis=2, keepdims=True) / 7).astype(np.float16).astype(float)
        plain = np.square(np.round(grouped / step) * step - grouped).sum() / values.size
        assert error <= plain * (1 + 1e-4)
        assert error < 0.9 * plain or rows < 64
    if code != "ternary":
        np.testing.assert_array_equal(decode(encode(found, code, group), code, rows, group), found)
    groups = -(-rows // group) if group else 1
    assert raw.shape == (2, -(-rows // KINDS[code].packed) + 2 * groups, 3)


def decoder() -> Transformer:
    attention = partial(Attention, head_dim=4)
    return drawn(
        lambda: Transformer(
            (6,), 7, width=16, depth=2, linear=Dense, attention=attention, causal=True,
            feed_forward=FeedForward, tied=True, rngs=nnx.Rngs(0),
        )
    )  # fmt: skip


@pytest.mark.slow
def test_tables_and_heads_are_in_the_code_and_routers_are_not():
    coded = in_code(decoder())
    assert isinstance(coded.embedding.table, Quantised)
    assert coded.embedding.table.get_metadata("swapped")  # tied: products sum over its last axis
    assert answers(coded, jnp.zeros((2, 6), jnp.int32)).shape == (2, 6, 7)
    mixture = residual(depth=1, mixture=partial(Mixture, experts=4, top_k=2))
    coded = in_code(mixture)
    assert isinstance(coded.head.kernel, Quantised)
    assert isinstance(coded.stack.blocks.layer.expert.up.kernel, Quantised)
    assert isinstance(coded.stack.blocks.layer.router.score.kernel, nnx.Param)
    assert answers(coded, numbers(5, 8)).shape == (5, 5)


def test_they_are_counted_as_what_they_stand_for_at_the_bytes_they_take():
    model = encoder()
    coded = jax.eval_shape(partial(in_code, code="int4", group=0), model)
    assert parameters(coded) == parameters(model)
    kept = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(coded))
    assert parameter_bytes(coded) == kept < parameter_bytes(model) / 4


@pytest.mark.breadth
@pytest.mark.parametrize("code", KINDS)
def test_the_view_of_training_and_what_is_kept_are_one_model(code: Any):
    model, x = residual(), numbers(9, 8)
    view = partial(quantisation_aware, code=code, group=8, key=None)
    seen, kept = view(model, training=True), view(model, training=False)
    np.testing.assert_array_equal(answers(seen, x), answers(kept, x))
    loss = jax.jit(jax.grad(lambda model: (view(model, training=True)(x) ** 2).sum()))
    assert np.abs(loss(model).stack.blocks.layer.up.kernel[...]).max() > 0


@pytest.mark.slow
def test_training_returns_the_model_sealed():
    x = numbers(64, 8)
    train = Arrays(x, jnp.asarray(np.arange(64) % 5, jnp.int32))
    view = partial(quantisation_aware, code="ternary", group=0)
    fit = Fit(
        optimizer=lambda steps: optax.sgd(0.05), objective=cross_entropy, steps=4, batch_size=16,
        evaluations=2, view=view,
    )  # fmt: skip
    model, curves = fit.run(None, train, {"test": train}, seed=0, start=residual(depth=1))
    assert isinstance(model.stack.blocks.layer.up.kernel, Quantised)
    loss = optax.softmax_cross_entropy_with_integer_labels(answers(model, x), train.labels).mean()
    np.testing.assert_allclose(loss, curves["test_loss"][-1], rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("code", [None, *KINDS])
def test_a_files_bytes_are_known_from_shapes_and_its_model_comes_back(code: Any, tmp_path: Path):
    x = numbers(6, 8)
    network = residual() if code is None else in_code(residual(), code=code, group=8)
    model = models.Model(network, Preparation(dtype="float32"), classes=("ä", "b", "c", "d", "e"))
    notes = {"key": "0" * 16, "family": "residual > quantise"}
    path = models.save(model, tmp_path / "m.safetensors", notes=notes)
    abstract = jax.eval_shape(lambda: model)
    assert models.file_bytes(abstract, notes) == path.stat().st_size
    again = models.load(path)
    assert jax.tree.structure(again) == jax.tree.structure(model)
    np.testing.assert_array_equal(answers(again.network, x), answers(model.network, x))


@pytest.mark.slow
def test_what_is_exported_of_int4_fits_four_bits_of_others():
    kept = in_code(residual(depth=1), group=8).stack.blocks.layer.up.kernel
    whole = WholeNumbers(kept)
    assert whole.numbers[...].min() == -8
    assert whole.numbers[...].max() <= 7
    np.testing.assert_array_equal(whole[...], kept[...])

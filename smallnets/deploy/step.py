"""The cached step of a decoder as a program: one token and the caches in, logits and caches out.

    step(token[1, 1], at, keys, values) -> logits[1, V], keys, values

``at`` is the token's position, and keys and values are those of each call of a block, [calls, 1, W,
key_value_heads, head_dim], zeros at first; W is the window. Where it is full, whoever calls begins
anew with what is to be remembered.
"""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export as jax_export

from smallnets.decoding import decoded, parts, rebuilt, step
from smallnets.deploy import environment, proof
from smallnets.deploy.form import form
from smallnets.deploy.runtime import STEP_INPUTS, STEP_OUTPUTS, SUFFIXES
from smallnets.deploy.stablehlo import PLATFORMS
from smallnets.files import replacing
from smallnets.models import Model
from smallnets.nn import Cache

PROMPT = 8  # tokens of a real input, which greedy decoding goes on from

__all__ = ["STEP_INPUTS", "STEP_OUTPUTS", "exported", "measured", "of", "write"]


def of(model: Model) -> tuple[Callable[..., tuple[jax.Array, ...]], list[jax.ShapeDtypeStruct]]:
    """The step's function, its weights inside, and the shapes of its arguments.

    Raises ValueError, one line, for a model that does not decode with a cache.
    """
    window = model.inputs.window or 0
    outer, blocks = rebuilt(parts(model.network))
    blocks = [form(block) for block in blocks]
    tokens = jax.ShapeDtypeStruct((1, window), jnp.int32)
    _, caches = jax.eval_shape(lambda x: step(outer, blocks, x, None, 0), tokens)
    cache = jax.ShapeDtypeStruct((len(caches), *caches[0].keys.shape), jnp.float32)

    def call(
        tokens: jax.Array, at: jax.Array, keys: jax.Array, values: jax.Array
    ) -> tuple[jax.Array, ...]:
        before = [Cache(keys[call], values[call]) for call in range(len(caches))]
        logits, after = step(outer, blocks, tokens, before, at)
        keys, values = (jnp.stack([each[i] for each in after]) for i in range(2))
        return logits[:, -1], keys, values

    numbers = [jax.ShapeDtypeStruct(shape, jnp.int32) for shape in ((1, 1), ())]
    return call, [*numbers, cache, cache]


def exported(model: Model, platforms: tuple[str, ...] = ("cpu",)) -> jax_export.Exported:
    call, shapes = of(model)
    return jax_export.export(jax.jit(call), platforms=platforms)(*shapes)


def write(model: Model, path: Path) -> None:
    """Write the step as StableHLO, for a CPU, CUDA and TPU."""
    with replacing(path) as draft:
        draft.write_bytes(exported(model, PLATFORMS).serialize())


def measured(program: Path, model: Model, inputs: np.ndarray, *, rounds: int) -> dict[str, Any]:
    """A step's parity and time, as they stand on a card.

    ``parity`` is the largest difference of a logit, at any position of one real input, from the
    network called with all of it; ``same_tokens`` the share of the tokens that greedy decoding of
    our own gives from that input's beginning and the step gives too.
    """
    tokens = inputs[:1].astype(np.int32)
    window = tokens.shape[1]
    _, shapes = of(model)
    expected = np.concatenate(
        list(decoded(model.network, tokens[:, :PROMPT], window - PROMPT, window=window)), axis=1
    )
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "tokens.npy", Path(folder) / "answers.npz"
        np.save(source, tokens)
        words = [program.absolute(), source, out, json.dumps([list(shapes[2].shape), PROMPT])]
        said = environment.run(SUFFIXES[program.suffix], "runtime", [*words, rounds, "--step"])
        with np.load(out, allow_pickle=False) as arrays:
            answers = dict(arrays)
    whole = proof.alone(model, tokens)
    clock = json.loads(said.splitlines()[-1])
    return {
        "parity": {"1": float(np.abs(answers["logits"] - whole[0]).max())},
        "same_tokens": float((answers["tokens"] == expected[0]).mean()),
        "seconds": {"first_answer": clock["first_answer"], "threads": 1, **clock["seconds"]},
    }

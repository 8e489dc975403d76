"""StableHLO by ``jax.export``: one file for any batch, on a CPU, CUDA and TPU.

The file runs wherever JAX is, without smallnets or Flax. It is no archive: JAX promises to read it
for six months, so the model's file is what is kept, and programs are made of it again. Reading one
is for files whose hash is known: JAX does not promise to withstand others.
Source: JAX documentation, Exporting and serializing staged-out computations.
"""

from pathlib import Path
from typing import Any

import jax
from jax import export as jax_export

from smallnets.files import replacing

PLATFORMS = ("cpu", "cuda", "tpu")
MONTHS = 6  # for which JAX promises to read what it wrote


def shape_of(signature: dict[str, Any], batch: int | str) -> jax.ShapeDtypeStruct:
    """The input of a card, ``{"shape": ..., "dtype": ...}``, for a batch; any, if it is a name."""
    (size,) = jax_export.symbolic_shape(batch) if isinstance(batch, str) else (batch,)
    return jax.ShapeDtypeStruct((size, *signature["shape"]), signature["dtype"])


def exported(model: Any, signature: dict[str, Any], batch: int | str) -> jax_export.Exported:
    """The program of a model in the form that is exported, its weights inside."""
    platforms = PLATFORMS if isinstance(batch, str) else ("cpu",)
    program = jax_export.export(jax.jit(lambda x: model(x)), platforms=platforms)
    return program(shape_of(signature, batch))


def write(model: Any, signature: dict[str, Any], path: Path) -> None:
    """Write the program of a form as one file, for a batch of any size."""
    with replacing(path) as draft:
        draft.write_bytes(exported(model, signature, "b").serialize())

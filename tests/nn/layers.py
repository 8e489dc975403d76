"""What the tests of layers and networks build and call, with as little to compile as can be."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from smallnets.nn.parameter import combine, is_variable, partition


def normal(*shape: int, seed: int = 1) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def drawn(factory: Callable[..., Any], seed: int = 0) -> Any:
    """A model whose parameters are all drawn, norms and biases too, so that each one counts.

    By numpy, since compiling how a model draws its own takes longer than most tests. All else, such
    as hyperparameters, is as the model has it at first.
    """

    def parts() -> tuple[Any, Any]:
        return partition(factory(rngs=nnx.Rngs(params=jax.random.key(0))))

    parameters, rest = jax.eval_shape(parts)
    random = np.random.default_rng(seed)

    def draw(parameter: nnx.Param) -> Any:
        scale = 1 / math.sqrt(parameter.get_metadata().get("fan_in", 1))
        return jax.tree.map(
            lambda leaf: jnp.asarray(scale * random.normal(size=leaf.shape), leaf.dtype), parameter
        )

    parameters = jax.tree.map(draw, parameters, is_leaf=is_variable)
    rest = jax.jit(lambda: parts()[1])() if jax.tree.leaves(rest) else rest
    return combine(parameters, rest)


def at(tree: Any, index: int) -> Any:
    """One of the models, or arrays, that lie on a leading axis."""
    return jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)[index]), tree)


def side_by_side(*trees: Any) -> Any:
    """Models, or arrays, on a leading axis."""
    return jax.tree.map(lambda *leaves: jnp.asarray(np.stack(leaves)), *trees)


@jax.jit
def call(model: Any, x: jax.Array) -> jax.Array:
    return model(x)

"""A rule that a layer states for an operation holds wherever the layer is called."""

import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from jax import lax

from smallnets.measure import flops
from smallnets.nn import Dense


def fft_flops(equation) -> int:
    size = max(atom.aval.size for atom in (*equation.invars, *equation.outvars))
    return round(2.5 * size * math.log2(*equation.params["fft_lengths"]))


class Fourier(nnx.Module):
    flop_rules: ClassVar = {"fft": fft_flops}

    def __init__(self, width: int):
        self.scale = nnx.Param(jnp.ones(width))

    def __call__(self, x):
        scaled = x * jnp.broadcast_to(self.scale[...], x.shape)
        return jnp.fft.irfft(jnp.fft.rfft(scaled), n=x.shape[-1])


class Other(Fourier):
    flop_rules: ClassVar = {"fft": lambda equation: 1}


N, ROWS = 16, 8
TRANSFORM = 2.5 * N * math.log2(N)
X = jax.ShapeDtypeStruct((ROWS, N), "float32")


@pytest.mark.parametrize(
    ("call", "transforms"),
    [
        (lambda layer, x: layer(x), 2 * ROWS),
        (lambda layer, x: jax.vmap(layer)(x), 2 * ROWS),
        (lambda layer, x: jax.jit(layer)(x[0]), 2),
        (lambda layer, x: lax.scan(lambda x, _: (layer(x), None), x, length=5)[0], 10 * ROWS),
        (lambda layer, x: lax.map(layer, x), 2 * ROWS),
    ],
    ids=["alone", "vmap", "jit", "scan", "map"],
)
def test_it_holds_under(call, transforms: int):
    assert flops.count(call, Fourier(N), X).products == transforms * TRANSFORM


def test_it_holds_in_gradients_which_transform_as_often():
    step = flops.training_step(lambda layer, x: (layer(x) ** 2).sum(), Fourier(N), X)
    assert step.products == 4 * ROWS * TRANSFORM


def test_another_layer_beside_it_is_counted_as_ever():
    dense = jax.eval_shape(lambda: Dense(N, 3, rngs=nnx.Rngs(0)))
    found = flops.count(lambda layers, x: layers[1](layers[0](x)), [Fourier(N), dense], X)
    assert found.products == 2 * ROWS * TRANSFORM + 2 * ROWS * N * 3


def test_two_rules_for_one_operation_are_refused():
    with pytest.raises(ValueError, match="two layers state their own for 'fft', one of them Other"):
        flops.count(lambda a, b, x: a(b(x)), Fourier(N), Other(N), X)

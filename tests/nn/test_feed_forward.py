"""Feed-forward layers, plain and gated, against their equations."""

from functools import partial

import jax
import numpy as np
import pytest
from flax import nnx
from layers import call, drawn, normal
from scipy.special import erf

from smallnets.measure import flops
from smallnets.measure.parameters import parameters
from smallnets.nn.feed_forward import FeedForward
from smallnets.nn.linear import Dense, LowRank


def gelu(x: np.ndarray) -> np.ndarray:
    return x * (1 + erf(x / np.sqrt(2))) / 2


def silu(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-x))


@pytest.mark.parametrize("gated", [False, True])
def test_it_is_the_equation(gated: bool):
    model, x = drawn(partial(FeedForward, 6, 4, linear=Dense, gated=gated)), normal(5, 6)
    up, down = (np.asarray(each.kernel[...], float) for each in (model.up, model.down))
    hidden = np.asarray(x, float) @ up
    if gated:
        hidden = silu(np.asarray(x, float) @ np.asarray(model.gate.kernel[...], float)) * hidden
    else:
        hidden = gelu(hidden)
    # JAX's GELU is the approximation by tanh, off by 5e-4 at most
    np.testing.assert_allclose(call(model, x), hidden @ down, rtol=1e-3, atol=3e-3)


def test_a_gate_that_is_open_lets_all_through_and_one_that_is_shut_nothing():
    """silu(a) is a for a large a and 0 for a small one."""
    model, x = drawn(partial(FeedForward, 6, 4, linear=Dense, gated=True)), np.eye(6)
    up, down = (np.asarray(each.kernel[...]) for each in (model.up, model.down))
    for gate, opened in ((100.0, 100.0), (-100.0, 0.0)):
        model.gate.kernel[...] = np.full((6, 12), gate, np.float32)
        y = call(model, x.astype(np.float32))
        np.testing.assert_allclose(y, opened * up @ down, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("linear", [Dense, partial(LowRank, rank=2)])
@pytest.mark.parametrize(
    ("options", "hidden"), [({}, 16), ({"expansion": 3}, 24), ({"hidden": 7}, 7)]
)
def test_parameters_and_flops_are_those_of_its_layers(gated, linear, options, hidden):
    def build() -> FeedForward:
        return FeedForward(8, 5, linear=linear, gated=gated, **options, rngs=nnx.Rngs(0))

    def layers() -> list[nnx.Module]:
        into, out = partial(linear, 8, hidden), partial(linear, hidden, 5)
        return [each(rngs=nnx.Rngs(0)) for each in ([into, into, out] if gated else [into, out])]

    def products(model: nnx.Module, width: int) -> float:
        return flops.count(call, model, np.ones((3, width), np.float32)).products

    model, alone = jax.eval_shape(build), jax.eval_shape(layers)
    assert parameters(model).stored == sum(parameters(each).stored for each in alone)
    *into, out = alone
    assert products(model, 8) == sum(products(each, 8) for each in into) + products(out, hidden)


@pytest.mark.parametrize("lead", [(), (3,), (2, 3)])
@pytest.mark.parametrize("gated", [False, True])
def test_shapes_and_no_parameter_is_held_twice(gated: bool, lead: tuple[int, ...]):
    def build_and_call(x: jax.Array) -> jax.Array:
        model = FeedForward(8, 5, linear=Dense, gated=gated, rngs=nnx.Rngs(0))
        assert not list(nnx.find_duplicates(model))
        assert (model.gate is not None) == gated
        return model(x)

    assert jax.eval_shape(build_and_call, normal(*lead, 8)).shape == (*lead, 5)


@pytest.mark.parametrize("gated", [False, True])
def test_variance_at_initialisation_is_below_one_and_not_small(gated: bool):
    """E[gelu(a)^2] = .425 and E[(silu(a) b)^2] = .356 for a, b from N(0, 1)."""
    x = normal(64, 32)

    @jax.jit
    def variance(seeds: jax.Array) -> jax.Array:
        def of(seed: jax.Array) -> jax.Array:
            rngs = nnx.Rngs(params=jax.random.key(seed))
            return FeedForward(32, 32, linear=Dense, gated=gated, rngs=rngs)(x).var()

        return jax.lax.map(of, seeds).mean()

    expected = 0.356 if gated else 0.425
    assert abs(variance(np.arange(50)) - expected) < 0.05


def test_a_hidden_width_of_nothing_gets_one_line():
    with pytest.raises(ValueError, match="one would be 8 x 0") as raised:
        FeedForward(8, 8, linear=Dense, hidden=0, rngs=nnx.Rngs(0))
    assert "\n" not in str(raised.value)

"""Attention: what depends on what, and the kinds that contain each other."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from layers import call, drawn, normal, side_by_side

from smallnets.nn.attention import Attention, rotate
from smallnets.nn.linear import Dense, LowRank
from smallnets.nn.mixture import Mixture
from smallnets.nn.structured import Monarch


def attention(seed: int = 0, **options) -> Attention:
    plain = {"linear": Dense, "head_dim": 4, "causal": True}
    return drawn(partial(Attention, 16, 24, **{**plain, **options}), seed)


def by_hand(model: Attention, x: np.ndarray) -> np.ndarray:
    """The docstring's equation without rotary positions, one sequence, one head at a time."""
    query, key, value, output = (
        np.asarray(each.kernel[...]) for each in (model.query, model.key, model.value, model.output)
    )
    q, k, v = x @ query, x @ key, x @ value
    heads, shared = q.shape[1] // 4, k.shape[1] // 4
    found = []
    for n in range(heads):
        of = n * shared // heads
        scores = q[:, 4 * n : 4 * n + 4] @ k[:, 4 * of : 4 * of + 4].T / 2
        if model.causal:
            scores[np.triu_indices(len(x), 1)] = -np.inf
        weights = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        found.append(weights @ v[:, 4 * of : 4 * of + 4])
    return np.concatenate(found, axis=1) @ output


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("key_value_heads", [None, 2, 1])
def test_it_is_the_equation(causal, key_value_heads):
    model = attention(causal=causal, key_value_heads=key_value_heads, rotary_base=None)
    x = normal(5, 16)
    np.testing.assert_allclose(call(model, x), by_hand(model, np.asarray(x)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("lead", [(), (3,), (2, 3)])
def test_shapes(lead):
    y = jax.eval_shape(attention(), normal(*lead, 5, 16))
    assert y.shape == (*lead, 5, 24)


def test_grouped_heads_are_full_heads_with_the_keys_and_values_repeated():
    grouped, full = attention(key_value_heads=2), attention()
    full.query, full.output = grouped.query, grouped.output
    for name in ("key", "value"):
        shared = np.asarray(getattr(grouped, name).kernel[...]).reshape(16, 2, 1, 4)
        getattr(full, name).kernel[...] = shared.repeat(2, axis=2).reshape(16, 16)
    x = normal(2, 5, 16)
    np.testing.assert_allclose(call(grouped, x), call(full, x), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("causal", [True, False])
def test_an_output_depends_on_what_came_before_and_only_if_not_causal_on_the_rest(causal):
    model = attention(causal=causal)
    gradient = jax.jit(jax.jacobian(lambda x: model(x).sum(axis=-1)))(normal(6, 16))
    touched = np.abs(np.asarray(gradient)).max(axis=-1) > 0  # [t, s]
    expected = np.tril(np.ones((6, 6), bool)) if causal else np.ones((6, 6), bool)
    np.testing.assert_array_equal(touched, expected)


def test_rotated_products_depend_on_positions_by_their_difference_alone():
    @jax.jit
    def everywhere(x: jax.Array) -> jax.Array:
        return rotate(jnp.broadcast_to(x, (10, 1, 8)), base=100.0)[:, 0]

    q, k = np.asarray(normal(2, 8))
    products = np.asarray(everywhere(q)) @ np.asarray(everywhere(k)).T
    for offset in range(-9, 10):
        diagonal = np.diagonal(products, offset)
        np.testing.assert_allclose(diagonal, diagonal[0], rtol=1e-4, atol=1e-5)
    assert products[0].std() > 0.1
    np.testing.assert_allclose(products[0, 0], q @ k, rtol=1e-5)


def test_rotation_pairs_the_halves_of_a_head_as_llama_does():
    x = np.zeros((3, 1, 4), np.float32)
    x[2, 0, 1] = 1.0
    angle = 2 * 10_000.0 ** (-1 / 2)  # position 2, the second of two frequencies
    expected = [0, np.cos(angle), 0, np.sin(angle)]
    y = jax.jit(partial(rotate, base=10_000.0))(x)
    np.testing.assert_allclose(y[2, 0], expected, atol=1e-6)


def test_order_matters_with_rotary_positions_and_not_without():
    x = np.asarray(normal(6, 16))
    for base, same in ((None, True), (10_000.0, False)):
        model = attention(causal=False, rotary_base=base)
        assert np.allclose(call(model, x)[::-1], call(model, x[::-1]), atol=1e-5) == same


@pytest.mark.parametrize(
    "linear",
    [
        partial(LowRank, rank=3),
        partial(Monarch, blocks=4),
        partial(Mixture, expert=Dense, experts=4, top_k=2),
    ],
)
def test_any_layer_projects(linear):
    def build_and_call(x: jax.Array) -> jax.Array:
        model = Attention(
            16, 24, linear=linear, head_dim=4, key_value_heads=2, causal=True, rngs=nnx.Rngs(0)
        )
        assert not list(nnx.find_duplicates(model))
        assert type(model.key) is type(linear(16, 8, rngs=nnx.Rngs(0)))
        return model(x)

    assert jax.eval_shape(build_and_call, normal(2, 5, 16)).shape == (2, 5, 24)


def test_models_side_by_side_equal_each_alone():
    models = [attention(seed, key_value_heads=2) for seed in range(3)]
    x = normal(2, 5, 16)
    together = jax.jit(jax.vmap(lambda model: model(x)))(side_by_side(*models))
    for model, y in zip(models, together, strict=True):
        np.testing.assert_allclose(call(model, x), y, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"head_dim": 5}, "head_dim=5 for a width of 16: choose a width that is a multiple of 5"),
        ({"head_dim": 0}, "head_dim must divide the width"),
        ({"key_value_heads": 3}, r"key_value_heads=3 for 4 heads \(16 / 4\)"),
        ({"key_value_heads": 0}, "key_value_heads must divide the heads"),
        ({"head_dim": 1}, "even head_dim, but head_dim=1"),
    ],
)
def test_shapes_that_do_not_divide_get_one_line(options, said):
    with pytest.raises(ValueError, match=said) as raised:
        attention(**options)
    assert "\n" not in str(raised.value)

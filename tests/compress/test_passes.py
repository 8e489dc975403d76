"""What passes promise, where a closed form says it: losses, captures, what stays as it is."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from smallnets.compress import (
    in_code,
    low_rank,
    merged_experts,
    projected,
    tied,
    watched,
    with_zeros,
    without_experts,
    without_heads,
    without_units,
)
from smallnets.compress.factorise import low_rank_of
from smallnets.compress.prune import eliminated, made_up
from smallnets.compress.watch import Watched
from smallnets.compress.zeros import kept_weights, least_squares
from smallnets.nn import (
    Attention,
    Dense,
    FeedForward,
    Mixture,
    Monarch,
    ResidualNetwork,
    Transformer,
)

MIXTURE = partial(Mixture, experts=4, top_k=2)


def drawn(build: Any, seed: int = 0) -> Any:
    """A model of random numbers, without a program for each of its arrays."""
    random = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: jnp.asarray(random.normal(0, 0.3, leaf.shape).astype(leaf.dtype)),
        jax.eval_shape(build),
    )


def residual(**options: Any) -> ResidualNetwork:
    options = {"width": 16, "depth": 4, "linear": Dense, **options}
    return drawn(lambda: ResidualNetwork((8,), 5, rngs=nnx.Rngs(0), **options))


def encoder() -> Transformer:
    attention = partial(Attention, head_dim=4, key_value_heads=2)
    return drawn(
        lambda: Transformer(
            (6, 2), 5, width=16, depth=2, linear=Dense, attention=attention, causal=False,
            feed_forward=FeedForward, tied=False, rngs=nnx.Rngs(0),
        )
    )  # fmt: skip


def numbers(*shape: int, seed: int = 1) -> jax.Array:
    """Examples whose features hang together, so that some make up for others."""
    random = np.random.default_rng(seed)
    mixed = random.normal(size=(shape[-1], shape[-1])) @ np.diag(0.9 ** np.arange(shape[-1]))
    return jnp.asarray((random.normal(size=shape) @ mixed).astype(np.float32))


@pytest.mark.slow
def test_the_loss_of_weighted_factors_is_the_truncated_spectrum():
    x, layer = numbers(200, 24), drawn(lambda: Dense(24, 20, rngs=nnx.Rngs(0)))
    gram = jnp.einsum("ni,nj->ij", x, x)
    found = low_rank_of(layer, 6, gram)
    exact = np.asarray(x, float) @ np.asarray(layer.matrix(), float)
    loss = np.linalg.norm(exact - np.asarray(x, float) @ np.asarray(found.matrix(), float))
    spectrum = np.linalg.svd(exact, compute_uv=False)
    assert abs(loss - np.linalg.norm(spectrum[6:])) < 1e-5 * np.linalg.norm(spectrum)
    plain = low_rank_of(layer, 6)
    worse = np.linalg.norm(exact - np.asarray(x, float) @ np.asarray(plain.matrix(), float))
    assert worse > loss


def loss_of(x: jax.Array, before: jax.Array, after: jax.Array) -> float:
    return float(np.linalg.norm(np.asarray(x, float) @ np.asarray(before - after, float)))


# Second order in one shot is not always below Wanda: it scores each weight as if all others stayed,
# and where inputs hang together those that would have made up for one another go at once.
@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_compensation_never_costs_and_greedy_is_below_what_is_chosen_at_once(seed: int):
    x = numbers(300, 24, seed=seed)
    weights = jnp.asarray(np.random.default_rng(seed).normal(size=(24, 8)).astype(np.float32))
    gram = jnp.einsum("ni,nj->ij", x, x)
    losses = {}
    for method in ("greedy", "second_order", "wanda", "magnitude"):
        kept = kept_weights(weights, gram, 0.5, None, method)
        assert (kept.sum(axis=0) == 12).all()
        plain, fitted = weights * kept, least_squares(weights, gram, kept)
        assert ((np.asarray(fitted) == 0) >= (np.asarray(kept) == 0)).all()
        losses[method] = loss_of(x, weights, fitted)
        assert losses[method] <= loss_of(x, weights, plain) * (1 + 1e-5)
    assert losses["greedy"] <= min(losses["second_order"], losses["wanda"])

    index = jnp.nonzero(eliminated(weights, gram, 12))[0]
    units = jnp.zeros_like(weights).at[index].set(made_up(weights, gram, index))
    plain = jnp.zeros_like(weights).at[index].set(weights[index])
    assert loss_of(x, weights, units) <= loss_of(x, weights, plain) * (1 + 1e-5)


@pytest.mark.slow
def test_of_every_four_weights_two_go():
    x, model = numbers(100, 8), residual()
    found = passed(partial(with_zeros, share=0.5, every=4, method="greedy"), model, x)
    kernel = np.asarray(found.stack.blocks.layer.up.kernel[...])
    assert ((kernel.reshape(4, -1, 4, kernel.shape[-1]) != 0).sum(axis=2) == 2).all()


@pytest.mark.slow
def test_captured_inputs_are_those_of_an_unrolled_network():
    model, x = residual(unique=2), numbers(70, 8)
    grams: dict[str, Any] = {"up": np.zeros((2, 16, 16)), "down": np.zeros((2, 32, 32))}
    state = np.asarray(model.embed(x))
    for call in range(4):
        block = jax.tree.map(lambda leaf, call=call: leaf[call % 2], model.stack.blocks)
        inside = block.norm(state)
        hidden = jax.nn.gelu(block.layer.up(inside))
        grams["up"][call % 2] += np.asarray(inside).T @ np.asarray(inside)
        grams["down"][call % 2] += np.asarray(hidden).T @ np.asarray(hidden)
        state = block(state)
    layer = jax.jit(watched)(model, x).stack.blocks.layer
    for name, expected in grams.items():
        found = np.asarray(getattr(layer, name).gram[...])
        assert np.abs(found - expected).max() <= 2e-6 * np.abs(expected).max()


@pytest.mark.slow
def test_rows_that_fill_up_an_experts_block_do_not_count():
    model, x = residual(depth=1, mixture=MIXTURE), numbers(33, 8)
    seen = jax.jit(watched)(model, x)
    mixture = seen.stack.blocks.layer
    inside = np.asarray(jax.vmap(lambda block: block.norm(model.embed(x)))(model.stack.blocks))[0]
    assert isinstance(mixture.expert.up, Watched)
    total = np.asarray(mixture.expert.up.gram[...]).sum(axis=(0, 1))
    np.testing.assert_allclose(total, 2 * inside.T @ inside, rtol=1e-4, atol=1e-3)


@jax.jit
def answers(model: Any, x: jax.Array) -> jax.Array:
    return model(x)


def passed(call: Any, model: Any, x: jax.Array) -> Any:
    return jax.jit(call)(model, x)


def loss_of_answers(one: Any, other: Any, x: jax.Array) -> float:
    return float(np.abs(np.asarray(answers(one, x)) - np.asarray(answers(other, x))).mean())


def same(one: Any, other: Any) -> bool:
    leaves = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return jax.tree.structure(one) == jax.tree.structure(other) and all(a is b for a, b in leaves)


def test_a_share_of_one_changes_nothing():
    x = numbers(20, 8)
    for call in (
        partial(low_rank, ratio=1.0),
        partial(without_units, keep=1),
        partial(without_heads, keep=1),
        partial(without_experts, keep=1),
        partial(merged_experts, keep=1),
    ):
        model = residual()
        assert same(call(model, x), model)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["greedy", "wanda"])
def test_units_that_say_nothing_are_removed_without_a_change(method: Any):
    model, x = residual(depth=2), numbers(50, 8)
    layer = model.stack.blocks.layer
    layer.down.kernel = nnx.Param(
        layer.down.kernel[...].at[:, ::2].set(0), **layer.down.kernel.get_metadata()
    )
    found = passed(partial(without_units, keep=0.5, method=method), model, x)
    assert found.stack.blocks.layer.up.kernel.shape == (2, 16, 16)
    np.testing.assert_allclose(answers(found, x), answers(model, x), rtol=2e-4, atol=2e-4)


@pytest.mark.slow
def test_experts_that_no_token_goes_to_are_removed_without_a_change():
    model, x = residual(depth=1, mixture=MIXTURE), numbers(40, 8)
    score, norm = model.stack.blocks.layer.router.score, model.stack.blocks.norm
    # a feature that is always 1 sends every token to the experts 1 and 3
    model.embedding.kernel = nnx.Param(model.embedding.kernel[...].at[:, 0].set(0))
    x = x.at[:, 0].set(1.0)
    model.embedding.kernel = nnx.Param(model.embedding.kernel[...].at[0, 0].set(1.0))
    norm.scale = nnx.Param(jnp.ones_like(norm.scale[...]))
    kernel = jnp.zeros_like(score.kernel[...]).at[0, 0, 1::2].set(5.0)
    score.kernel = nnx.Param(kernel, **score.kernel.get_metadata())
    found = passed(partial(without_experts, keep=0.5), model, x)
    mixture = found.stack.blocks.layer
    assert (mixture.experts, mixture.top_k) == (2, 2)
    assert mixture.expert.up.kernel.get_metadata()["active"] == 1
    np.testing.assert_allclose(answers(found, x), answers(model, x), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_a_monarch_matrix_is_projected_onto_itself():
    layer = drawn(lambda: Monarch(16, 32, blocks=4, rngs=nnx.Rngs(0)))
    model = residual(depth=1)
    up = model.stack.blocks.layer.up
    up.kernel = nnx.Param(layer.matrix()[None], **up.kernel.get_metadata())
    found = projected(model, blocks=4).stack.blocks.layer.up
    assert isinstance(found, Monarch)
    np.testing.assert_allclose(found.matrix()[0], layer.matrix(), atol=1e-5)


@pytest.mark.slow
def test_heads_go_with_the_query_heads_that_read_them():
    model, x = encoder(), jnp.asarray(np.random.default_rng(0).normal(size=(9, 6, 2)), jnp.float32)
    found = passed(partial(without_heads, keep=0.5), model, x)
    attention = found.stack.blocks.attention.layer
    assert attention.query.kernel.shape == (2, 16, 8)
    assert attention.key.kernel.shape == attention.value.kernel.shape == (2, 16, 4)
    assert attention.output.kernel.shape == (2, 8, 16)
    assert answers(found, x).shape == (9, 5)


@pytest.mark.slow
def test_heads_go_by_the_magnitude_of_their_values_too():
    """The first head answers with nothing, though the map behind it would read it the most."""
    model, x = encoder(), jnp.asarray(np.random.default_rng(0).normal(size=(9, 6, 2)), jnp.float32)
    attention = model.stack.blocks.attention.layer
    attention.value.kernel[...] = attention.value.kernel[...].at[..., :4].set(0)
    attention.output.kernel[...] = attention.output.kernel[...].at[:, :8].mul(9)
    kept = partial(without_heads, keep=0.5, method="magnitude", compensate=False)
    found = passed(kept, model, x).stack.blocks.attention.layer
    np.testing.assert_array_equal(found.value.kernel[...], attention.value.kernel[..., 4:])


@pytest.mark.slow
def test_equal_blocks_are_tied_without_a_change_and_differences_bring_back_what_is_lost():
    model, x = residual(depth=4), numbers(60, 8)
    equal = jax.tree.map(lambda leaf: leaf, model)
    equal.stack.blocks = jax.tree.map(
        lambda leaf: jnp.broadcast_to(leaf[:1], leaf.shape), model.stack.blocks
    )
    two = passed(partial(tied, unique=2), equal, x)
    np.testing.assert_allclose(answers(two, x), answers(equal, x), rtol=1e-5, atol=1e-5)
    model.stack.blocks.norm = equal.stack.blocks.norm  # only what is linear is brought back
    lost = {
        rank: loss_of_answers(passed(partial(tied, rank=rank), model, x), model, x)
        for rank in (0, 16)
    }
    assert lost[16] < 1e-2 * lost[0]


@pytest.mark.slow
def test_equal_experts_are_merged_without_a_change():
    model, x = residual(depth=1, mixture=MIXTURE), numbers(40, 8)
    mixture = model.stack.blocks.layer
    order = np.random.default_rng(0).permutation(32)
    up, down = mixture.expert.up.kernel, mixture.expert.down.kernel
    # the same expert four times, its hidden units in another order each second time
    first, last = up[...][:, :1], down[...][:, :1]
    ups = [first if e % 2 else first[..., order] for e in range(4)]
    downs = [last if e % 2 else last[..., order, :] for e in range(4)]
    mixture.expert.up.kernel = nnx.Param(jnp.concatenate(ups, axis=1), **up.get_metadata())
    mixture.expert.down.kernel = nnx.Param(jnp.concatenate(downs, axis=1), **down.get_metadata())
    found = passed(partial(merged_experts, keep=0.5), model, x)
    assert found.stack.blocks.layer.experts == 2
    np.testing.assert_allclose(answers(found, x), answers(model, x), rtol=1e-4, atol=1e-4)


def test_what_is_refused():
    x, model = numbers(10, 8), residual()
    choice: Any = "luck"
    code: Any = "int5"
    for call, said in (
        (partial(low_rank, ratio=0.5, rank=3), "one of ratio and rank"),
        (partial(low_rank, ratio=0.0), "above 0 and up to 1"),
        (partial(low_rank, rank=16), "finds no Linear"),
        (partial(without_units, keep=1.5), "keep must lie"),
        (partial(without_units, keep=0.5, method=choice), "method must be one of"),
        (partial(without_heads, keep=0.5), "finds no Attention"),
        (partial(without_experts, keep=0.5), "finds no Mixture"),
        (partial(projected, blocks=3), "finds no Linear"),
        (partial(with_zeros, share=1.0), "share must lie between"),
        (partial(with_zeros, share=0.1, every=4), "some must go"),
        (partial(tied, unique=3), "unique must divide"),
        (partial(in_code, code=code), "code must be one of"),
        (partial(in_code, group=-1), "group must be"),
    ):
        with pytest.raises(ValueError, match=said) as error:
            jax.eval_shape(call, model, x)
        assert "\n" not in str(error.value)

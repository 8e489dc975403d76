"""Transformers: causal, near chance at first, their parameters held once and counted."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from layers import call, drawn, normal

from smallnets.measure.parameters import parameters
from smallnets.nn.attention import Attention
from smallnets.nn.embedding import Embedding
from smallnets.nn.feed_forward import FeedForward
from smallnets.nn.linear import Dense, LargerThanDense, LowRank
from smallnets.nn.mixture import Mixture
from smallnets.nn.norm import LayerNorm, RMSNorm
from smallnets.nn.residual import PostNormResidual, Residual
from smallnets.nn.sharing import SharedPart
from smallnets.nn.transformer import Transformer
from smallnets.training.objective import label_loss

LENGTH, CLASSES = 12, 50


def built(shape: tuple[int, ...] = (LENGTH,), **options) -> Transformer:
    plain = {
        "width": 16,
        "depth": 2,
        "linear": Dense,
        "attention": partial(Attention, head_dim=4),
        "feed_forward": FeedForward,
        "causal": True,
        "tied": True,
        "rngs": nnx.Rngs(0),
    }
    return Transformer(shape, CLASSES, **{**plain, **options})


def transformer(shape: tuple[int, ...] = (LENGTH,), **options) -> Transformer:
    """The same with every parameter drawn anew."""
    return drawn(partial(built, shape, **options))


def abstract(**options) -> Transformer:
    return jax.eval_shape(lambda: built(**options))


def mixture(**options) -> partial[Mixture]:
    return partial(Mixture, **{"experts": 4, "top_k": 2, **options})


def tokens(*lead: int, seed: int = 1) -> jax.Array:
    draw = np.random.default_rng(seed)
    return jnp.asarray(draw.integers(0, CLASSES, (*lead, LENGTH)), jnp.int32)


def size(model: nnx.Module) -> int:
    return parameters(model).stored


VARIANTS = {
    "plain": {},
    "untied": {"tied": False},
    "factorised": {"embedding_width": 8},
    "learned positions": {"learned_positions": True},
    "gated": {"feed_forward": partial(FeedForward, gated=True)},
    "layer norm": {"norm": LayerNorm},
    "norm behind": {"connection": PostNormResidual},
    "shared": {"unique": 1},
    "shared attention": {"stack": partial(SharedPart, part="attention")},
    "multi-query": {"attention": partial(Attention, head_dim=4, key_value_heads=1)},
    "low-rank": {"linear": partial(LowRank, rank=2)},
    "low-rank attention": {"attention_linear": partial(LowRank, rank=2)},
    "mixture": {"mixture": mixture(capacity_factor=None)},
    "mixture in the projections": {
        "attention_linear": partial(mixture(capacity_factor=None), expert=Dense)
    },
}


@pytest.mark.breadth
@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_every_variant_gives_logits_of_each_position_and_holds_each_parameter_once(options):
    def build_and_call(x: jax.Array) -> jax.Array:
        model = built(**options)
        assert not list(nnx.find_duplicates(model))
        return model(x)

    logits = jax.eval_shape(build_and_call, tokens(3))
    assert (logits.shape, logits.dtype) == ((3, LENGTH, CLASSES), jnp.float32)


@pytest.mark.parametrize("connection", [Residual, PostNormResidual])
@pytest.mark.parametrize("norm", [RMSNorm, LayerNorm])
def test_connection_and_norm_are_those_around_both_parts_of_a_block(connection, norm):
    model = abstract(connection=connection, norm=norm)
    for part in (model.stack.blocks.attention, model.stack.blocks.feed_forward):
        assert type(part) is connection
        assert type(part.norm) is norm
    assert type(model.norm) is norm


@pytest.mark.breadth
@pytest.mark.parametrize("name", ["plain", "shared", "shared attention", "learned positions"])
def test_a_decoder_is_causal(name):
    """By the gradient of one position's logits with respect to what each position embeds to."""
    model = transformer(**VARIANTS[name])
    inner = transformer((LENGTH, 16), **{**VARIANTS[name], "tied": False})
    inner.embedding.kernel[...] = np.eye(
        16, dtype=np.float32
    )  # vectors instead of tokens, to differentiate by

    @jax.jit
    @jax.grad
    def gradient(x: jax.Array) -> jax.Array:
        return (inner(x)[5] ** 2).sum()

    embedded = call(model.embedding, tokens())
    touched = np.abs(np.asarray(gradient(embedded))).max(axis=-1) > 0
    np.testing.assert_array_equal(touched, np.arange(LENGTH) <= 5)


def before_a_change(model: Transformer, at: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits before position ``at``, with the tokens from there on as they are and replaced."""
    one = np.asarray(tokens(8))
    other = np.concatenate([one[:, :at], np.asarray(tokens(8, seed=2))[:, at:]], axis=1)
    first, second = (np.asarray(call(model, each))[:, :at] for each in (one, other))
    return first, second


@pytest.mark.breadth
@pytest.mark.parametrize("capacity_factor", [2, None])
def test_a_mixture_that_drops_nothing_is_causal(capacity_factor):
    one, other = before_a_change(transformer(mixture=mixture(capacity_factor=capacity_factor)), 6)
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_a_mixture_that_drops_first_choices_alone_is_causal_within_a_sequence():
    """The first of the call: a later sequence may lose slots to any token of an earlier one."""
    one, other = before_a_change(transformer(mixture=mixture(top_k=1)), 6)
    np.testing.assert_allclose(one[0], other[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [{"mixture": mixture()}, {"attention_linear": partial(mixture(), expert=Dense)}],
    ids=["mixture", "attention"],
)
def test_a_mixture_that_drops_second_choices_is_refused(options):
    """Later first choices would go before earlier second ones."""
    with pytest.raises(ValueError, match="set capacity_factor to null") as raised:
        abstract(**options)
    assert "\n" not in str(raised.value)


@pytest.mark.breadth
@pytest.mark.parametrize(("name", "above"), [("untied", 1), ("plain", 2), ("mixture", 2)])
def test_the_first_loss_is_near_that_of_chance(name, above):
    """log(classes), and 1/2 from logits of variance 1; a tied decoder expects its own token too."""
    options = {"width": 64, "attention": partial(Attention, head_dim=16), **VARIANTS[name]}
    x, labels = np.asarray(tokens(32)), np.asarray(tokens(32, seed=2))
    logits = np.asarray(jax.jit(lambda x: built(**options)(x))(x))
    loss = float(label_loss(jnp.asarray(logits), jnp.asarray(labels)))
    assert 0 < loss - np.log(CLASSES) < above
    others = logits[np.arange(CLASSES) != x[..., None]]
    assert 0.7 < others.var() < 1.3


def test_a_tied_table_is_counted_once_and_trained_by_both_its_uses():
    assert size(abstract(tied=False)) - size(abstract()) == CLASSES * 16
    model = drawn(partial(Embedding, CLASSES, 16, tied=True))

    @jax.jit
    def gradients(model: Embedding) -> list[jax.Array]:
        def rows(model: Embedding) -> jax.Array:
            return model(jnp.arange(3)).sum()

        def logits(model: Embedding) -> jax.Array:
            return model.logits(jnp.ones((3, 16))).sum()

        return [jax.grad(use)(model).table[...] for use in (rows, logits)]

    rows, logits = map(np.asarray, gradients(model))
    assert (rows[3:] == 0).all()
    assert (rows[:3] != 0).all()
    assert (logits != 0).all()


def test_a_factorised_embedding_has_the_parameters_of_its_factors():
    whole, parted = (
        jax.eval_shape(lambda: Embedding(1000, 64, factor=e, tied=False, rngs=nnx.Rngs(0)))  # noqa: B023
        for e in (None, 8)
    )
    assert (size(whole), size(parted)) == (64_000, 1000 * 8 + 8 * 64)
    assert jax.eval_shape(call, parted, jnp.arange(5)).shape == (5, 64)


@pytest.mark.parametrize("tied", [True, False])
def test_a_factorised_embedding_is_the_product_of_its_factors(tied):
    model = drawn(partial(Embedding, CLASSES, 16, factor=4, tied=tied))
    table, up = np.asarray(model.table[...]), np.asarray(model.up.kernel[...])
    expected = (2 if tied else 1) * table[tokens()] @ up  # sqrt(4)
    np.testing.assert_allclose(call(model, tokens()), expected, rtol=1e-5, atol=1e-6)
    if tied:
        x = np.asarray(normal(5, 16))
        logits = jax.jit(lambda model: model.logits(x))(model)
        expected = x @ np.asarray(model.down.kernel[...]) @ table.T
        np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)


def test_a_factorised_embedding_larger_than_a_plain_one_warns_in_one_line():
    with pytest.warns(LargerThanDense, match=r"embedding_width=15 .* from 1 to 12$") as caught:
        abstract(embedding_width=15)
    assert "\n" not in str(caught[0].message)


@pytest.mark.parametrize("part", ["attention", "feed_forward"])
def test_one_part_may_be_shared_and_equals_blocks_that_hold_copies_of_it(part):
    model = transformer(stack=partial(SharedPart, part=part), depth=3)
    whole = transformer(depth=3)
    other = "feed_forward" if part == "attention" else "attention"
    shared = jax.tree.map(lambda leaf: np.stack([leaf] * 3), model.stack.shared)
    setattr(whole.stack.blocks, part, shared)
    setattr(whole.stack.blocks, other, getattr(model.stack.blocks, other))
    whole.embedding, whole.norm = model.embedding, model.norm
    np.testing.assert_allclose(call(model, tokens()), call(whole, tokens()), rtol=1e-4, atol=1e-4)
    block = size(abstract(depth=1).stack)
    assert size(model.stack) == 3 * block - 2 * size(model.stack.shared)


def test_sharing_a_part_refuses_what_it_can_not_share():
    with pytest.raises(ValueError, match="choose one of attention, feed_forward"):
        abstract(stack=partial(SharedPart, part="norm"))
    with pytest.raises(ValueError, match="unique=1 for depth=2 shares whole blocks"):
        abstract(stack=partial(SharedPart, part="attention"), unique=1)
    with pytest.raises(ValueError, match="set relaxation to 0"):
        abstract(stack=partial(SharedPart, part="attention"), relaxation=2)
    with pytest.raises(ValueError, match="depth must be at least 1"):
        abstract(stack=partial(SharedPart, part="attention"), depth=0)


@pytest.mark.parametrize("shape", [(9, 1), (7, 5, 2)])
def test_an_encoder_classifies_sequences_of_vectors_whatever_the_leading_axes(shape):
    model = abstract(shape=shape, causal=False, tied=False)
    assert jax.eval_shape(call, model, jnp.ones((4, *shape))).shape == (4, CLASSES)
    assert jax.eval_shape(call, model, jnp.ones(shape)).shape == (CLASSES,)


def test_an_encoder_of_tokens_reads_both_ways_and_may_have_a_vocabulary_of_its_own():
    model = transformer(causal=False, tied=False, vocabulary=90)
    assert model.embedding.table.shape == (90, 16)
    gradient = jax.jit(jax.grad(lambda x: (model.stack(x)[0] ** 2).sum()))
    touched = np.abs(np.asarray(gradient(normal(LENGTH, 16)))).max(axis=-1) > 0
    assert touched.all()
    assert jax.eval_shape(call, model, tokens(3)).shape == (3, CLASSES)


@pytest.mark.parametrize(
    ("shape", "options", "said"),
    [
        ((9, 1), {}, "a tied embedding .* inputs are vectors"),
        ((9,), {"causal": False}, "a tied embedding .* causal=False"),
        ((9,), {"vocabulary": 60}, "a tied embedding .* vocabulary=60 for 50 classes"),
        ((9, 1), {"tied": False, "embedding_width": 4}, "a table of tokens needs tokens"),
        ((9,), {"embedding_width": 0}, "one would be 50 x 0"),
        ((9,), {"tied": False, "vocabulary": 0}, "one would be 0 x 16"),
        ((9,), {"hidden": 0}, "one would be 16 x 0"),
    ],
)
def test_options_that_act_on_nothing_get_one_line(shape, options, said):
    with pytest.raises(ValueError, match=said):
        abstract(shape=shape, **options)


def test_vectors_where_tokens_are_needed_get_one_line():
    with pytest.raises(ValueError, match="must be tokens, but are float32"):
        jax.eval_shape(call, abstract(), jnp.ones((3, LENGTH)))

"""Text from a kept decoder: with the cache as without it, token for token."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from command import TINY, folders
from command import smallnets as command
from flax import nnx
from layers import drawn

import smallnets
from smallnets import models, rows
from smallnets.decoding import decoded, parts, speculate, speculated, speculation
from smallnets.decoding.cached import tempered
from smallnets.decoding.speculation import accepted, residual
from smallnets.models import Model
from smallnets.nn import (
    Attention,
    BiasBalanced,
    Dense,
    ExpertChoice,
    FeedForward,
    LowRank,
    Mixture,
    Monarch,
    PostNormResidual,
    Residual,
    SharedPart,
    SoftMixture,
    Stack,
    Transformer,
    training,
)
from smallnets.tasks import Preparation

WINDOW, TOKENS = 12, 20
FAMILIES = {
    "dense": {},
    "low-rank": {"linear": partial(LowRank, rank=4)},
    "Monarch": {"linear": partial(Monarch, blocks=4)},
    "shared": {"depth": 4, "unique": 2},
    "shared in a row": {"depth": 4, "unique": 2, "stack": partial(Stack, order="consecutive")},
    "relaxed": {"depth": 4, "unique": 2, "relaxation": 2},
    "shared attention": {"stack": partial(SharedPart, part="attention")},
    "shared feed-forward": {"stack": partial(SharedPart, part="feed_forward")},
    "dropless": {"mixture": partial(Mixture, experts=4, top_k=2, capacity_factor=None)},
    "capacity": {"mixture": partial(Mixture, experts=4, top_k=1, capacity_factor=1.25)},
    "shared experts": {
        "mixture": partial(Mixture, experts=4, top_k=2, shared=1, capacity_factor=None)
    },
    "bias-balanced": {
        "mixture": partial(Mixture, experts=4, top_k=2, router=BiasBalanced, capacity_factor=None)
    },
    "mixture in the projections": {
        "attention_linear": partial(Mixture, expert=Dense, experts=4, top_k=2, capacity_factor=None)
    },
    "multi-query": {"attention": partial(Attention, head_dim=4, key_value_heads=1)},
    "grouped": {"attention": partial(Attention, head_dim=4, key_value_heads=2)},
    "learned positions": {
        "learned_positions": True,
        "attention": partial(Attention, head_dim=4, rotary_base=None),
    },
    "norm behind": {"connection": PostNormResidual},
    "dropout": {"dropout": 0.5},
    "untied, gated": {"tied": False, "feed_forward": partial(FeedForward, gated=True)},
    "factorised": {"embedding_width": 8},
}


def network(classes: int = TOKENS, **options) -> Transformer:
    plain = {
        "width": 16,
        "depth": 2,
        "linear": Dense,
        "attention": partial(Attention, head_dim=4),
        "feed_forward": FeedForward,
        "causal": True,
        "tied": True,
    }
    return drawn(partial(Transformer, (WINDOW,), classes, **{**plain, **options}))


def recomputed(model: Transformer, prompt: np.ndarray, count: int) -> np.ndarray:
    """The likeliest tokens by calling the network anew for each, over the same windows."""
    call = jax.jit(lambda tokens: model(tokens))
    tokens, start = prompt, 0
    for _ in range(count):
        if tokens.shape[1] - start > WINDOW:
            start = tokens.shape[1] - WINDOW // 2
        seen = tokens[:, start:]
        room = np.pad(seen, ((0, 0), (0, WINDOW - seen.shape[1])))
        likeliest = np.asarray(call(room))[:, seen.shape[1] - 1].argmax(axis=-1)
        tokens = np.concatenate([tokens, likeliest[:, None].astype(np.int32)], axis=1)
    return tokens[:, prompt.shape[1] :]


@pytest.mark.parametrize(
    "family",
    [
        "dense",
        *(pytest.param(each, marks=pytest.mark.slow) for each in FAMILIES if each != "dense"),
    ],
)
@pytest.mark.parametrize("piece", [None, 1])
def test_with_the_cache_each_token_is_the_one_of_a_call_without_it(family: str, piece: int | None):
    """Past the end of the window twice, for two prompts side by side."""
    model = network(**FAMILIES[family])
    prompt = np.asarray([[3, 1, 4, 1], [2, 7, 1, 8]], np.int32)
    pieces = list(decoded(model, prompt, 20, window=WINDOW, piece=piece))
    assert all(each.shape[1] <= (piece or 20) for each in pieces)
    found = np.concatenate(pieces, axis=1)
    assert len(np.unique(found)) > 1
    np.testing.assert_array_equal(found, recomputed(model, prompt, 20))


def said_by(run, prompt: str, capsys) -> str:
    capsys.readouterr()
    command("generate", run, prompt, "--tokens", 25, "--temperature", 0.8, "--top-p", 0.9)
    return capsys.readouterr().out


def test_a_command_goes_on_from_a_prompt_and_python_says_the_same(tmp_path, capsys):
    characters = "".join(map(chr, range(97, 97 + TOKENS - 1)))
    inputs = Preparation(dtype="int32", tokenizer=f"characters {characters}", window=WINDOW)
    models.save(Model(network(), inputs), tmp_path / "model.safetensors")
    said = said_by(tmp_path, "abc", capsys)
    options = {"tokens": 25, "temperature": 0.8, "top_p": 0.9}
    model = smallnets.load(tmp_path)
    assert len(said) == 3 + 25 + 1
    assert said == f"abc{smallnets.generate(model, 'abc', **options)}\n"
    assert said == f"abc{''.join(smallnets.stream(model, 'abc', **options))}\n"
    assert said != f"abc{smallnets.generate(model, 'abc', **options, seed=1)}\n"


@pytest.mark.slow  # trains a decoder
def test_a_run_of_text_goes_on_from_a_prompt(cache, tmp_path, capsys):
    book = tmp_path / "book.txt"
    book.write_text("".join(f"line {i} of a bóok\n" for i in range(400)))
    words = ["task=text", f"task.source={book}", "task.length=8", "model=transformer"]
    words += ["model.width=8", "model.depth=1", *TINY]
    command(*words, *folders(cache, tmp_path / "out"))
    (row,) = rows.load(tmp_path / "out")
    said = said_by(tmp_path / "out" / row.key, "bóo", capsys)
    assert said.startswith("bóo")
    assert len(said) > 10


@pytest.mark.parametrize("tokenizer", ["bytes", "characters é\U0001f600", "learned"])
def test_a_token_is_spelled_as_it_was_read(tokenizer: str):
    text = "\U0001f600éé\U0001f600"
    if tokenizer == "learned":
        tokenizers = pytest.importorskip("tokenizers")
        del tokenizers
        from smallnets.tasks.text import _train

        tokenizer = _train([text * 9, "any other text, \n and more of it" * 9], 262).to_str()
    inputs = Preparation(dtype="int32", tokenizer=tokenizer, window=99)
    spelling = inputs.spelling()
    assert b"".join(spelling[token] for token in inputs.tokens(text)).decode() == text


@pytest.mark.slow
def test_what_is_drawn_has_the_model_s_distribution_at_any_temperature():
    model = network(4)
    prompt = np.tile(np.asarray([[3, 1, 2]], np.int32), (4000, 1))
    (drawn,) = decoded(model, prompt, 1, window=WINDOW, temperature=2.0)
    logits = np.asarray(model(jnp.asarray(prompt[:1])))[0, -1]
    expected = np.exp(logits / 2) / np.exp(logits / 2).sum()
    found = np.bincount(drawn[:, 0], minlength=4) / 4000
    assert (np.abs(found - expected) < 4 * np.sqrt(expected * (1 - expected) / 4000)).all()


def test_a_nucleus_is_the_smallest_set_of_likeliest_tokens_with_the_probability():
    logits = jnp.log(jnp.asarray([[0.1, 0.4, 0.2, 0.3], [0.97, 0.01, 0.01, 0.01]]))
    for top_p, kept in ((0.39, "0100"), (0.41, "0101"), (0.75, "0111"), (0.95, "1111")):
        found = np.isfinite(np.asarray(tempered(logits, 1.0, top_p)))
        assert "".join(map(str, found[0].astype(int))) == kept
        assert found[1].sum() == 1


class Around(nnx.Module):
    """A connection of one's own that can't decode."""

    def __init__(self, d: int, *, layer, norm, rngs: nnx.Rngs):
        self.inner = Residual(d, layer=layer, norm=norm, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.inner(x)


def unchecked(router: type) -> Transformer:
    """A decoder made, by a pass say, of an encoder whose experts mix what they see."""
    mixture = partial(SoftMixture, experts=4)
    if router is ExpertChoice:
        mixture = partial(Mixture, experts=4, top_k=2, router=ExpertChoice, capacity_factor=1)
    model = network(causal=False, tied=False, mixture=mixture)
    model.causal = True
    return model


def dropping() -> Transformer:
    return training(network(**FAMILIES["capacity"]), jax.random.key(0))


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: network(causal=False, tied=False), "Transformer that is not causal: train one"),
        (lambda: network(tied=False, vocabulary=9), "reads 9 tokens and answers with 20 classes"),
        (lambda: unchecked(ExpertChoice), "ExpertChoice mixes or drops"),
        (lambda: unchecked(SoftMixture), "SoftMixture mixes or drops"),
        (dropping, "Mixture mixes or drops"),
        (lambda: network(connection=Around), "Around has no method decode"),
        (lambda: Dense(3, 4, rngs=nnx.Rngs(0)), "but this network is Dense"),
    ],
)
def test_what_can_not_decode_is_refused_in_one_line(build, said: str):
    with pytest.raises(ValueError, match=said) as raised:
        decoded(build(), np.zeros((1, 3), np.int32), 2, window=WINDOW)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"prompt": ""}, "reads 1 to 12 tokens at once"),
        ({"prompt": "thirteen long"}, "reads 1 to 12 tokens at once"),
        ({"tokens": 0}, "tokens must be at least 1"),
        ({"temperature": -1.0}, "temperature must be 0 or above"),
        ({"temperature": float("nan")}, "temperature must be 0 or above"),
        ({"top_p": 0.0}, "top_p must lie in"),
    ],
)
def test_numbers_that_mean_nothing_get_one_line(options: dict, said: str):
    inputs = Preparation(dtype="int32", tokenizer="bytes", window=WINDOW)
    with pytest.raises(ValueError, match=said):
        smallnets.stream(Model(network(), inputs), **{"prompt": "a", **options})
    with pytest.raises(ValueError, match="reads arrays"):
        smallnets.generate(Model(network(), Preparation()), "a")


SMALL = {"depth": 1, "width": 8}


def law(model: Transformer, prompt: np.ndarray, count: int, temperature: float) -> np.ndarray:
    """The probability of each continuation, [V] * count, by calling the network on all of them."""
    classes = 3
    ways = np.stack(np.meshgrid(*[np.arange(classes)] * count, indexing="ij"), axis=-1)
    ways = ways.reshape(-1, count).astype(np.int32)
    tokens = np.concatenate([np.tile(prompt, (len(ways), 1)), ways], axis=1)
    logits = np.asarray(model(jnp.asarray(tokens)))[:, prompt.shape[1] - 1 : -1] / temperature
    logs = np.asarray(jax.nn.log_softmax(logits))
    own = np.take_along_axis(logs, ways[..., None], axis=2)[..., 0]
    return np.exp(own.sum(axis=1))


def test_a_draft_and_its_verifier_write_with_the_verifier_s_distribution_exactly():
    """P(x) = sum over drafts d of q(d) [stands and d = x, or does not and the residual gives x]."""
    draw = np.random.default_rng(3)
    for zeros in (0, 2):
        p, q = draw.dirichlet(np.ones(5), size=2).astype(np.float32)
        p[:zeros], q[1 : 1 + zeros] = 0, 0
        p, q = p / p.sum(), q / q.sum()
        stands = np.minimum(1, p / np.where(q > 0, q, 1))
        refused = (q * (1 - stands)).sum()
        found = q * stands + refused * np.asarray(residual(jnp.asarray(p), jnp.asarray(q)))
        np.testing.assert_allclose(found, p, atol=1e-6)
        for d in np.flatnonzero(q):  # a draft stands for just this share of the uniform numbers
            for near, kept in ((stands[d] - 1e-4, 1), (stands[d] + 1e-4, 0)):
                if 0 <= near < 1:
                    count = accepted(
                        jnp.asarray(p[None]), jnp.asarray(q[None]), jnp.asarray([d]),
                        jnp.asarray([near]),
                    )  # fmt: skip
                    assert count == kept


def test_where_a_draft_falls_those_behind_it_fall():
    p, q = jnp.asarray([[0.5, 0.5]] * 3), jnp.asarray([[0.5, 0.5], [0.01, 0.99], [0.5, 0.5]])
    assert accepted(p, q, jnp.asarray([0, 1, 0]), jnp.asarray([0.9, 0.9, 0.1])) == 1
    assert accepted(p, q, jnp.asarray([0, 0, 0]), jnp.asarray([0.9, 0.9, 0.1])) == 3


@pytest.mark.slow
def test_speculation_has_the_law_of_the_large_one_over_several_tokens():
    small, large = network(3, **SMALL), network(3, depth=1, width=12)
    prompt, draws, temperature = np.asarray([[1, 2]], np.int32), 20_000, jnp.float32(1.5)
    expected = law(large, prompt, 3, 1.5)
    assert np.abs(expected - law(small, prompt, 3, 1.5)).max() > 0.03
    trees, arrays = zip(*map(parts, (small, large)), strict=True)
    room = jnp.asarray(np.pad(prompt, ((0, 0), (0, WINDOW + 1))))

    def written(key: jax.Array) -> jax.Array:
        state = speculation.begin(trees, arrays, room, jnp.int32(2), key, drafts=2)
        state = speculation.advance(
            trees, arrays, state, jnp.int32(5), temperature, None, drafts=2
        )  # fmt: skip
        return state.tokens[0, 2:5]

    tokens = jax.jit(jax.vmap(written))(jax.random.split(jax.random.key(0), draws))
    found = np.bincount(np.asarray(tokens) @ [9, 3, 1], minlength=27) / draws
    assert (np.abs(found - expected) < 4.5 * np.sqrt(expected * (1 - expected) / draws)).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [{}, FAMILIES["learned positions"]], ids=["rotary", "learned positions"]
)
def test_the_likeliest_tokens_are_those_of_the_large_one_alone_past_the_window(options):
    large, prompt = network(**options), np.asarray([[3, 1, 4]], np.int32)
    (alone,) = (np.concatenate([*decoded(large, prompt, 30, window=WINDOW)], axis=1),)
    for small, rounds in ((network(**SMALL), 31), (large, 12)):
        found = speculated(small, large, prompt, 30, window=WINDOW, drafts=3)
        np.testing.assert_array_equal(found.tokens, alone)
        assert found.rounds < rounds  # the large one drafting for itself is never refused


def test_what_can_not_draft_is_refused_in_one_line():
    prompt = np.zeros((1, 3), np.int32)
    with pytest.raises(ValueError, match="they have 20 and 9"):
        speculated(network(), network(9), prompt, 2, window=WINDOW)
    with pytest.raises(ValueError, match="from one prompt by 1 draft or more"):
        speculated(network(), network(), prompt, 2, window=WINDOW, drafts=0)
    inputs = [Preparation(dtype="int32", tokenizer=each) for each in ("bytes", "characters ab")]
    with pytest.raises(ValueError, match="their tokenizers differ"):
        speculate(Model(network(), inputs[0]), Model(network(), inputs[1]), "a")

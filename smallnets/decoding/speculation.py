"""Speculative decoding: a small decoder drafts, a large one verifies, and the text is the large's.

What is written has the distribution of the large one alone, whatever the small one is; the small
one only says how many tokens one reading by the large one gives.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from smallnets.decoding.cached import Parts, check_numbers, parts, rebuilt, step, tempered
from smallnets.models import Model
from smallnets.nn import Cache

# axes: W positions of the window, g drafted tokens, V tokens of the vocabulary


class Draft(NamedTuple):
    """What was written so far, and the caches of both; room for g tokens beyond the window."""

    tokens: jax.Array  # [1, W + g + 1]
    length: jax.Array  # how many of them are known, the last of which neither has read
    small: list[Cache]
    large: list[Cache]
    key: jax.Array
    rounds: jax.Array  # how often the large one read


class Speculated(NamedTuple):
    """Tokens [1, n] that were written, and how often the large one read for them."""

    tokens: np.ndarray
    rounds: int


def residual(p: jax.Array, q: jax.Array) -> jax.Array:
    """What is drawn where a draft is refused: max(p - q, 0), scaled to the sum 1; [..., V].

    p itself where nothing is left, as for p = q, whose drafts are refused by rounding alone.
    """
    left = jnp.maximum(p - q, 0)
    total = left.sum(axis=-1, keepdims=True)
    return jnp.where(total > 0, left / jnp.where(total > 0, total, 1), p)


def accepted(p: jax.Array, q: jax.Array, drafts: jax.Array, uniform: jax.Array) -> jax.Array:
    """How many of drafts[g] stand: those before the first with uniform >= p(draft) / q(draft).

    p[g, V] are the large one's probabilities at the drafts' places, q[g, V] those that the drafts
    were drawn with, uniform[g] numbers from [0, 1).

    Source: Leviathan et al. 2022, arXiv:2211.17192, algorithm 1; Chen et al. 2023,
    arXiv:2302.01318.
    """
    own = drafts[:, None]
    ratio = jnp.take_along_axis(p, own, axis=1) / jnp.take_along_axis(q, own, axis=1)
    return jnp.cumprod(uniform < ratio[:, 0]).sum()


def probabilities(logits: jax.Array, temperature: Any, top_p: Any) -> jax.Array:
    """Those of tokens to draw; 1 of the likeliest where ``temperature`` is None."""
    if temperature is None:
        return jax.nn.one_hot(logits.argmax(axis=-1), logits.shape[-1])
    return jax.nn.softmax(tempered(logits, temperature, top_p))


@functools.partial(jax.jit, static_argnames=("trees", "drafts"))
def begin(
    trees: tuple[Any, Any],
    arrays: tuple[Any, Any],
    tokens: jax.Array,
    length: jax.Array,
    key: jax.Array,
    *,
    drafts: int,
) -> Draft:
    """Both read the first ``length`` of tokens[1, W + g + 1]."""

    def read(tree: Any, arrays: Any) -> list[Cache]:
        _, caches = step(*rebuilt(Parts(tree, arrays)), tokens[:, : -drafts - 1], None, 0)
        room = ((0, 0), (0, drafts), (0, 0), (0, 0))
        return jax.tree.map(lambda leaf: jnp.pad(leaf, room), caches)

    small, large = map(read, trees, arrays)
    return Draft(tokens, length, small, large, key, jnp.int32(0))


@functools.partial(jax.jit, static_argnames=("trees", "drafts"), donate_argnames="state")
def advance(
    trees: tuple[Any, Any],
    arrays: tuple[Any, Any],
    state: Draft,
    end: jax.Array,
    temperature: jax.Array | None,
    top_p: jax.Array | None,
    *,
    drafts: int,
) -> Draft:
    """Write until ``end`` tokens or some more are known: each round 1 to g + 1 of them."""
    small, large = (rebuilt(Parts(*each)) for each in zip(trees, arrays, strict=True))

    def draft(carry: Any, key: jax.Array) -> Any:
        token, at, caches = carry
        logits, caches = step(*small, token[None, None], caches, at)
        q = probabilities(logits[0, 0], temperature, top_p)
        token = jax.random.categorical(key, jnp.log(q)).astype(jnp.int32)
        return (token, at + 1, caches), (token, q)

    def one(state: Draft) -> Draft:
        at = state.length - 1
        key, *draws = jax.random.split(state.key, drafts + 4)
        last = jax.lax.dynamic_index_in_dim(state.tokens[0], at, keepdims=False)
        # once more than is used: the small one reads its last draft too, which may stand
        carry, (drafted, q) = jax.lax.scan(
            draft, (last, at, state.small), jnp.stack(draws[: drafts + 1])
        )
        drafted, q = drafted[:-1], q.at[-1].set(0)
        logits, read = step(*large, jnp.append(last, drafted)[None], state.large, at)
        p = probabilities(logits[0], temperature, top_p)
        uniform = jax.random.uniform(draws[-2], (drafts,))
        stand = accepted(p[:-1], q[:-1], drafted, uniform)
        own = jax.random.categorical(draws[-1], jnp.log(residual(p[stand], q[stand])))
        places = jnp.arange(drafts + 1)
        written = jnp.where(places < stand, jnp.append(drafted, 0), own.astype(jnp.int32))
        tokens = jax.lax.dynamic_update_slice(state.tokens, written[None], (0, state.length))
        length = state.length + stand.astype(jnp.int32) + 1
        return Draft(tokens, length, carry[2], read, key, state.rounds + 1)

    return jax.lax.while_loop(lambda state: state.length < end, one, state)


def speculated(
    small: Any,
    large: Any,
    prompt: np.ndarray,
    count: int,
    *,
    window: int,
    drafts: int = 4,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
) -> Speculated:
    """``count`` tokens after prompt[1, n] as the network ``large`` writes them, by fewer readings.

    For ``temperature`` 0 they are those of :func:`smallnets.decoding.decoded` by ``large`` alone,
    to rounding; else they have the same distribution, but other draws. The window is met in the
    same way. Each round the network ``small`` drafts ``drafts`` tokens and ``large`` reads them at
    once.

    Raises ValueError, one line, as ``decoded`` for either network, for networks of different
    vocabularies, for more than one prompt, and for fewer than 1 draft.
    """
    prompt = np.asarray(prompt, np.int32)
    check_numbers(prompt, count, window, temperature, top_p)
    if len(prompt) != 1 or drafts < 1:
        raise ValueError(
            "speculation goes on from one prompt by 1 draft or more, but got "
            f"{len(prompt)} and drafts={drafts}: give tokens [1, n]"
        )
    trees, arrays = zip(*map(parts, (small, large)), strict=True)
    rows = [network.embedding.table.shape[-2] for network in (small, large)]
    if rows[0] != rows[1]:
        raise ValueError(
            f"the one that drafts must write the tokens that the other reads, but they have "
            f"{rows[0]} and {rows[1]}: name runs of one tokenizer"
        )
    drawn = (
        jnp.float32(temperature) if temperature else None,
        jnp.float32(top_p) if temperature and top_p < 1 else None,
    )
    tokens, key, rounds, wanted = prompt, jax.random.key(seed), 0, prompt.shape[1] + count
    start = 0  # of the window in all tokens
    while tokens.shape[1] < wanted:
        if tokens.shape[1] - start > window:
            start = tokens.shape[1] - max(1, window // 2)
        seen = tokens[:, start:]
        room = np.pad(seen, ((0, 0), (0, window + drafts + 1 - seen.shape[1])))
        state = begin(trees, arrays, room, jnp.int32(seen.shape[1]), key, drafts=drafts)
        end = min(window + 1, wanted - start)
        state = advance(trees, arrays, state, jnp.int32(end), *drawn, drafts=drafts)
        tokens = np.concatenate([tokens[:, :start], np.asarray(state.tokens)[:, :end]], axis=1)
        key, rounds = state.key, rounds + int(state.rounds)
    return Speculated(tokens[:, prompt.shape[1] :], rounds)


def speculate(
    small: Model,
    large: Model,
    prompt: str,
    *,
    tokens: int = 200,
    drafts: int = 4,
    temperature: float = 1.0,
    top_p: float = 1.0,
    seed: int = 0,
) -> str:
    """The text with which the kept model ``large`` goes on from ``prompt``, drafted by ``small``.

    See :func:`speculated`. Raises ValueError for models of different tokenizers.
    """
    if small.inputs.tokenizer != large.inputs.tokenizer:
        raise ValueError(
            "the one that drafts must write the tokens that the other reads, but their tokenizers "
            "differ: name runs of one task"
        )
    spelling, read = large.inputs.spelling(), large.inputs.tokens(prompt)
    windows = [each.inputs.window or len(read) + tokens for each in (small, large)]
    found = speculated(
        small.network,
        large.network,
        read[None],
        tokens,
        window=min(windows),
        drafts=drafts,
        temperature=temperature,
        top_p=top_p,
        seed=seed,
    )
    return b"".join(spelling[token] for token in found.tokens[0]).decode(errors="replace")

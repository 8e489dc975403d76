"""Cached decoding: a decoder goes on from a prompt, and reads each position once.

Each call of a block keeps its keys, rotated, and its values (:class:`smallnets.nn.Cache`), a shared
block one cache a call. One program reads a prompt of any length, another one decodes as many tokens
as it is asked for, so that text is streamed, or made at once, by the same two.
"""

import codecs
import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from smallnets.models import Model
from smallnets.nn import Cache, ExpertChoice, Mixture, SoftMixture

# axes: B sequences, W positions of the window, V tokens of the vocabulary


class Read(NamedTuple):
    """What was read and written so far."""

    tokens: jax.Array  # [B, W + 1]
    length: jax.Array  # how many of them are known, the last of which is not read yet
    caches: list[Cache]  # of each call of a block, [B, W, key_value_heads, head_dim]
    key: jax.Array


class Parts(NamedTuple):
    """A network in the form in which it decodes: its blocks in a list, its arrays in another one.

    Arrays that calls share are one; a call of a program with a list of arrays costs a tenth of one
    with a module.
    """

    tree: Any
    arrays: list[jax.Array]


def parts(network: Any) -> Parts:
    """``network`` in the form in which it decodes.

    Raises ValueError, one line, for what is no decoder of tokens and for layers whose answers at a
    position depend on later ones, or that have no ``decode``.
    """
    _check(network)
    on_host = jax.tree.map(np.asarray, network)
    outer, blocks = on_host, on_host.stack.unrolled().blocks
    outer.stack = None
    arrays, tree = jax.tree.flatten((outer, blocks))
    placed = {id(array): jnp.asarray(array) for array in arrays}
    found = Parts(tree, [placed[id(array)] for array in arrays])
    try:
        _, caches = jax.eval_shape(lambda: step(*rebuilt(found), jnp.zeros((1, 2), int), None, 0))
        jax.eval_shape(lambda: step(*rebuilt(found), jnp.zeros((1, 1), int), caches, 0))
    except AttributeError as error:
        if error.name != "decode":
            raise
        raise ValueError(
            "cached decoding needs layers that keep what they read, but "
            f"{type(error.obj).__name__} has no method decode(x, cache, at): give it one, as "
            "smallnets.nn.Residual has"
        ) from None
    return found


def rebuilt(parts: Parts) -> tuple[Any, list[Any]]:
    """The network without its stack, and the block of each call."""
    return parts.tree.unflatten(parts.arrays)


def step(
    outer: Any, blocks: list[Any], tokens: jax.Array, caches: list[Cache] | None, at: Any
) -> tuple[jax.Array, list[Cache]]:
    """The logits [B, n, V] of tokens[B, n] at the positions from ``at`` on, and the caches.

    ``caches`` hold what stands before; None where nothing does.
    """
    x, kept = outer.embed(tokens, at), []
    for block, cache in zip(blocks, caches or [None] * len(blocks), strict=True):
        x, cache = block.decode(x, cache, at)
        kept.append(cache)
    return outer.readout(x), kept


@functools.partial(jax.jit, static_argnames="tree")
def read(
    tree: Any, arrays: list[jax.Array], tokens: jax.Array, length: jax.Array, key: jax.Array
) -> Read:
    """Read the first ``length`` of tokens[B, W + 1], whatever stands behind them."""
    _, caches = step(*rebuilt(Parts(tree, arrays)), tokens[:, :-1], None, 0)
    return Read(tokens, length, caches, key)


@functools.partial(jax.jit, static_argnames="tree", donate_argnames="state")
def advance(
    tree: Any,
    arrays: list[jax.Array],
    state: Read,
    count: jax.Array,
    temperature: jax.Array | None,
    top_p: jax.Array | None,
) -> Read:
    """``count`` tokens more, each chosen from the logits that all before it give."""
    outer, blocks = rebuilt(Parts(tree, arrays))

    def one(_: jax.Array, state: Read) -> Read:
        at = state.length - 1
        last = jax.lax.dynamic_slice_in_dim(state.tokens, at, 1, axis=1)
        logits, caches = step(outer, blocks, last, state.caches, at)
        key, draw = jax.random.split(state.key)
        chosen = choose(logits[:, 0], draw, temperature, top_p)[:, None]
        tokens = jax.lax.dynamic_update_slice_in_dim(state.tokens, chosen, state.length, axis=1)
        return Read(tokens, state.length + 1, caches, key)

    return jax.lax.fori_loop(0, count, one, state)


def choose(
    logits: jax.Array, key: jax.Array, temperature: Any = None, top_p: Any = None
) -> jax.Array:
    """One token of each logits[..., V]: the likeliest where ``temperature`` is None, else drawn."""
    if temperature is None:
        return logits.argmax(axis=-1).astype(jnp.int32)
    return jax.random.categorical(key, tempered(logits, temperature, top_p)).astype(jnp.int32)


def tempered(logits: jax.Array, temperature: Any, top_p: Any = None) -> jax.Array:
    """Logits of the distribution to draw from, softmax(logits / temperature), or its nucleus.

    With ``top_p`` those are left of the smallest set of likeliest tokens that has this probability
    together; ties with the last of them stay. The others are at -inf.

    Source: nucleus sampling, Holtzman et al. 2019, arXiv:1904.09751, section 3.1.
    """
    logits = logits / temperature
    if top_p is None:
        return logits
    falling = jnp.sort(logits, axis=-1, descending=True)
    probabilities = jax.nn.softmax(falling)
    before = jnp.cumsum(probabilities, axis=-1) - probabilities
    least = jnp.where(before < top_p, falling, jnp.inf).min(axis=-1, keepdims=True)
    return jnp.where(logits < least, -jnp.inf, logits)


def decoded(
    network: Any,
    prompt: np.ndarray,
    count: int,
    *,
    window: int,
    piece: int | None = None,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
) -> Iterator[np.ndarray]:
    """``count`` tokens after prompt[B, n], as they come: pieces [B, ``piece``], or all at once.

    Each position sees the ``window`` positions up to it at the most: where the window is full, its
    latter half is read anew as the beginning of the next. So a token is the one that the network
    gives when it is called with those tokens alone, to rounding, whatever ``piece`` is. For
    ``temperature`` 0 it is the likeliest one, else drawn as :func:`tempered` says, by ``seed``.

    Raises ValueError as :func:`parts`, and for a prompt, a count, a temperature or a share outside
    their ranges.
    """
    prompt = np.asarray(prompt, np.int32)
    check_numbers(prompt, count, window, temperature, top_p)
    tree, arrays = parts(network)
    drawn = (
        jnp.float32(temperature) if temperature else None,
        jnp.float32(top_p) if temperature and top_p < 1 else None,
    )
    return _pieces(tree, arrays, prompt, count, window, piece or count, drawn, jax.random.key(seed))


def _pieces(
    tree: Any,
    arrays: list[jax.Array],
    prompt: np.ndarray,
    count: int,
    window: int,
    piece: int,
    drawn: tuple[jax.Array | None, jax.Array | None],
    key: jax.Array,
) -> Iterator[np.ndarray]:
    tokens, state, left = prompt, None, count
    while left:
        length = tokens.shape[1]
        if state is None or length > window:
            tokens = tokens[:, -window:] if state is None else tokens[:, -max(1, window // 2) :]
            length = tokens.shape[1]
            room = np.pad(tokens, ((0, 0), (0, window + 1 - length)))
            state = read(tree, arrays, room, jnp.int32(length), state.key if state else key)
        steps = min(left, piece, window + 1 - length)
        state = advance(tree, arrays, state, jnp.int32(steps), *drawn)
        tokens = np.asarray(state.tokens)[:, : length + steps]
        left -= steps
        yield tokens[:, -steps:]


def continued(
    network: Any, prompt: jax.Array, count: int, *, temperature: Any, key: jax.Array
) -> jax.Array:
    """``prompt`` and ``count`` tokens after it, [B, n + count], for programs of one's own.

    All lie within the network's window. As :func:`decoded`, but the network and the numbers may be
    tracers; ``temperature`` None takes the likeliest tokens. Raises ValueError as :func:`parts`.
    """
    _check(network)
    outer, blocks = jax.tree.map(lambda leaf: leaf, network), network.stack.unrolled().blocks
    outer.stack = None
    arrays, tree = jax.tree.flatten((outer, blocks))
    length = prompt.shape[1]
    room = jnp.pad(prompt, ((0, 0), (0, count)))
    state = read(tree, arrays, room, jnp.int32(length), key)
    return advance(tree, arrays, state, jnp.int32(count), temperature, None).tokens


def stream(
    model: Model,
    prompt: str,
    *,
    tokens: int = 200,
    temperature: float = 1.0,
    top_p: float = 1.0,
    seed: int = 0,
) -> Iterator[str]:
    """The text with which a kept model goes on from ``prompt``, as it comes.

    For the arguments see :func:`decoded`; ``tokens`` is how many. The pieces are together the text
    of :func:`generate`. Bytes that are no UTF-8 become the replacement character. Raises ValueError
    for a model that does not read text, and as :func:`decoded`.
    """
    return _text(model, prompt, tokens, 1, temperature, top_p, seed)


def generate(
    model: Model,
    prompt: str,
    *,
    tokens: int = 200,
    temperature: float = 1.0,
    top_p: float = 1.0,
    seed: int = 0,
) -> str:
    """The text with which a kept model goes on from ``prompt``, made by one call of one program.

    Beyond the model's window there are more calls, of the same program: see :func:`decoded` and
    :func:`stream`.
    """
    return "".join(_text(model, prompt, tokens, None, temperature, top_p, seed))


def _text(
    model: Model,
    prompt: str,
    tokens: int,
    piece: int | None,
    temperature: float,
    top_p: float,
    seed: int,
) -> Iterator[str]:
    spelling, read = model.inputs.spelling(), model.inputs.tokens(prompt)
    pieces = decoded(
        model.network,
        read[None],
        tokens,
        window=model.inputs.window or len(read) + tokens,
        piece=piece,
        temperature=temperature,
        top_p=top_p,
        seed=seed,
    )
    return _spelled(pieces, spelling)


def _spelled(pieces: Iterator[np.ndarray], spelling: list[bytes]) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for piece in pieces:
        yield decoder.decode(b"".join(spelling[token] for token in piece[0]))
    yield decoder.decode(b"", final=True)


def check_numbers(
    prompt: np.ndarray, count: int, window: int, temperature: float, top_p: float
) -> None:
    """Raise ValueError, one line, for what no decoding can be asked for."""
    if prompt.ndim != 2 or not 1 <= prompt.shape[1] <= window:
        raise ValueError(
            f"a prompt is tokens[B, n] with n from 1 to the window of {window}, but is "
            f"{list(prompt.shape)}: give its last {window} tokens at most"
        )
    if count < 1:
        raise ValueError(f"tokens must be at least 1, but is {count}: it is how many to make")
    if not 0 <= temperature < float("inf"):
        raise ValueError(
            f"temperature must be 0 or above, but is {temperature}: 0 takes the likeliest token, "
            "1 draws as the model says"
        )
    if not 0 < top_p <= 1:
        raise ValueError(
            f"top_p must lie in (0, 1], but is {top_p}: it is the probability of the tokens to "
            "draw from, and 1 leaves all"
        )


def _check(network: Any) -> None:
    """Raise ValueError for what can't decode with a cache."""
    decoder = getattr(network, "causal", False) and not getattr(network, "axes", 1)
    if not decoder or not hasattr(getattr(network, "stack", None), "unrolled"):
        raise ValueError(
            "cached decoding needs a decoder of tokens, but this network is "
            f"{_kind(network)}: train one with model=transformer on a task of text"
        )
    rows, answers = (
        each.shape[-2] if each.ndim > 1 else each.shape[-1]
        for each in jax.eval_shape(
            lambda: (network.embedding.table[...], network(jnp.zeros((1, 1), int))[0, 0])
        )
    )
    if rows != answers:
        raise ValueError(
            f"a decoder reads what it wrote, but this one reads {rows} tokens and answers with "
            f"{answers} classes: train it on a task of text"
        )
    for _, module in nnx.iter_modules(network):
        drops = isinstance(module, Mixture) and module.capacity_factor and not module.deterministic
        if isinstance(module, (ExpertChoice, SoftMixture)) or drops:
            raise ValueError(
                "with a cache a position is read once, without those behind it, but "
                f"{type(module).__name__} mixes or drops tokens of a whole call: choose a mixture "
                "that drops nothing"
            )


def _kind(network: Any) -> str:
    kind = type(network).__name__
    if getattr(network, "axes", 0):
        return f"a {kind} of vectors"
    return f"a {kind} that is not causal" if getattr(network, "causal", None) is False else kind

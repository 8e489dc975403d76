"""How much faster is decoding with a cache than calling the network anew for each token?

    python experiments/benchmarks/decoding.py        about 3 minutes on two cores

Microseconds a token for one sequence, the likeliest token each time, from a prompt of 8 tokens to
the end of the window. In turns in one run: the network called anew for each token; the cache, a
call a token (streamed) and all in one call; and what stands in a token's way in any case, the
products of its layers and its logits alone, and these with attention's own over the window. The
last columns are ratios of the medians.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from rich.console import Console
from rich.progress import track
from rich.table import Table
from turns import in_turns

from smallnets.decoding import cached
from smallnets.measure.machine import device_name
from smallnets.nn import Attention, Dense, FeedForward, LowRank, Mixture, Monarch, Transformer

ROUNDS, PROMPT, VOCABULARY, AGAIN = 15, 8, 256, 8  # AGAIN: calls of the network anew in a round
SIZES = {(64, 4, 128): {}, (128, 4, 128): {}}
FAMILIES = {
    "dense": {},
    "low-rank": {"linear": partial(LowRank, ratio=0.25)},
    "Monarch": {"linear": partial(Monarch, blocks=8)},
    "shared": {"unique": 1},
    "mixture": {"mixture": partial(Mixture, experts=4, top_k=2, capacity_factor=None)},
}


def network(width: int, depth: int, window: int, **options) -> Transformer:
    plain = {"linear": Dense, "attention": partial(Attention, head_dim=8)}
    plain |= {"feed_forward": partial(FeedForward, expansion=4), "causal": True, "tied": True}
    sizes = {"width": width, "depth": depth}
    return Transformer((window,), VOCABULARY, **sizes, **{**plain, **options}, rngs=nnx.Rngs(0))


@partial(jax.jit, static_argnames=("tree", "window"))
def products(tree, arrays, count, *, window, attending):
    """A token's products in a chain, nothing else: of all linear layers, and of attention."""
    outer, blocks = cached.rebuilt(cached.Parts(tree, arrays))

    def one(_, x):
        for block in blocks:
            attention, feed = block.attention.layer, block.feed_forward.layer
            heads = attention.query(x) + attention.key(x) + attention.value(x)
            if attending is not None:
                query = heads.reshape(1, 1, -1, attention.head_dim)
                scores = jnp.einsum("btnh,bsnh->bnts", query, attending)
                heads = jnp.einsum("bnts,bsnh->btnh", scores, attending).reshape(x.shape)
            x = attention.output(heads)
            x = feed.down(feed.up(x)) if hasattr(feed, "up") else feed(x)
        return x + outer.readout(x)[..., :1]

    return jax.lax.fori_loop(0, count, one, jnp.ones((1, 1, outer.norm.scale.shape[-1])))


table = Table(title=f"microseconds a token, {device_name(jax.devices()[0])}")
for name in ("family", "width", "anew", "streamed", "one call", "products", "and attention's"):
    table.add_column(name, justify="left" if name == "family" else "right")
for name in ("anew / one call", "one call / products", "/ with attention's"):
    table.add_column(name, justify="right")
for family, (width, depth, window) in track(
    [(family, size) for family in FAMILIES for size in SIZES], "measuring"
):
    model = network(width, depth, window, **FAMILIES[family])
    tree, arrays = cached.parts(model)
    count = window - PROMPT
    room = np.zeros((1, window + 1), np.int32)
    room[0, :PROMPT] = np.arange(PROMPT)
    anew = jax.jit(lambda model, tokens: model(tokens))
    attending = jnp.ones((1, window, width // 8, 8)) * 0.01
    begun = cached.read(tree, arrays, room, jnp.int32(PROMPT), jax.random.key(0))

    def begin(begun=begun):
        """The state after the prompt: a call of ``advance`` gives its memory away."""
        return jax.tree.map(lambda leaf: leaf.copy(), begun)

    def calls(model=model, room=room, anew=anew):
        for _ in range(AGAIN):
            anew(model, room[:, :-1]).block_until_ready()

    def streamed(begin=begin, tree=tree, arrays=arrays, count=count):
        state = begin()
        for _ in range(count):
            state = cached.advance(tree, arrays, state, jnp.int32(1), None, None)
            np.asarray(state.tokens)

    def at_once(begin=begin, tree=tree, arrays=arrays, count=count):
        return cached.advance(tree, arrays, begin(), jnp.int32(count), None, None).tokens

    alone = [
        partial(products, tree, arrays, jnp.int32(count), window=window, attending=each)
        for each in (None, attending)
    ]
    forms = [calls, streamed, at_once, *alone]
    for form in forms:
        jax.block_until_ready(form())
    tokens = np.asarray([AGAIN, count, count, count, count])
    medians = np.median(in_turns(forms, rounds=ROUNDS) / tokens, axis=0) * 1e6
    again, stream, once, linear, both = medians
    table.add_row(
        family,
        f"{width} x {depth}",
        *(f"{each:,.0f}" for each in medians),
        *(f"{each:.1f}" for each in (again / once, once / linear, once / both)),
    )
Console(width=140).print(table)

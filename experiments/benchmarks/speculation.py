"""How many drafts must stand for speculation to pay?

    python experiments/benchmarks/speculation.py        about 2 minutes on two cores

A round of speculation, in which a small decoder drafts and the large one reads the drafts at once,
over a token of the large one alone with its cache, for one sequence. That many tokens a round are
the break-even: where 1 + (drafts that stand) is more, speculation is faster, by their ratio. The
decoders are untrained, since only time is looked at. In turns in one run, medians.
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

from smallnets.decoding import cached, speculation
from smallnets.measure.machine import device_name
from smallnets.nn import Attention, Dense, FeedForward, Transformer

ROUNDS, PROMPT, WINDOW = 7, 8, 128
SMALL, LARGE = (32, 1), (128, 4)  # width and depth


def network(width: int, depth: int) -> Transformer:
    return Transformer(
        (WINDOW,),
        256,
        width=width,
        depth=depth,
        linear=Dense,
        attention=partial(Attention, head_dim=16),
        feed_forward=partial(FeedForward, expansion=4),
        causal=True,
        tied=True,
        rngs=nnx.Rngs(width),
    )


def copy(state):
    """What a program is given is its own afterwards."""
    return jax.tree.map(lambda leaf: leaf.copy(), state)


trees, arrays = zip(*(cached.parts(network(*size)) for size in (SMALL, LARGE)), strict=True)
tokens = np.arange(PROMPT, dtype=np.int32)[None]
room = np.pad(tokens, ((0, 0), (0, WINDOW + 1 - PROMPT)))
alone = cached.read(trees[1], arrays[1], room, jnp.int32(PROMPT), jax.random.key(0))
count = WINDOW - PROMPT
calls = [
    lambda: cached.advance(trees[1], arrays[1], copy(alone), jnp.int32(count), None, None).tokens
]
taken, drafted = [], (1, 4)
for drafts in drafted:
    room = np.pad(tokens, ((0, 0), (0, WINDOW + drafts + 1 - PROMPT)))
    begun = speculation.begin(
        trees, arrays, room, jnp.int32(PROMPT), jax.random.key(0), drafts=drafts
    )
    speculate = partial(speculation.advance, trees, arrays, drafts=drafts)
    run = partial(speculate, end=jnp.int32(WINDOW), temperature=None, top_p=None)
    taken.append(int(run(state=copy(begun)).rounds))
    calls.append(lambda run=run, begun=begun: run(state=copy(begun)).tokens)
seconds = np.median(in_turns(calls, rounds=ROUNDS), axis=0)
token = seconds[0] / count
table = Table(title=f"{SMALL} drafts for {LARGE}, {device_name(jax.devices()[0])}")
for name in ("drafts", "round / token of the large alone", "most it can gain"):
    table.add_column(name, justify="right")
for drafts, rounds, each in track([*zip(drafted, taken, seconds[1:], strict=True)], "writing"):
    ratio = each / rounds / token
    table.add_row(str(drafts), f"{ratio:.2f}", f"{(drafts + 1) / ratio:.2f} times")
Console().print(table)

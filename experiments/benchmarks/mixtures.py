"""What does a mixture cost on the clock, against the dense map of the same active FLOPs?

    python experiments/benchmarks/mixtures.py        about 2 minutes on two cores

4,096 tokens of width 256, top 2 of 8 and of 64 feed-forward experts of hidden width 512, against
one dense feed-forward map of hidden width 1,024, which has the FLOPs of two experts. Forward and
forward + backward, of parameters and input, each compiled once and run in turns: the ratio of the
times, median of 11 rounds and quartiles, in CPU time, since other processes on the machine disturb
that least. ``rows`` are those that experts compute over those that were chosen; ``experts alone``
is one batched call of all experts on as many rows as were chosen, with no routing and no dispatch.
"""

import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from rich.console import Console
from rich.table import Table
from turns import in_turns

from smallnets.measure.machine import device_name
from smallnets.nn.dispatch import block_rows, capacity
from smallnets.nn.feed_forward import FeedForward
from smallnets.nn.linear import Dense
from smallnets.nn.mixture import Mixture
from smallnets.nn.parameter import stacked

TOKENS, WIDTH, TOP_K, ROUNDS = 4096, 256, 2, 11
EXPERT = partial(FeedForward, linear=Dense, hidden=2 * WIDTH)
CHOICES = TOKENS * TOP_K


def alone(experts, rows):
    return jax.vmap(lambda expert, rows: expert(rows))(experts, rows)


def call(model, x):
    return model(x)


def compiled(function, model, x):
    def loss(model, x):
        return jnp.mean(jnp.square(function(model, x)))

    backward = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(model, x).compile()
    forward = jax.jit(function).lower(model, x).compile()
    return partial(forward, model, x), partial(backward, model, x)


def rows(experts, factor):
    if factor is None:
        block = block_rows(CHOICES, experts)
        return (CHOICES + experts * (block - 1)) // block * block / CHOICES
    return experts * capacity(TOKENS, experts, TOP_K, factor) / CHOICES


x = jax.random.normal(jax.random.key(0), (TOKENS, WIDTH))
dense = partial(FeedForward, linear=Dense, hidden=2 * WIDTH * TOP_K)
cases = {("dense", 1, 1.0): compiled(call, dense(WIDTH, WIDTH, rngs=nnx.Rngs(0)), x)}
for experts in (8, 64):
    maps = stacked(partial(EXPERT, WIDTH, WIDTH), nnx.Rngs(1), experts)
    grouped = jax.random.normal(jax.random.key(2), (experts, CHOICES // experts, WIDTH))
    cases["experts alone", experts, 1.0] = compiled(alone, maps, grouped)
    for name, factor in (("capacity 1", 1.0), ("capacity 1.25", 1.25), ("dropless", None)):
        model = Mixture(
            *(WIDTH, WIDTH),
            expert=EXPERT,
            experts=experts,
            top_k=TOP_K,
            capacity_factor=factor,
            rngs=nnx.Rngs(0),
        )
        cases[name, experts, rows(experts, factor)] = compiled(call, model, x)

with Console().status("measuring"):
    calls = [call for pair in cases.values() for call in pair]
    seconds = in_turns(calls, rounds=ROUNDS, clock=time.process_time).reshape(ROUNDS, -1, 2)
ratios = np.quantile(seconds / seconds[:, :1], [0.5, 0.25, 0.75], axis=0)

table = Table(title=f"time / time of the dense map, {device_name(jax.devices()[0])}")
for column in ("dispatch", "experts", "rows", "forward", "forward + backward"):
    table.add_column(column, justify="left" if column == "dispatch" else "right")
for index, (dispatch, experts, share) in enumerate(cases):
    said = [f"{middle:.2f} ({low:.2f} to {high:.2f})" for middle, low, high in ratios[:, index].T]
    table.add_row(dispatch, str(experts), f"{share:.2f}", *said)
Console().print(table)

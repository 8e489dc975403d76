"""Does a cascade save time, or only FLOPs?

    python experiments/benchmarks/cascade.py        about 2 minutes on two cores

A small and a large network, untrained, since only time is looked at; of a call's examples a share
is passed on, which the confidence that gives it on these examples sets. For each share: the time
of the cascade over the time of the large network alone, and beside it the same ratio of FLOPs.
In turns in one run, medians.
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

from smallnets.measure.costs import counted_costs
from smallnets.measure.machine import device_name
from smallnets.nn import Attention, Cascade, Dense, FeedForward, ResidualNetwork, Transformer

ROUNDS, EXAMPLES = 15, 512
SHARES = (0.0, 0.1, 0.25, 0.5, 1.0)
rngs = nnx.Rngs(0)
residual = partial(ResidualNetwork, (40,), 10, linear=Dense, rngs=rngs)
encoder = partial(
    Transformer,
    (40, 1),
    10,
    linear=Dense,
    attention=partial(Attention, head_dim=8, causal=False),
    feed_forward=FeedForward,
    causal=False,
    tied=False,
    rngs=rngs,
)


class Flat(nnx.Module):
    """A network of vectors that is given [n, 40, 1]."""

    def __init__(self, network):
        self.network = network

    def __call__(self, x):
        return self.network(x[..., 0])


PAIRS = {
    "residual 32 x 2, residual 128 x 4": [
        Flat(residual(width=32, depth=2)),
        Flat(residual(width=128, depth=4)),
    ],
    "residual 64 x 4, residual 512 x 6": [
        Flat(residual(width=64, depth=4)),
        Flat(residual(width=512, depth=6)),
    ],
    "residual 64 x 4, encoder 64 x 2": [
        Flat(residual(width=64, depth=4)),
        encoder(width=64, depth=2),
    ],
}
x = jnp.asarray(np.random.default_rng(0).normal(size=(EXAMPLES, 40, 1)), jnp.float32)
table = Table(title=f"{EXAMPLES} examples a call, {device_name(jax.devices()[0])}")
for name in ("networks", "passed on", "time", "FLOPs"):
    table.add_column(name, justify="left" if name == "networks" else "right")
for name, networks in track(PAIRS.items(), "measuring"):
    flops = [
        counted_costs(network, jax.ShapeDtypeStruct(x.shape, x.dtype))["flops"]
        for network in networks
    ]
    cascade = Cascade(networks, temperatures=[1.0, 1.0], confidence=0.5)
    sure = np.asarray(jax.nn.softmax(jax.jit(networks[0].__call__)(x)).max(axis=-1))
    leaves, tree = jax.tree.flatten(cascade)
    answers = jax.jit(lambda leaves, x, c, tree=tree: tree.unflatten(leaves).answers(x, c))
    large_leaves, large_tree = jax.tree.flatten(networks[1])
    alone = jax.jit(lambda leaves, x, tree=large_tree: tree.unflatten(leaves)(x))
    confidences = [0.0, *np.quantile(sure, SHARES[1:-1]), 2.0]
    calls = [partial(answers, leaves, x, jnp.float32(each)) for each in confidences]
    taken = np.median(in_turns([*calls, partial(alone, large_leaves, x)], rounds=ROUNDS), axis=0)
    for share, seconds in zip(SHARES, taken, strict=False):
        ratio = (flops[0] + share * flops[1]) / flops[1]
        table.add_row(name, f"{share:.2f}", f"{seconds / taken[-1]:.2f}", f"{ratio:.2f}")
Console().print(table)

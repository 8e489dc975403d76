"""How much of a structured map's FLOP saving does the clock see?

    python experiments/benchmarks/maps.py        about 3 minutes on two cores

Each map against the dense one of its width, square, compiled, in turns in one run: the share
(dense seconds / its seconds) / (dense FLOPs / its FLOPs), by medians. At 1 the clock sees the
whole saving. In brackets how many times faster than dense the map is: below 1 it loses. Blocks are
the power of two next to sqrt(d), the rank of low-rank is d / 8. Forward + backward takes the
gradients by the input and by the parameters; its FLOPs are three times those of forward.
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

from smallnets.measure import flops
from smallnets.measure.machine import device_name
from smallnets.nn.linear import Dense, LowRank
from smallnets.nn.structured import BlockDiagonal, BlockTensorTrain, Kronecker, Monarch, TensorTrain

WIDTHS, BATCHES = {64: 8, 256: 16, 1024: 32}, (1, 64, 1024)  # width: blocks
SECONDS, LEAST = 1.0, 7  # of measuring a cell, and rounds


def forward(map, x):
    return map(x)


def both(map, x):
    return jax.grad(lambda map, x: jnp.vdot(map(x), x), argnums=(0, 1))(map, x)


def maps(width: int, blocks: int):
    families = {
        "dense": Dense,
        "low-rank": partial(LowRank, ratio=1 / 8),
        "block-diagonal": partial(BlockDiagonal, blocks=blocks),
        "Monarch": partial(Monarch, blocks=blocks),
        "Kronecker": partial(Kronecker, blocks=blocks),
        "BTT, rank 2": partial(BlockTensorTrain, blocks=blocks, rank=2),
        "tensor train, rank 4": partial(TensorTrain, blocks=blocks, cores=2, rank=4),
    }
    return {
        name: family(width, width, rngs=nnx.Rngs(params=jax.random.key(0)))
        for name, family in families.items()
    }


table = Table(title=f"share of the FLOP saving, {device_name(jax.devices()[0])}")
for column in (
    "map",
    "width",
    "saving",
    *(f"{w} {b}" for w in ("forward", "both") for b in BATCHES),
):
    table.add_column(column, justify="left" if column == "map" else "right")
rows: dict[tuple[str, int], list[str]] = {}
for function, width, batch in track(
    [(f, w, b) for f in (forward, both) for w in WIDTHS for b in BATCHES], "measuring"
):
    x = jax.random.normal(jax.random.key(1), (batch, width))
    built = maps(width, WIDTHS[width])
    programs = [jax.jit(function).lower(map, x).compile() for map in built.values()]
    calls = [partial(p, map, x) for p, map in zip(programs, built.values(), strict=True)]
    seconds = np.median(in_turns(calls, rounds=LEAST, seconds=SECONDS), axis=0)
    counts = [flops.count(forward, map, x).products for map in built.values()]
    for index, name in enumerate(built):
        faster, saving = seconds[0] / seconds[index], counts[0] / counts[index]
        row = rows.setdefault((name, width), [f"{saving:.1f}"])
        row.append(f"{faster / saving:.2f} ({faster:.1f})")
for (name, width), row in rows.items():
    if name != "dense":
        table.add_row(name, str(width), *row)
Console(width=160).print(table)

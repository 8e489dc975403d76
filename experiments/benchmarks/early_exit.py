"""How much of the blocks that an early exit leaves out does the clock see?

    python experiments/benchmarks/early_exit.py        about 3 minutes on two cores

Residual networks of 8 dense blocks, untrained, 1,024 examples in one call. For shares of the blocks
from 1 (nobody leaves) down to an eighth (all leave after the first) the confidence is set so that
about this share is computed; prints the time over that of the plain network, compiled, in turns,
medians, and the share that was computed. Beside the blocks, time goes into 7 heads and into moving
those who stay together, which matters less the wider the blocks are.
"""

from functools import partial

import jax
import numpy as np
from flax import nnx
from rich.console import Console
from rich.progress import track
from rich.table import Table
from turns import in_turns

from smallnets.measure.machine import device_name
from smallnets.nn.exits import Exits, exit_early
from smallnets.nn.linear import Dense
from smallnets.nn.residual import ResidualNetwork

DEPTH, COUNT, ROUNDS = 8, 1024, 15
SHARES = (1.0, 0.75, 0.5, 0.25, 1 / DEPTH)

table = Table(title=f"time of early exit / plain network, {device_name(jax.devices()[0])}")
table.add_column("width", justify="right")
for share in SHARES:
    table.add_column(f"{share:.2f} of the blocks", justify="right")
x = jax.random.normal(jax.random.key(1), (COUNT, 64))
for width in track((64, 256, 1024), "measuring"):
    network = ResidualNetwork(
        (64,), 10, width=width, depth=DEPTH, linear=Dense, exits=Exits, rngs=nnx.Rngs(0)
    )
    plain = jax.jit(lambda network, x: network(x)).lower(network, x).compile()
    early = jax.jit(exit_early).lower(network, x, 0.5).compile()

    def computed(confidence, network=network, early=early):
        return float(np.mean(early(network, x, confidence)[1])) / DEPTH

    grid = np.linspace(0, 1, 101)
    computed_at = np.asarray([computed(confidence) for confidence in grid])
    chosen = [float(grid[np.abs(computed_at - share).argmin()]) for share in SHARES]
    chosen[0] = 1.1
    calls = [partial(plain, network, x), *(partial(early, network, x, each) for each in chosen)]
    seconds = in_turns(calls, rounds=ROUNDS)
    ratios = np.median(seconds[:, 1:] / seconds[:, :1], axis=0)
    cells = (
        f"{ratio:.2f} ({computed(each):.2f})" for ratio, each in zip(ratios, chosen, strict=True)
    )
    table.add_row(str(width), *cells)
Console().print(table)

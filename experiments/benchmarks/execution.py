"""Are the members of a program trained faster one after another or side by side?

    python experiments/benchmarks/execution.py        about 3 minutes on two cores

For each family and width: the time that 8 members take under ``map``, the program of one called for
each, over the time under ``vmap`` (below 1: ``map`` is faster), both compiled once and run in turns;
median of 5 rounds and range.
``smallnets.training.batch.fastest_execution`` rests on this.
"""

from functools import partial

import jax
import numpy as np
import optax
from rich.console import Console
from rich.progress import track
from rich.table import Table
from turns import in_turns

from smallnets.measure.machine import device_name
from smallnets.nn.linear import Dense, LowRank
from smallnets.nn.mixture import Mixture
from smallnets.nn.residual import ResidualNetwork
from smallnets.nn.structured import Monarch
from smallnets.training.batch import compile_program
from smallnets.training.fit import Arrays, Fit
from smallnets.training.objective import cross_entropy
from smallnets.training.optimizer import cosine_schedule, gradient_transformation

MEMBERS, STEPS, ROUNDS = 8, 100, 5
FAMILIES = {
    "dense": {"linear": Dense},
    "low-rank": {"linear": partial(LowRank, ratio=0.25)},
    "Monarch": {"linear": partial(Monarch, blocks=4)},
    "shared": {"linear": Dense, "depth": 4, "unique": 1},
    "mixture": {"linear": Dense, "mixture": partial(Mixture, experts=4, top_k=2)},
}
random = np.random.default_rng(0)
TRAIN = Arrays(
    random.normal(size=(640, 40)).astype(np.float32), np.arange(640, dtype=np.int32) % 10
)


def member(values, train, *, network):
    optimizer = partial(
        gradient_transformation,
        rule=optax.adam,
        learning_rate=values["learning_rate"],
        schedule=cosine_schedule,
    )
    return Fit(
        optimizer=optimizer,
        objective=cross_entropy,
        steps=STEPS,
        batch_size=64,
        evaluations=1,
    ).run(network, train, {}, seed=values["seed"])[1]


values = {
    "seed": np.arange(MEMBERS, dtype=np.uint32),
    "learning_rate": np.full(MEMBERS, 3e-3, np.float32),
}


def alone(place):
    """The values of one member."""
    return {name: array[place : place + 1] for name, array in values.items()}


table = Table(title=f"map / vmap, {MEMBERS} members, {device_name(jax.devices()[0])}")
for column in ("family", "width", "median", "range"):
    table.add_column(column, justify="left" if column == "family" else "right")
for family, width in track([(f, w) for f in FAMILIES for w in (16, 64, 128)], "measuring"):
    options = {"depth": 2, **FAMILIES[family]}
    network = partial(ResidualNetwork, (40,), 10, width=width, **options)
    train_one = partial(member, network=network)
    of_one = compile_program(train_one, alone(0), TRAIN, "map")
    of_all = compile_program(train_one, values, TRAIN, "vmap")
    calls = [
        lambda program=of_one: [program(alone(place), TRAIN) for place in range(MEMBERS)],
        partial(of_all, values, TRAIN),
    ]
    by_map, by_vmap = in_turns(calls, rounds=ROUNDS).T
    low, middle, high = np.quantile(by_map / by_vmap, [0, 0.5, 1])
    table.add_row(family, str(width), f"{middle:.2f}", f"{low:.2f} to {high:.2f}")
Console().print(table)

"""What does leaving early save on the clock, and what does it cost in errors?

    python experiments/early_exit.py [FOLDER]        about 4 minutes on two cores

Trains residual networks on MNIST-1D (width 128, 3 seeds): one of 6 blocks with an exit after each,
whose blocks do not know of them, one whose blocks serve all exits (``joint``), and for comparison
one of each depth from 1 to 6 without. Each takes that of three rates with the lowest mean
validation loss. Then the test split, in one call of 1,000 examples, leaves the first two by their
confidence, at several of them, none chosen by its result. Prints and draws the error over the mean
number of blocks, and over the seconds as a share of those of all six blocks: compiled programs in
turns, medians.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from hydra import compose, initialize_config_dir
from rich.console import Console
from rich.progress import track
from rich.table import Table

from smallnets.analysis.prints.axes import printed
from smallnets.cli import CONF
from smallnets.measure.machine import device_name
from smallnets.nn.exits import exit_early
from smallnets.sweep.jobs import resolve
from smallnets.sweep.plan import build, load
from smallnets.traced import assign
from smallnets.training.trainer import splits

DEPTH, SEEDS, RATES, ROUNDS = 6, 3, (1e-3, 3e-3, 1e-2), 15
CONFIDENCES = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999, 1.1)
SIZES = ("task=mnist1d", "task.validation=0.2", "model=residual", "model.width=128", "steps=800")


with initialize_config_dir(str(CONF), version_base="1.3"):
    _, data = load(build(resolve(compose("config", list(SIZES), return_hydra_config=True))))
arrays = splits(data)
inputs, labels = jax.device_put(arrays["test"].inputs), arrays["test"].labels


def trained(*overrides: str) -> list:
    """The models of all seeds at the rate of the lowest mean validation loss."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", [*SIZES, *overrides], return_hydra_config=True)
    tree = build(resolve(config))

    def fit(seed, rate, arrays):
        run = assign(assign(tree, "seed", seed), "optimizer.learning_rate", rate)()
        return run.fit(data, arrays)

    program = jax.jit(fit).lower(np.uint32(0), np.float32(0), arrays).compile()
    runs = [
        [program(np.uint32(seed), np.float32(rate), arrays) for seed in range(SEEDS)]
        for rate in RATES
    ]
    losses = [np.mean([curves["validation_loss"][-1] for _, curves in of]) for of in runs]
    return [model for model, _ in runs[int(np.argmin(losses))]]


class Way(NamedTuple):
    """A point of a curve: how the models of all seeds answer, ``call(model) -> logits, depth``."""

    curve: str
    name: str
    models: list
    call: Callable


def leaving(curve: str, *overrides: str) -> list[Way]:
    """A network with exits, left at each confidence."""
    models = trained(f"model.depth={DEPTH}", "+model/exits=self_distilled", *overrides)
    program = jax.jit(exit_early).lower(models[0], inputs, 0.5).compile()
    return [
        Way(curve, f"sure by {confidence}" if confidence <= 1 else "nobody leaves", models, call)
        for confidence in CONFIDENCES
        for call in [lambda model, confidence=confidence: program(model, inputs, confidence)]
    ]


def alone(depth: int) -> Way:
    """A network of ``depth`` blocks without exits."""
    models = trained(f"model.depth={depth}")
    program = jax.jit(lambda model, inputs: model(inputs)).lower(models[0], inputs).compile()
    return Way("alone", f"{depth} blocks", models, lambda model: (program(model, inputs), depth))


folder = Path(sys.argv[1] if len(sys.argv) > 1 else "multirun/early_exit")
folder.mkdir(parents=True, exist_ok=True)
ways = [
    *leaving("exits that read"),
    *leaving("joint exits", "model.exits.joint=1"),
    *(alone(depth) for depth in track(range(1, DEPTH + 1), "training")),
]

blocks, errors = [], []
for way in ways:
    answers = [way.call(model) for model in way.models]
    wrong = [np.asarray(logits).argmax(axis=-1) != labels for logits, _ in answers]
    errors.append([100 * each.mean() for each in wrong])
    blocks.append(np.mean([np.mean(depth) for _, depth in answers]))

rounds = []
for _ in track(range(ROUNDS + 2), "measuring"):  # the first two warm up
    seconds = []
    for way in ways:
        started = time.perf_counter()
        jax.block_until_ready(way.call(way.models[0]))
        seconds.append(time.perf_counter() - started)
    rounds.append(seconds)
share = np.median([np.divide(each, each[-1]) for each in rounds[2:]], axis=0)

table = Table(title=f"Leaving early on MNIST-1D, 1,000 examples, {device_name(jax.devices()[0])}")
for column in ("", "way", "mean blocks", "test error, percent", "share of the time"):
    table.add_column(column, justify="left" if column in ("", "way") else "right")
for way, depth, of_seeds, time_share in zip(ways, blocks, errors, share, strict=True):
    mean, spread = np.mean(of_seeds), np.std(of_seeds, ddof=1)
    table.add_row(
        way.curve, way.name, f"{depth:.2f}", f"{mean:.1f} ± {spread:.1f}", f"{time_share:.2f}"
    )
Console(width=100).print(table)

caption = (
    f"Residual networks of width 128 on MNIST-1D, means of {SEEDS} seeds, 1,000 test examples in "
    "one call. Exits that read, joint exits: one network of 6 blocks, each example leaves when its "
    "exit is sure, by confidences from 0.5 up. Alone: networks of 1 to 6 blocks without exits. "
    "Time: of seed 0, share of that of 6 blocks alone."
)
looks = {"exits that read": ("black", "o"), "joint exits": ("0.55", "^"), "alone": ("C1", "s")}
with printed(folder, "early_exit", caption, columns=2, height=3.2) as (_, axes):
    for axis, place, label in zip(
        axes[0], (blocks, share), ("mean blocks", "share of the time"), strict=True
    ):
        for curve, (colour, marker) in looks.items():
            part = [index for index, way in enumerate(ways) if way.curve == curve]
            axis.plot(
                np.asarray(place)[part],
                np.mean(errors, axis=1)[part],
                **{"color": colour, "marker": marker, "ms": 4, "lw": 1, "label": curve},
            )
        axis.set_xlabel(label)
        axis.set_ylabel("test error (percent)" if axis is axes[0, 0] else "")
        axis.set_xlim(left=0)
print(f"figure: {folder / 'early_exit.png'}")

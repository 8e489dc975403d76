"""Does leaving early pay, against a network of fewer blocks?

    python experiments/early_exit.py [FOLDER] [WORDS]        about 4 minutes on two cores

Residual networks of width 128 on MNIST-1D: of 1 to 6 blocks alone, and of 6 blocks with exits that
only read and with exits that the blocks serve too; three seeds, three rates, of which each takes
the one with the lowest mean validation loss. Kept models are loaded and left by confidences from
0.5 up; prints and draws the test error over mean blocks and over time, which is measured in turns
on seed 0 as a share of that of 6 blocks alone. Found: on MNIST-1D a network of fewer blocks is the
better choice.
"""

import sys
from functools import partial
from pathlib import Path

import jax
import numpy as np
import polars as pl
from benchmarks.turns import in_turns
from rich.console import Console
from rich.table import Table

import smallnets
from smallnets.analysis.panels import axis, key_width, lines, markers, panel, save, span
from smallnets.measure.machine import device_name
from smallnets.nn import exit_early

CONFIDENCES = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999, 1.1)
RATES = "optimizer.learning_rate=1e-3,3e-3,1e-2"
WORDS = ["task.validation=0.2", "model.width=128", "steps=800", "seed=range(3)", RATES]
KINDS = {
    **{f"{depth} blocks": [f"model.depth={depth}"] for depth in range(1, 7)},
    "exits that read": ["model.depth=6", "+model/exits=self_distilled"],
    "joint exits": ["model.depth=6", "+model/exits=self_distilled", "model.exits.joint=1"],
}
folder = Path(sys.argv[1] if len(sys.argv) > 1 else "multirun/early_exit-mnist1d")


def trained(*words: str) -> tuple[list, jax.Array, np.ndarray]:
    """The kept networks of all seeds at the chosen rate; the test inputs and labels."""
    plan = smallnets.plan(*WORDS, *words, *sys.argv[2:], f"hydra.sweep.dir={folder}")
    runs = smallnets.train(plan)
    losses: dict[float, list[float]] = {}
    for run in runs:
        rate = run.row.config["optimizer"]["learning_rate"]
        losses.setdefault(rate, []).append(run.row.metrics["validation_loss"])
    best = min(losses, key=lambda rate: np.mean(losses[rate]))
    chosen = [run for run in runs if run.row.config["optimizer"]["learning_rate"] == best]
    test = plan.programs[0].data.test
    networks = [smallnets.load(run.folder).network for run in chosen]
    return networks, jax.device_put(test.inputs), test.labels


ways, calls = [], []  # curve, way, mean blocks, test errors of the seeds; a call of seed 0
for kind, words in KINDS.items():
    networks, inputs, labels = trained(*words)
    if "exits" not in kind:
        program = jax.jit(lambda network, x: network(x)).lower(networks[0], inputs).compile()
        answers = [(program(network, inputs), int(kind[0])) for network in networks]
        ways.append(("alone", kind, answers))
        calls.append(partial(program, networks[0], inputs))
        continue
    program = jax.jit(exit_early).lower(networks[0], inputs, 0.5).compile()
    for confidence in CONFIDENCES:
        answers = [program(network, inputs, confidence) for network in networks]
        ways.append((kind, f"sure by {confidence}" if confidence <= 1 else "at the end", answers))
        calls.append(partial(program, networks[0], inputs, confidence))
seconds = in_turns(calls, rounds=15)
share = np.median(seconds / seconds[:, [5]], axis=0)  # of 6 blocks alone

table = Table(title=f"Leaving early on MNIST-1D, 1,000 examples, {device_name(jax.devices()[0])}")
for column in ("", "way", "mean blocks", "test error, percent", "share of the time"):
    table.add_column(column, justify="left" if column in ("", "way") else "right")
points: dict[str, list[tuple]] = {}
for (curve, way, answers), time in zip(ways, share, strict=True):
    wrong = [100 * np.mean(np.asarray(logits).argmax(axis=-1) != labels) for logits, _ in answers]
    blocks, mean = np.mean([np.mean(depth) for _, depth in answers]), np.mean(wrong)
    points.setdefault(curve, []).append((blocks, time, mean))
    spread = np.std(wrong, ddof=1) if len(wrong) > 1 else 0.0
    table.add_row(curve, way, f"{blocks:.2f}", f"{mean:.1f} ± {spread:.1f}", f"{time:.2f}")
Console(width=100).print(table)

caption = "MNIST-1D, residual networks of width 128, means of seeds, 1,000 test examples a call."
curves = list(points)
table = {
    name: pl.DataFrame(part, schema=["blocks", "time", "y"], orient="row")
    .with_columns(pl.lit(name).alias("family"))
    .sort("blocks")
    for name, part in points.items()
}
every = pl.concat(table.values())
panels = []
for column, title in (("blocks", "mean blocks"), ("time", "share of time")):
    along = {name: part.with_columns(pl.col(column).alias("x")) for name, part in table.items()}
    marks = [*lines(along, curves, curves), markers(pl.concat(along.values()), curves)]
    x = axis(title, (0, span(every[column], kind="linear")[1]), kind="linear")
    y = axis("test error (percent)", span(every["y"], kind="linear"), kind="linear")
    panels.append(panel(marks, x, y, height=220, legend=True))
save(folder, "early_exit", panels, columns=2, caption=caption, key=key_width(curves))
print(f"figure: {folder / 'early_exit.png'}")

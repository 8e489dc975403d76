"""Does the best learning rate stay where it is when the network gets wider?

    python experiments/rate_transfer.py [FOLDER] [WORDS]        about 5 minutes on two cores

Trains the experiment ``rate_transfer`` into FOLDER, but for the runs that are there; draws there
the train loss (mean of the last 50 of 200 steps) over the rate, and prints how far the best rate
moves from the narrowest to the widest network, and what the narrowest one's rate costs the widest.
The best rate is the lowest point of the parabola, in the logarithm of the rate, through the lowest
mean over seeds and its two neighbours. Test scores are not looked at.

What came out: with one rate for all weights the best one falls by 4.3 to 4.4 octaves over a factor
of 16 in width; with rates by fans by 0.8 (dense), 0.1 (Monarch) and 0.0 (low-rank). Carried from
width 32 to 512, rates by fans win, by 0.2 to 0.4 nats; tuned anew at 512, one rate for all wins,
by 0.1 to 0.2 nats in so short a training.
"""

import sys
from pathlib import Path

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

import smallnets
from smallnets.analysis.panels import axis, key_width, lines, markers, panel, save, span
from smallnets.rows import Row

FAMILIES = ("dense", "low_rank", "monarch")
PARAMETRIZATIONS = ("standard", "maximal_update")
WIDTHS = (32, 128, 512)
RATES = 2.5e-4 * 2.0 ** np.arange(10)
SEEDS = 2


def losses(rows: list[Row], family: str, parametrization: str, width: int) -> np.ndarray:
    """The train loss ``[seeds, rates]`` of one network."""
    target = f"smallnets.training.{parametrization}"
    found = [
        (row.seed, row.config["optimizer"]["learning_rate"], row.metrics["train_loss"])
        for row in rows
        if row.family.split()[1] == family
        and row.config["parametrization"]["_target_"] == target
        and row.config["model"]["width"] == width
    ]
    return np.asarray([loss for _, _, loss in sorted(found)]).reshape(SEEDS, len(RATES))


def best(loss: np.ndarray) -> tuple[float, float]:
    """Log2 of the rate and the loss at the parabola's lowest point; NaN at the grid's edge."""
    place = int(np.nanargmin(loss))
    if not 0 < place < len(loss) - 1:
        return np.nan, np.nan
    near = slice(place - 1, place + 2)
    a, b, c = np.polyfit(np.log2(RATES[near]), loss[near], 2)
    return -b / (2 * a), c - b**2 / (4 * a)


folder = Path(sys.argv[1] if len(sys.argv) > 1 else "multirun/rate_transfer-mnist1d")
words = ["+experiment=rate_transfer", *sys.argv[2:], f"hydra.sweep.dir={folder}"]
rows = [run.row for run in smallnets.train(smallnets.plan(*words))]

table = Table(title="Train loss in nats, MNIST-1D, 200 steps; seeds in brackets")
for column in ("family", "parametrization", "best rate at 32", "at 512", "drift in octaves"):
    table.add_column(column, no_wrap=column.startswith("drift"))
table.add_column("loss at 512: its best rate", justify="right")
table.add_column("the best of 32", justify="right")
caption = (
    f"Train loss over the learning rate of AdamW, means of {SEEDS} seeds, MNIST-1D, 200 steps of "
    "32 examples. Markers: the lowest point of a parabola through the lowest three."
)
labels = [f"width {width}" for width in WIDTHS]
every = [losses(rows, f, p, w).mean(0) for f in FAMILIES for p in PARAMETRIZATIONS for w in WIDTHS]
x = axis("learning rate", span(RATES))
y = axis("train loss (nats)", span(np.concatenate(every), kind="linear"), kind="linear")
panels = []
for parametrization in PARAMETRIZATIONS:
    for family in FAMILIES:
        each = [losses(rows, family, parametrization, width) for width in WIDTHS]
        curves = {
            name: pl.DataFrame({"family": name, "x": RATES, "y": loss.mean(0)})
            for name, loss in zip(labels, each, strict=True)
        }
        found = [best(loss.mean(0)) for loss in each]
        lowest = pl.DataFrame(
            {"family": labels, "x": [2**rate for rate, _ in found], "y": [y for _, y in found]}
        )
        marks = [*lines(curves, labels, labels), markers(lowest.drop_nans(), labels)]
        title = f"{family}, {parametrization}"
        panels.append(panel(marks, x, y, height=170, title=title, legend=True))
        narrow, wide = found[0], found[-1]
        seeds = [best(w)[0] - best(n)[0] for n, w in zip(each[0], each[-1], strict=True)]
        carried = np.interp(narrow[0], np.log2(RATES), each[-1].mean(0))
        table.add_row(
            family,
            parametrization,
            *(f"{2**rate:.2g}" for rate, _ in (narrow, wide)),
            f"{wide[0] - narrow[0]:+.1f} ({', '.join(f'{each:+.1f}' for each in seeds)})",
            *(f"{each:.2f}" for each in (wide[1], carried)),
        )
save(folder, "rate_transfer", panels, columns=3, caption=caption, key=key_width(labels))
Console(width=120).print(table)
print(f"figure: {folder / 'rate_transfer.png'}")

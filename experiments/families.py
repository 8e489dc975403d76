"""How small can a residual network be on MNIST-1D, and which layers make it small?

    python experiments/families.py [FOLDER] [WORDS]        six to ten minutes on two cores

Trains the experiment ``mnist1d`` into FOLDER, but for the runs that are there, and draws the mean
test error of each family over its stored parameters: the figure of the README. Laws, intervals and
what is not established are in the report that ``smallnets analyse FOLDER`` writes.
"""

import sys
from pathlib import Path

import polars as pl

import smallnets
from smallnets.analysis.panels import axis, key_width, lines, markers, panel, save, span
from smallnets.analysis.select import best_rate
from smallnets.analysis.table import read

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "multirun/mnist1d-mnist1d")
words = ["+experiment=mnist1d", *sys.argv[2:], f"hydra.sweep.dir={folder}"]
smallnets.train(smallnets.plan(*words))

chosen = best_rate(read(folder)).runs.group_by("family", "parameters").agg(pl.mean("test_error"))
points = chosen.select(
    "family", pl.col("parameters").alias("x"), (100 * pl.col("test_error")).alias("y")
)
curves = {name: part for (name,), part in points.sort("x").group_by("family")}
families = sorted(curves)
drawn = panel(
    [*lines(curves, families, families), markers(points, families)],
    axis("stored parameters", span(points["x"])),
    axis("test error, percent", span(points["y"], kind="linear"), kind="linear"),
    height=300,
    legend=True,
)
save(folder, "families", [drawn], columns=1, key=key_width(families), width=420)
print(f"figure: {folder / 'families.png'}")

"""How small can a residual network be on MNIST-1D, and which layers make it small?

    python experiments/families.py [FOLDER] [WORDS]        about 6 minutes on two cores

Trains the experiment ``mnist1d`` into FOLDER, but for the runs that are there, and draws the mean
test error of each family over its stored parameters: the figure of the README. Laws, intervals and
what is not established are in the report that ``smallnets analyse FOLDER`` writes.
"""

import sys
from pathlib import Path

import polars as pl
from matplotlib.figure import Figure

import smallnets
from smallnets.analysis.select import best_rate
from smallnets.analysis.table import read

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "multirun/mnist1d-mnist1d")
words = ["+experiment=mnist1d", *sys.argv[2:], f"hydra.sweep.dir={folder}"]
smallnets.train(smallnets.plan(*words))

chosen = best_rate(read(folder)).runs.group_by("family", "parameters").agg(pl.mean("test_error"))
looks = {"dense": ("black", "o"), "low_rank": ("C0", "s"), "monarch": ("C2", "^")}
looks |= {"shared": ("C1", "D"), "mixture": ("C3", "v")}
figure = Figure(figsize=(5.2, 3.4), layout="constrained")
axis = figure.subplots()
for family, (colour, marker) in looks.items():
    curve = chosen.filter(family=family).sort("parameters")
    error = 100 * curve["test_error"]
    axis.plot(curve["parameters"], error, marker=marker, color=colour, ms=5, lw=1.2, label=family)
axis.set_xscale("log")
axis.set_xlabel("stored parameters")
axis.set_ylabel("test error, percent")
axis.legend(frameon=False)
axis.spines[["top", "right"]].set_visible(False)
figure.savefig(folder / "families.png", dpi=200)
print(f"figure: {folder / 'families.png'}")

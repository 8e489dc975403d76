"""Do the published accuracies on MNIST-1D come out?

    python experiments/mnist1d_table.py [FOLDER] [WORDS]        about 2 minutes on two cores

Trains the experiment ``mnist1d_table`` (the authors' recipe, 5 seeds) into FOLDER, but for the runs
that are there, and prints it beside two sources: the authors' table (Greydanus & Kobak 2020,
arXiv:2011.14439, best of one run) and a refit of theirs over 5 seeds. "Best" is the best of 24
evaluations on the test split, as the published numbers are: it flatters.
"""

import sys
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

import smallnets

# network: name, published best, refit at the last step, refit at the best step; in percent
SOURCES = {
    "logistic": ("logistic regression", 32, 31.3, 32.9),
    "perceptron": ("MLP", 68, 65.0, 66.0),
    "convolutional": ("CNN", 94, 93.6, 94.0),
}

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "multirun/mnist1d_table-mnist1d")
words = ["+experiment=mnist1d_table", *sys.argv[2:], f"hydra.sweep.dir={folder}"]
runs = smallnets.train(smallnets.plan(*words))

table = Table(title="MNIST-1D, accuracy on the 1,000 test examples, percent")
for column in ("network", "parameters", "published", "refit", "ours, last step", "refit", "best"):
    table.add_column(column, justify="left" if column == "network" else "right")
for network, (name, published, refit_last, refit_best) in SOURCES.items():
    rows = [run.row for run in runs if run.row.family.split()[0] == network]
    accuracy = 100 * (1 - np.asarray([row.curves["test_error"] for row in rows]))
    last, best = accuracy[:, -1], accuracy.max(axis=1)
    table.add_row(
        name,
        f"{rows[0].parameters:,}",
        f"{published}",
        f"{refit_last}",
        f"{last.mean():.1f} ± {last.std(ddof=1):.1f}",
        f"{refit_best}",
        f"{best.mean():.1f} ± {best.std(ddof=1):.1f}",
    )
Console().print(table)

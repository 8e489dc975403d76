"""Does a fitted asymptote find the entropy of a language that is known?

    python experiments/known_asymptote.py [FOLDER] [WORDS]        about 8 minutes on two cores

Trains the experiment ``known_asymptote`` into FOLDER, but for the runs that are there, fits the law
E + A N^-alpha to the test loss over the parameters N, and prints E with its interval beside the
truth: no network's expected loss is below ``smallnets.tasks.random_hierarchy.bayes_loss``. All
sizes train for as many steps: what training leaves undone at every size is in E too, and can only
raise it. Found: E = 0.725, 95 % interval 0.709 to 0.739; the entropy is 0.719 nats per token.
"""

import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

import smallnets
from smallnets.analysis.laws import ASYMPTOTE
from smallnets.analysis.study import analyse, means
from smallnets.analysis.table import read
from smallnets.tasks.random_hierarchy import bayes_loss

GRAMMAR = ("seed", "symbols", "rules", "branches", "depth")

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "multirun/known_asymptote-random_hierarchy")
words = ["+experiment=known_asymptote", *sys.argv[2:], f"hydra.sweep.dir={folder}"]
smallnets.train(smallnets.plan(*words))

runs = read(folder)
truth = bayes_loss(**{name: int(runs[f"config.task.{name}"][0]) for name in GRAMMAR})
study = analyse(runs, score="test_loss", validation="validation_loss", laws=(ASYMPTOTE,))
(curve,) = study.curves
(floor,) = (each for each in curve.intervals if each.parameter == "E")

table = Table(title=f"test loss of {curve.family}, nats per token, mean of the seeds")
for column in ("parameters", "runs", "loss", "above the entropy"):
    table.add_column(column, justify="right")
for line in means(curve, study.columns).iter_rows(named=True):
    loss = line["mean"]
    table.add_row(f"{line['size']:,}", f"{line['runs']}", f"{loss:.4f}", f"{loss - truth:.4f}")
console = Console()
console.print(table)
said = "holds" if floor.low <= truth <= floor.high else "does not hold"
console.print(
    f"E = {floor.estimate:.4f}, 95 % interval {floor.low:.4f} to {floor.high:.4f} "
    f"({floor.method}); the entropy is {truth:.4f}: the interval {said} it"
)

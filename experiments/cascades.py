"""Does a small network that passes on what it is unsure of beat both itself and the large one?

    python experiments/cascades.py mnist1d [FOLDER] [WORDS]
    python experiments/cascades.py fashion_mnist [FOLDER] [WORDS]

A large network (residual, width 128 and depth 4; LeNet-300-100) and a small one, distilled from the
large one of its seed for as many steps, ten seeds; the small one's rate is that, of three, of the
lowest mean validation error on two other seeds. The cascade of each pair takes confidence and
temperatures from validation examples, at half of the large one's FLOPs at most. Prints errors, and
differences paired by seed with their 95 % intervals; cascades.csv holds each pair.
"""

import sys
from pathlib import Path

import numpy as np
import polars as pl
from fewer_bytes import RATE, SEEDS, TUNING, errors, trained

import smallnets
from smallnets import hybrid
from smallnets.analysis.paired import difference

ALL, RATES = "range(12)", ("1e-3", "3e-3", "1e-2")
LARGE = {
    "mnist1d": ["model.width=128", "model.depth=4", "steps=1000", f"{RATE}=3e-3"],
    "fashion_mnist": ["model=lenet_300_100", "steps=4220", f"{RATE}=1e-3"],
}
SMALL = {
    "mnist1d": ["model.width=40", "model.depth=4", "steps=1000"],
    "fashion_mnist": ["model=lenet_300_100", "model.widths=[60,20]", "steps=4220"],
}


def study(task: str, folder: Path, words: list[str]) -> pl.DataFrame:
    """What each seed's cascade and its members come to."""
    words = [f"task={task}", *words]
    large = trained(folder / "large", [*LARGE[task], *words, f"seed={ALL}"])[:-2]
    taught = [*SMALL[task], *words, "+distil=logits", f"distil.teacher={folder}/large"]
    tried = trained(folder / "small", [*taught, f"{RATE}={','.join(RATES)}", f"seed={TUNING}"])
    found = np.nan_to_num(errors(tried, "validation"), nan=100).reshape(len(RATES), -1)
    rate = RATES[int(found.mean(axis=-1).argmin())]
    small = trained(folder / "small", [*taught, f"{RATE}={rate}", f"seed={SEEDS}"])
    data, lines = smallnets.plan(*words).programs[0].data, []
    for pair in zip(small, large, strict=True):
        made = hybrid.cascade([smallnets.load(run.folder) for run in pair], data)
        line = {"seed": pair[0].row.seed, "small": made.errors[0], "large": made.errors[1]}
        line |= {"cascade": made.chosen.error, "flops_share": made.flops_share.estimate}
        line |= {"passed_on": 1 - made.chosen.shares[0], "small_rate": float(rate)}
        lines.append(line | {"random": made.chosen.random, "oracle": made.chosen.oracle})
    return pl.DataFrame(lines)


if __name__ == "__main__":
    task = next((word for word in sys.argv[1:] if word in LARGE), "")
    if not task:
        raise SystemExit(f"name one of {', '.join(LARGE)}")
    others = [word for word in sys.argv[1:] if word != task]
    folders = [word for word in others if "=" not in word]
    folder = Path(folders[0] if folders else f"multirun/cascades-{task}")
    table = study(task, folder, [word for word in others if "=" in word])
    table.write_csv(folder / "cascades.csv")
    mean = {name: float(table[name].to_numpy().mean()) for name in table.columns}
    for name in ("small", "large", "random", "oracle", "cascade"):
        print(f"{name}: test error {100 * mean[name]:.2f} %")
    print(f"passed on {mean['passed_on']:.2f}, mean FLOPs {mean['flops_share']:.2f} of the large's")
    for name in ("small", "large", "random"):
        told = difference(100 * (table["cascade"] - table[name]).to_numpy())
        ends = ", ".join(f"{told[end]:+.2f}" for end in ("low", "high"))
        print(f"cascade - {name}: {told['difference']:+.2f} points (95 % {ends})")

"""How many times fewer bytes can a trained network take before it answers worse?

    python experiments/fewer_bytes.py [FOLDER] [WORDS]        about half an hour on two idle cores

On MNIST-1D: a residual network of width 128 and depth 4 is trained for 1,000 steps, ten seeds, and
one more as the teacher. What all else is compared with is that network trained on for STEPS steps
with the teacher's answers. The routes take as many steps after their parent, with the same answers:
factorised and then trained in a code, or a small network trained in a code from the start; all are
sized by the budget of a file with 40 times fewer bytes. A route's learning rate is that of two with
the lower mean validation error on two seeds that take no other part. Prints bytes on disk, test
error, and the 95 % interval (Student's t) of the paired difference to the reference; "holds" is an
upper end of at most one point.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import stats

import smallnets
from smallnets import models
from smallnets.sweep.execute import Run

SEEDS, TUNING, TEACHER = range(10), range(10, 12), 13
STEPS, RATES, TIMES = 1000, (1e-3, 3e-3), 40
LARGE = ["model.width=128", "model.depth=4"]
AWARE = "compress=[factorise,quantisation_aware]"
CODE, GROUP = (f"compress.quantisation_aware.view.{name}" for name in ("code", "group"))
VIEW = "_target_:smallnets.compress.quantisation_aware,_partial_:true,code:int4,group:32"


class Route(NamedTuple):
    """A way to a small model: its words, and whether it begins with the large one."""

    name: str
    words: list[str]
    begins_large: bool = True


def routes(size: int) -> list[Route]:
    """The reference, and the routes to a file of ``size`` bytes."""
    small = [f"budget.file_bytes={size}", "budget.at_most=true"]
    return [
        Route("large, trained on", ["compress=[finetune]"]),
        Route("SVD, int4", [AWARE, f"{CODE}=int4", f"{GROUP}=32", *small]),
        Route("SVD, ternary", [AWARE, f"{CODE}=ternary", f"{GROUP}=0", *small]),
        Route("small, int4", ["model.depth=4", f"view={{{VIEW}}}", *small], begins_large=False),
    ]


def trained(folder: Path, seeds: Sequence[int], words: list[str]) -> list[Run]:
    listed = ",".join(map(str, seeds))
    return smallnets.train(
        smallnets.plan(*words, f"seed={listed}", "evaluations=2", f"hydra.sweep.dir={folder}")
    )


def of_route(folder: Path, route: Route, rate: float, seeds: Sequence[int]) -> list[Run]:
    said = [*route.words, f"optimizer.learning_rate={rate}", f"steps={STEPS}"]
    if route.begins_large:
        said.append(f"start={folder}/large")
    said += ["+distil=logits", f"distil.teacher={folder}/teacher"]
    return trained(folder / route.name.replace(" ", "_").replace(",", ""), seeds, said)


def errors(runs: list[Run], split: str = "test") -> np.ndarray:
    return 100 * np.array([run.row.metrics[f"{split}_error"] for run in runs])


if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "multirun/fewer_bytes-mnist1d")
    words = [*LARGE, "steps=1000", "optimizer.learning_rate=3e-3", *sys.argv[2:]]
    large = trained(folder / "large", [*SEEDS, *TUNING], words)
    (teacher,) = trained(folder / "teachers", [TEACHER], words)
    if not (folder / "teacher").exists():
        (folder / "teacher").symlink_to(teacher.folder.absolute())
    size = (large[0].folder / models.NAME).stat().st_size
    table = Table("route", "rate", "bytes on disk", "fewer", "test error, %", "paired difference")
    before = errors(large[: len(SEEDS)])
    table.add_row("large", "", f"{size:,}", "1", f"{before.mean():.1f} ± {before.std(ddof=1):.1f}")
    reference = np.zeros(0)
    for route in routes(size // TIMES):
        tried = [errors(of_route(folder, route, each, TUNING), "validation") for each in RATES]
        rate = RATES[int(np.argmin([found.mean() for found in tried]))]
        runs = of_route(folder, route, rate, SEEDS)
        found = errors(runs)
        size_now = (runs[0].folder / models.NAME).stat().st_size
        said = ""
        if len(reference):
            difference = found - reference
            half = stats.t.ppf(0.975, len(found) - 1) * stats.sem(difference)
            ends = difference.mean() - half, difference.mean() + half
            said = f"{difference.mean():+.1f} [{ends[0]:+.1f}, {ends[1]:+.1f}]"
            said += ", holds" if ends[1] <= 1 else f", fails by {ends[1] - 1:.1f}"
        else:
            reference = found
        table.add_row(
            route.name,
            f"{rate:g}",
            f"{size_now:,}",
            f"{size / size_now:.1f}",
            f"{found.mean():.1f} ± {found.std(ddof=1):.1f}",
            said,
        )
    Console(width=140).print(table)

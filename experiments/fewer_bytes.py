"""How many times fewer bytes can a trained network take before it answers worse?

    python experiments/fewer_bytes.py [FOLDER] [WORDS]

A residual network of width 128 and depth 4 on MNIST-1D, ten seeds, and one more as the teacher. The
reference is that network trained on for as many steps with the teacher's answers. The routes learn
from these too: factorised, then trained in a code, or small and trained in a code, each sized by
the budget of a file with 40 times fewer bytes. They take as many steps after their parent as the
reference, and, "equal FLOPs", as many as make all training, parent and teacher included, cost the
same. Of four rates that with the lowest validation error on two other seeds is taken. "holds": the
95 % interval of the paired difference ends at one point at most.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

import smallnets
from smallnets import models
from smallnets.analysis.paired import difference
from smallnets.sweep.execute import Run

ALL, SEEDS, TUNING, TEACHER = "range(12)", "range(10)", "10,11", "13"
RATE, RATES, TIMES = "optimizer.learning_rate", ("1e-3", "3e-3", "1e-2", "3e-2"), 40
AWARE = "compress=[factorise,quantisation_aware]"
CODE, GROUP = (f"compress.quantisation_aware.view.{name}" for name in ("code", "group"))
VIEW = "view={_target_:smallnets.compress.quantisation_aware,_partial_:true,code:int4,group:32}"
Small = Callable[[int], list[str]]  # the words of a small network whose file has so many bytes


class Route(NamedTuple):  # a way to a small model
    name: str
    words: list[str]
    begins_large: bool = True


def by_width(size: int) -> list[str]:
    return ["model.depth=4", f"budget.file_bytes={size}", "budget.at_most=true"]


def trained(folder: Path, words: list[str]) -> list[Run]:
    return smallnets.train(smallnets.plan("evaluations=2", *words, f"hydra.sweep.dir={folder}"))


def of_route(folder: Path, route: Route, words: list[str], steps: int) -> tuple[str, list[Run]]:
    """The rate that validation errors choose, and the runs with it."""
    said = [*words, *route.words, f"steps={steps}", "+distil=logits"]
    said += [f"distil.teacher={folder}/teacher", *[f"start={folder}/large"] * route.begins_large]
    place = folder / f"{route.name.replace(' ', '_').replace(',', '')}-{steps}"
    tried = trained(place, [*said, f"{RATE}={','.join(RATES)}", f"seed={TUNING}"])
    each = np.nan_to_num(errors(tried, "validation"), nan=100).reshape(len(RATES), -1)
    rate = RATES[int(each.mean(axis=-1).argmin())]
    return rate, trained(place, [*said, f"{RATE}={rate}", f"seed={SEEDS}"])


def errors(runs: list[Run], split: str = "test") -> np.ndarray:
    return 100 * np.array([run.row.metrics[f"{split}_error"] for run in runs])


def against(found: np.ndarray, reference: np.ndarray, margin: float) -> str:
    mean, low, high, _ = difference(found - reference).values()
    assert high is not None, "a study has several seeds"
    said = f"{mean:+.2f} [{low:+.2f}, {high:+.2f}]"
    return said + (", holds" if high <= margin else f", fails by {high - margin:.2f}")


def study(folder: Path, begin: list[str], small: Small, words: list[str], margin: float) -> None:
    """Print what the routes to a file of fewer bytes come to, against the large network."""
    large = trained(folder / "large", [*begin, *words, f"seed={ALL}"])[:-2]
    (teacher,) = trained(folder / "teachers", [*begin, *words, f"seed={TEACHER}"])
    if not (folder / "teacher").exists():
        (folder / "teacher").symlink_to(teacher.folder.absolute())
    steps, flops = large[0].row.config["steps"], large[0].row.costs["flops"]
    size = (large[0].folder / models.NAME).stat().st_size
    budget = [f"budget.file_bytes={size // TIMES}", "budget.at_most=true"]
    table = Table("route", "rate", "steps", "bytes", "fewer", "test error, %", "difference")

    def add(name: str, rate: str, steps: int, runs: list[Run], said: str = "") -> None:
        found, now = errors(runs), (runs[0].folder / models.NAME).stat().st_size
        numbers = [rate, f"{steps:,}", f"{now:,}", f"{size / now:.1f}"]
        table.add_row(name, *numbers, f"{found.mean():.2f} ± {found.std(ddof=1):.2f}", said)

    on = Route("large, trained on", ["compress=[finetune]"])
    rate, reference = of_route(folder, on, words, steps)
    add("large", f"{large[0].row.config['optimizer']['learning_rate']:g}", steps, large)
    add(on.name, rate, steps, reference)
    for route in (
        Route("SVD, int4", [AWARE, f"{CODE}=int4", f"{GROUP}=32", *budget]),
        Route("SVD, ternary", [AWARE, f"{CODE}=ternary", f"{GROUP}=0", *budget]),
        Route("small, int4", [VIEW, *small(size // TIMES)], begins_large=False),
    ):
        now = steps
        for name in (route.name, f"{route.name}, equal FLOPs"):
            rate, runs = of_route(folder, route, words, now)
            add(name, rate, now, runs, against(errors(runs), errors(reference), margin))
            times = (1 if route.begins_large else 2) * flops / runs[0].row.costs["flops"]
            now = 2 * round(times * steps / 2)
    Console(width=140).print(table)


if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "multirun/fewer_bytes-mnist1d")
    begin = ["model.width=128", "model.depth=4", "steps=1000", f"{RATE}=3e-3"]
    study(folder, begin, by_width, sys.argv[2:], margin=1.0)

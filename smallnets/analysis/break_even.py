"""After how many answers a small model has paid for its own making, in joules.

    answers = joules of its making / (joules of an answer of the large one - of the small one)

Its making is every training and pass that led to it: its own, its parents' and its teachers'.
Trials that were not chosen are in no row's making, and so in none of these numbers.
"""

import glob
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from smallnets import rows
from smallnets.rows import Row

DRAWS = 2000
BUSY_CORE_WATTS = 1.9  # of measure.energy, which needs JAX; a test holds the two equal


class BreakEven(NamedTuple):
    """How many answers pay, with the interval's ends; infinite where no number of them does.

    ``never`` is the share of the bootstrap's draws in which none does.
    """

    answers: float
    low: float
    high: float
    never: float

    def __str__(self) -> str:
        if math.isinf(self.answers):
            end = f", though by the interval perhaps after {_count(self.low)}"
            return "never" + (end if math.isfinite(self.low) else "")
        if math.isinf(self.high):
            return (
                f"after {_count(self.answers)} answers (95 % interval from {_count(self.low)}, "
                f"without an upper end: never in {self.never:.0%} of the draws)"
            )
        ends = f"{_count(self.low)} to {_count(self.high)}"
        alone = self.low == self.high
        return f"after {_count(self.answers)} answers" + ("" if alone else f" (95 % {ends})")


def break_even(bills: Any, savings: Any, *, seed: int = 0, level: float = 0.95) -> BreakEven:
    """mean(bills) / mean(savings), with a percentile interval of a bootstrap over seeds.

    ``bills[seeds]`` are what was spent on the small one, ``savings[seeds, rounds]`` what an answer
    of it saved, measured so often: of each seed drawn the rounds are drawn too, and their median
    counts. Where nothing is saved no number of answers pays, which is infinity.

    Source: Efron & Tibshirani 1993, An Introduction to the Bootstrap, chapters 8 and 13.
    """
    bills, savings = np.asarray(bills, float), np.asarray(savings, float)
    draw = np.random.default_rng(seed)
    seeds, rounds = savings.shape
    places = draw.integers(seeds, size=(DRAWS, seeds))
    turns = draw.integers(rounds, size=(DRAWS, seeds, rounds))
    saved = np.median(savings[places[..., None], turns], axis=-1).mean(axis=-1)
    found = _ratio(bills[places].mean(axis=-1), saved)
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2], method="nearest")
    middle = _ratio(bills.mean(), np.median(savings, axis=-1).mean())
    return BreakEven(float(middle), float(low), float(high), float(np.isinf(found).mean()))


def made_of(row: Row, folder: Path) -> dict[str, Row]:
    """Every run that led to this one, itself among them, by their keys.

    They are looked for beside the run, in the studies beside its own, and where its config's
    ``start`` and ``teacher`` point. Raises ValueError for one that is not there.
    """
    found = {row.key: row}
    said = (row.config.get("distil") or {}).get("teacher") or []
    places = [row.config.get("start") or "", *([said] if isinstance(said, str) else said)]
    for key in _before(row):
        if key not in found:
            at = _find(key, folder, [place for place in places if place])
            found |= made_of(rows.read(at), at)
    return found


def training_flops(row: Row) -> float:
    """FLOPs of the products of a run's steps: three times a forward pass for each example.

    Not those of a pass, of evaluations and of a teacher's answers; NaN where they are not counted.
    """
    steps = row.config["steps"] * row.config["batch_size"]
    return 3 * steps * row.costs.get("flops", math.nan) if steps else 0.0


def paid(table: pl.DataFrame) -> list[str]:
    """Of each chain in a table of rows, after how many answers its last model has paid for it.

    The large one is the model that the chain began with, trained anyway. An answer is a call of
    one example, of as many milliseconds as the rows' own timings say: each stage's against its
    parent's, multiplied. Its joules are those of a busy core, so no sentence where trainings were
    metered.
    """
    needed = ["family", "key", "parent", "route", "energy.joules", "energy.source"]
    timed = ["costs.latency_ms", "costs.parent_latency_ms"]
    if not {*needed, *timed} <= {*table.columns}:
        return []
    chosen = table.select(*needed, *timed).iter_rows(named=True)
    runs = {run["key"]: run for run in chosen}
    inner = {run["parent"].rpartition("-")[0] for run in runs.values() if run["parent"]}
    chains: dict[str, list[tuple[float, float]]] = {}
    for key, run in runs.items():
        if key in inner or not run["route"]:
            continue
        stages = [run, *_above(run, runs)]
        whole = all(s[name] is not None for s in stages for name in (*timed, "energy.joules"))
        if whole and {s["energy.source"] for s in stages} == {"model"}:
            share = math.prod(s[timed[0]] / s[timed[1]] for s in stages)
            saving = BUSY_CORE_WATTS * 1e-3 * stages[-1][timed[1]] * (1 - share)
            bill = sum(s["energy.joules"] for s in stages)
            chains.setdefault(run["family"], []).append((bill, saving))
    said = []
    for family, pairs in chains.items():
        bills, savings = np.array(pairs).T
        said.append(
            f"{family} has paid for its compression, in joules of a busy core (model) and "
            f"answering one at a time, {break_even(bills, savings[:, None])}; of "
            f"{len(pairs)} seed{'s' * (len(pairs) > 1)}, the model that it began with not counted."
        )
    return said


def _above(run: dict[str, Any], runs: dict[str, dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The stages of a chain before this one, the last first."""
    before = runs.get(run["parent"].rpartition("-")[0])
    if before is not None and before["route"]:
        yield before
        yield from _above(before, runs)


def _before(row: Row) -> list[str]:
    """The keys of the runs that this one starts from and learns from.

    A teacher that is a function, whose name has a dot, was made by no run.
    """
    keys = [key for said in (row.parent, row.teacher) for key in said.rpartition("-")[0].split("+")]
    return [key for key in keys if key and "." not in key]


def _find(key: str, folder: Path, places: list[str]) -> Path:
    study = Path(glob.escape(str(folder.absolute().parent)))
    patterns = [f"{study}/{key}", f"{study.parent}/*/{key}"]
    patterns += [each for place in places for each in (place, f"{place}/{key}", f"{place}/*/{key}")]
    for pattern in patterns:
        for at in sorted(glob.glob(pattern)):
            if (Path(at) / rows.NAME).is_file() and rows.read(Path(at)).key == key:
                return Path(at)
    raise ValueError(
        f"{folder} was made from the run {key}, which is not there, so that its joules are not "
        "known: run this where its start and teacher lie, or put it beside"
    )


def _ratio(bill: Any, saved: Any) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(saved > 0, bill / saved, np.inf)


def _count(answers: float) -> str:
    return f"{answers:,.0f}" if answers < 1e6 else f"{answers / 1e6:,.3g} million"

"""Studies with known truth through the whole analysis, and how often what it prints holds.

Three families are drawn, two of them copies of one and a third that needs more; the table goes
through ``analyse`` and ``compared`` as that of the command, the law unknown to them. Counted is
what a reader sees: the intervals of exponent and asymptote, the predictions at 3 and 10 times the
largest size, the multiplier that leads, how often two copies differ, and how often lack of fit is
found or the shape of the law questioned where it is right. Of pilots it is counted how often the
designs that ``--next`` proposes show what they were drawn up for, beside the power it stated.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import product
from zlib import crc32

import numpy as np
import polars as pl

from smallnets.analysis.compare import Comparison, compared
from smallnets.analysis.planning import Question, design
from smallnets.analysis.study import Study, analyse

SERIES = 2  # of seeds: raised before a drawing where the analysis was changed by what one showed
SMALLEST, DECADES = 1e3, 2.0
AHEAD = (3, 10)
BENT = {
    "S-shaped": lambda z: 0.15 + 0.75 / (1 + np.exp(1.6 * (z - 2.3))),
    "two regimes": lambda z: np.exp(-0.05 * z - 0.12 * np.logaddexp(0, (z - 2.3) / 0.2)),
    "plateau": lambda z: 0.9 * np.exp(-0.45 * np.minimum(z, 2.8) - 0.01 * z),
}
UNSEEN = {  # drawn up after the curves of ``interpolation.scatter`` had been chosen by those above
    "steep S": lambda z: 0.3 + 0.6 / (1 + np.exp(3 * (z - 1.8))),
    "early break": lambda z: np.exp(-0.4 * np.minimum(z, 1.5) - 0.12 * np.maximum(z - 1.5, 0)),
    "two breaks": lambda z: np.exp(-0.6 * np.clip(z - 1.2, 0, 1.8) - 0.02 * z),
}
BENT_FACTOR = 1.5  # of the third family's sizes in a bent truth


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A kind of study: E + A (N / 1000)^-alpha over two decades, or a ``bent`` truth.

    ``seed_error`` and ``size_error`` are standard deviations of the log score, of each run and
    shared by the runs of a size; ``third`` is the third family's factor on the part that falls.
    """

    sizes: int
    seeds: int
    floor: float = 0.3
    scale: float = 0.6
    alpha: float = 0.5
    seed_error: float = 0.02
    size_error: float = 0.0
    third: float = 1.5
    bent: str = ""

    def __str__(self) -> str:
        truth = self.bent or f"E {self.floor:g}, alpha {self.alpha:g}"
        return f"{truth}, {self.sizes} x {self.seeds}, error of sizes {self.size_error:g}"

    def truth(self, size: np.ndarray | float, family: str) -> np.ndarray:
        """The mean score of a family at sizes."""
        z = np.log(np.asarray(size, float) / SMALLEST)
        third = family == "third"
        if self.bent:
            return (BENT | UNSEEN)[self.bent](z - third * np.log(BENT_FACTOR))
        scale = self.scale * (self.third if third else 1.0)
        return self.floor + scale * np.exp(-self.alpha * z)

    @property
    def multiplier(self) -> float:
        """How many times less the copies need than the third family."""
        return BENT_FACTOR if self.bent else self.third ** (1 / self.alpha)

    def draw(self, random: np.random.Generator) -> pl.DataFrame:
        """The runs of one study."""
        size = np.geomspace(SMALLEST, SMALLEST * 10**DECADES, self.sizes)
        x = np.repeat(size, self.seeds)
        lines = []
        for family in ("first", "copy", "third"):
            error = self.seed_error * random.standard_normal(len(x))
            error += self.size_error * np.repeat(random.standard_normal(self.sizes), self.seeds)
            lines.append(
                pl.DataFrame(
                    {
                        "family": [family] * len(x),
                        "parameters": x,
                        "seed": np.tile(np.arange(self.seeds), self.sizes),
                        "test_error": self.truth(x, family) * np.exp(error),
                    }
                )
            )
        return pl.concat(lines)


CELLS = tuple(
    Cell(floor=floor, scale=scale, alpha=alpha, sizes=sizes, seeds=seeds, size_error=error)
    for (floor, scale, alpha), (sizes, seeds), error in product(
        ((0.3, 0.6, 0.5), (0.1, 0.6, 0.3), (0.0, 0.9, 0.25)),
        ((5, 3), (6, 5), (8, 3)),
        (0.0, 0.02, 0.03),
    )
)
BENT_CELLS, UNSEEN_CELLS = (
    tuple(
        Cell(bent=bent, sizes=sizes, seeds=3, size_error=0.02)
        for bent in truths
        for sizes in (6, 8)
    )
    for truths in (BENT, UNSEEN)
)

PILOT_CELLS = tuple(
    Cell(
        floor=floor,
        scale=scale,
        alpha=alpha,
        sizes=sizes,
        seeds=seeds,
        size_error=error,
        third=1.1,
    )
    for (floor, scale, alpha), (sizes, seeds, error) in product(
        ((0.3, 0.6, 0.5), (0.0, 0.9, 0.25)), ((5, 3, 0.02), (6, 3, 0.04), (8, 2, 0.0))
    )
)
ASKED_AT = 0.5  # the score of the pilots' question, which all their families reach


@dataclass(kw_only=True)
class Counts:
    """How often each quantity was said, and how often what was said held."""

    said: dict[str, int] = field(default_factory=dict)
    held: dict[str, int] = field(default_factory=dict)

    def add(self, name: str, holds: bool) -> None:
        """Count one saying."""
        self.said[name] = self.said.get(name, 0) + 1
        self.held[name] = self.held.get(name, 0) + bool(holds)

    def join(self, other: "Counts") -> None:
        """Pool with the counts of another cell."""
        for name, said in other.said.items():
            self.said[name] = self.said.get(name, 0) + said
            self.held[name] = self.held.get(name, 0) + other.held[name]

    def share(self, name: str) -> float:
        """How often a quantity held, NaN where it was never said."""
        said = self.said.get(name, 0)
        return self.held[name] / said if said else float("nan")


COVERAGES = ("exponent", "asymptote", "at 3 x", "at 10 x", "multiplier", "by interpolation")
RATES = ("copies differ", "lack of fit", "shape questioned", "power law preferred")


def simulate(cell: Cell, studies: int, *, part: int = 0) -> Counts:
    """Draw ``studies`` studies of a cell, in each ``part`` the same ones each time, and count."""
    random = np.random.default_rng((SERIES, part, crc32(str(cell).encode())))
    counts = Counts()
    largest = SMALLEST * 10**DECADES
    for _ in range(studies):
        study = analyse(cell.draw(random), predict=[largest * factor for factor in AHEAD])
        for name, holds in _said(cell, study, compared(study)[1]):
            counts.add(name, holds)
    return counts


def _said(cell: Cell, study: Study, pairs: tuple[Comparison, ...]) -> Iterator[tuple[str, bool]]:
    """What a study prints, and whether it holds."""
    for curve in study.curves:
        for interval in curve.intervals:
            if cell.bent:
                break
            truth = {"E": cell.floor, "alpha": cell.alpha}.get(interval.parameter)
            if truth is not None:
                name = {"E": "asymptote", "alpha": "exponent"}[interval.parameter]
                yield name, interval.low <= truth <= interval.high
        for factor, at in zip(AHEAD, curve.predictions, strict=False):
            truth = float(cell.truth(at.x[0], curve.family))
            yield f"at {factor} x", at.low <= truth <= at.high
        if curve.lack_of_fit is not None:
            yield "lack of fit", curve.lack_of_fit.found
    yield "shape questioned", study.shape.questioned
    if study.verdict is not None:
        yield "power law preferred", not study.verdict.settled
    for pair in pairs:
        names = {pair.family, pair.other}
        value, low, high, p_value = pair.answer
        if names == {"first", "copy"}:
            if not np.isnan(p_value):
                yield "copies differ", p_value < 0.05
            continue
        truth = cell.multiplier if pair.other == "third" else 1 / cell.multiplier
        if not np.isnan(value):
            yield "multiplier", low <= truth <= high
        beside = pair.interpolated
        yield "interpolation refused", bool(beside.reason)
        if not beside.reason:
            yield "by interpolation", beside.low <= truth <= beside.high


def simulate_plans(cell: Cell, pilots: int, *, part: int = 0) -> list[tuple[float, bool]]:
    """Of each pilot's two designs, the proposed one and its own: (power stated, whether shown).

    A design is carried out once on the truth, with other errors than the pilot's.
    """
    random = np.random.default_rng((SERIES, part, crc32(f"pilots of {cell}".encode())))
    asked = Question(family="first", other="third", score=ASKED_AT, factor=cell.multiplier)
    found = []
    for _ in range(pilots):
        plan = design(analyse(cell.draw(random)), asked, seed=int(random.integers(2**31)))
        for each in (plan.best, plan.at_hand):
            carried = replace(cell, sizes=len(each.sizes), seeds=each.seeds)
            found.append((each.power, _shown(carried, random)))
    return found


def _shown(cell: Cell, random: np.random.Generator) -> bool:
    """Whether a study prints that the first family needs less than the third."""
    for pair in compared(analyse(cell.draw(random)))[1]:
        if {pair.family, pair.other} == {"first", "third"}:
            _, low, high, _ = pair.answer
            return bool(low > 1 if pair.other == "third" else high < 1)
    return False

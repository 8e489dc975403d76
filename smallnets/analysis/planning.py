"""The next runs: which sizes and how many seeds show a difference, at what cost, with what power.

A pilot's laws are taken for the truth, the first family moved so that it needs as many times less
as is asked about; studies of each design are drawn with the pilot's noise, of seeds and of sizes,
and pass through the same fit and multiplier as real ones. Power is the share whose interval lies
above 1. The noise is known only as well as the pilot's few sizes tell.
"""

import re
from dataclasses import dataclass

import numpy as np
import polars as pl

from smallnets.analysis.compare import multiplier
from smallnets.analysis.fit import Fit, fit, predict
from smallnets.analysis.intervals import noise
from smallnets.analysis.study import Study

SIZES = (5, 6, 8, 10, 12)
SEEDS = (1, 2, 3, 5, 8)
STUDIES = 100
ENOUGH = 0.8
FORM = re.compile(
    r"^\s*(?P<family>.+?)\s+vs\.?\s+(?P<other>.+?)\s+at\s+(?:\S+\s+)?(?P<score>[\d.eE+-]+)\s+by\s+"
    r"(?P<factor>[\d.eE+-]+)\s*$"
)


@dataclass(frozen=True, kw_only=True)
class Question:
    """Does ``family`` need ``factor`` times less than ``other`` at ``score``?"""

    family: str
    other: str
    score: float
    factor: float


@dataclass(frozen=True, kw_only=True)
class Design:
    """So many ``sizes`` x ``seeds`` of each family, their ``cost`` and the ``power`` they have."""

    sizes: np.ndarray
    seeds: int
    cost: float
    power: float


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The cheapest design that has the power, or the best of those tried; and ``at_hand``.

    ``at_hand`` is the power of as many sizes and seeds as the pilot has. ``unit`` is what ``cost``
    counts; ``noise`` are the standard deviations of the log score: of seeds, and shared by a size.
    """

    question: Question
    at_hand: Design
    best: Design
    tried: tuple[Design, ...]
    unit: str
    noise: tuple[float, float]
    studies: int

    @property
    def enough(self) -> bool:
        """Whether a design has the power."""
        return self.best.power >= ENOUGH

    def __str__(self) -> str:
        asked, best, now = self.question, self.best, self.at_hand
        claim = (
            f"{asked.family} needing {asked.factor:g} times less than {asked.other} at "
            f"{asked.score:g}"
        )
        sizes = ", ".join(f"{size:,.0f}" for size in best.sizes)
        said = "" if self.enough else "no design tried has power .8; the best: "
        seeds = f"{best.seeds} seed{'s' * (best.seeds > 1)}"
        return (
            f"To show {claim}: {said}{len(best.sizes)} sizes ({sizes}) x {seeds} of each family, "
            f"{best.cost:.3g} {self.unit} in all, power {best.power:.2f}. The sizes and seeds at "
            f"hand ({len(now.sizes)} x {now.seeds}) have power {now.power:.2f}. Drawn "
            f"{self.studies} times a design from the pilot's laws, seeds scattering by "
            f"{self.noise[0]:.1%} and sizes by {self.noise[1]:.1%}."
        )


def question(text: str) -> Question:
    """Read "dense vs low_rank at loss 2.5 by 1.5".

    Raises:
        ValueError: if the text has another form, or the factor is not above 1.
    """
    found = FORM.match(text)
    try:
        if found is None:
            raise ValueError
        asked = Question(
            family=found["family"],
            other=found["other"],
            score=float(found["score"]),
            factor=float(found["factor"]),
        )
    except ValueError:
        raise ValueError(
            f"--next takes a question as 'dense vs low_rank at loss 2.5 by 1.5', got {text!r}"
        ) from None
    if not 1 < asked.factor < np.inf or asked.family == asked.other:
        raise ValueError(
            f"--next asks whether the first needs more than 1 times less than another, got {text!r}"
        )
    return asked


def design(study: Study, asked: Question, *, seed: int = 0, studies: int = STUDIES) -> Plan:
    """The cheapest design, of 5 to 12 sizes and 1 to 8 seeds over the sizes of the pilot.

    Raises:
        ValueError: if a family has no law with an interval, or the score lies outside what the
            pilot reached.
    """
    fits = {curve.family: curve.choice.best for curve in study.curves if curve.choice}
    for name in (asked.family, asked.other):
        if name not in fits:
            raise ValueError(f"no law of a family {name} to plan by; there are {', '.join(fits)}")
        if not fits[name].identifiable or len(fits[name].x) > 1:
            raise ValueError(f"{name} has too few sizes to plan by: its noise isn't known")
    base = fits[asked.other]
    within, shared = noises([fits[asked.family], base])
    low, high = base.x[0].min(), base.x[0].max()
    price, unit = _price(study)
    random = np.random.default_rng(seed)

    def tried(count: int, seeds: int) -> Design:
        sizes = np.geomspace(low, high, count)
        power = _power(base, asked, sizes, seeds, within, shared, random, studies)
        return Design(sizes=sizes, seeds=seeds, cost=2 * seeds * price(sizes), power=power)

    reached = predict(base, np.array([low, high]))
    if not reached[1] < asked.score < reached[0]:
        raise ValueError(
            f"{asked.other} spans {reached[1]:.4g} to {reached[0]:.4g}: a difference at "
            f"{asked.score:g} would be extrapolated"
        )
    at_hand = tried(base.sizes, max(1, round(len(base.score) / base.sizes)))
    designs = []
    for each in _cheapest_first(low, high, price):  # the first that has the power is the cheapest
        designs.append(tried(*each))
        if designs[-1].power >= ENOUGH:
            break
    enough = designs[-1].power >= ENOUGH
    best = designs[-1] if enough else max(designs, key=lambda each: each.power)
    return Plan(
        question=asked,
        at_hand=at_hand,
        best=best,
        tried=tuple(designs),
        unit=unit,
        noise=(within, shared),
        studies=studies,
    )


def noises(fits: list[Fit]) -> tuple[float, float]:
    """The standard deviations of the log score over seeds, and of what a size's seeds share.

    Without two seeds a size all of it is taken as shared, which seeds can't average out.
    """
    squares = sum(
        float((each.weights * (each.slopes - each.size_slopes[each.place]) ** 2).sum())
        for each in fits
    )
    degrees = sum(len(each.score) - each.sizes for each in fits)
    between = float(np.mean([noise(each) / each.size_weights.mean() for each in fits]))
    if degrees == 0:
        return 0.0, float(np.sqrt(between))
    within = squares / degrees
    seeds = float(np.mean([len(each.score) / each.sizes for each in fits]))
    return float(np.sqrt(within)), float(np.sqrt(max(between - within / seeds, 0.0)))


def _cheapest_first(low: float, high: float, price) -> list[tuple[int, int]]:
    pairs = [(count, seeds) for count in SIZES for seeds in SEEDS]
    return sorted(pairs, key=lambda pair: pair[1] * price(np.geomspace(low, high, pair[0])))


def _price(study: Study):
    """What runs at sizes cost in all, and of what: FLOPs where the rows have them, else sizes."""
    size = study.columns.size
    name = next((each for each in ("costs.flops", "flops") if each in study.runs.columns), size)
    at = study.runs.select(
        pl.col(size).cast(pl.Float64).log(), pl.col(name).cast(pl.Float64).log().alias("price")
    )
    at = at.filter(pl.all_horizontal(pl.all().is_finite())).group_by(size).median().sort(size)
    x, y = at[size].to_numpy(), at["price"].to_numpy()

    def price(sizes: np.ndarray) -> float:
        return float(np.exp(np.interp(np.log(sizes), x, y)).sum())

    return price, name.rsplit(".", 1)[-1].replace("flops", "FLOPs (as the rows count them)")


def _power(
    base: Fit,
    asked: Question,
    sizes: np.ndarray,
    seeds: int,
    within: float,
    shared: float,
    random: np.random.Generator,
    studies: int,
) -> float:
    """The share of drawn studies whose interval lies above 1."""
    if len(sizes) < base.law.size + 2:
        return 0.0
    x = np.repeat(sizes, seeds)
    score = np.array([asked.score])
    shown = 0
    for _ in range(studies):
        pair = []
        for factor in (asked.factor, 1.0):
            error = within * random.standard_normal(len(x))
            error += shared * np.repeat(random.standard_normal(len(sizes)), seeds)
            pair.append(fit(base.law, x, predict(base, x * factor) * np.exp(error)))
        try:
            shown += bool(multiplier(*pair, score=score).low[0] > 1)
        except ValueError:  # a fit that does not reach the score shows nothing
            continue
    return shown / studies

"""Where costs that grow with sizes meet a target, with as few networks looked at as can be."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from smallnets.measure.costs import Cost

Sizes = dict[str, int]

START = 32  # the first width tried
LARGEST = 2**20  # no wider network is tried
AROUND = 3  # values on either side whose gap to the budget the next knob may also close
REACH = 512  # how many widths in a row may be refused before the search upwards gives up


class Point(NamedTuple):
    """One value of a knob and what the network costs there."""

    value: int
    cost: Cost


class Candidate(NamedTuple):
    """Sizes of a network and what it costs by the axis that is searched."""

    sizes: Sizes
    cost: Cost


def candidates(
    cost: Callable[[Sizes], Cost | None],
    target: float,
    knobs: Sequence[str],
    fixed: Sizes,
    *,
    max_growth: float,
) -> Iterator[Candidate]:
    """The neighbours of the target by the first knob, then, at each, by the next ones."""
    knob, *finer = knobs

    def at(value: int) -> Cost | None:
        return cost({**fixed, knob: value})

    start = list(fixed.values())[-1] if fixed else START
    neighbours = _neighbours(at, target, start, max_growth=max_growth)
    neighbours.sort(key=lambda point: abs(point.cost.amount - target))
    found = [Candidate({**fixed, knob: point.value}, point.cost) for point in neighbours]
    yield from found
    if not finer:
        return
    if len(neighbours) == 2:
        found += [
            Candidate({**fixed, knob: value}, further)
            for value in _around(*(point.value for point in neighbours))
            if (further := at(value)) is not None
        ]
    for candidate in found:
        yield from candidates(cost, target, finer, candidate.sizes, max_growth=max_growth)


def _around(one: int, other: int) -> Iterator[int]:
    """Values beyond two neighbours of the target, in their steps, the nearest first."""
    low, high = sorted((one, other))
    for steps in range(1, AROUND + 1):
        yield from (
            value
            for value in (low - steps * (high - low), high + steps * (high - low))
            if value >= 1
        )


def _neighbours(
    at: Callable[[int], Cost | None], target: float, start: int, *, max_growth: float
) -> list[Point]:
    """The last admissible value that costs less than the target, and the next one, if they exist.

    Admissible values are taken to be an arithmetic progression, as multiples of some number of
    blocks are, from some least value up; its step is looked for when a value is first refused.
    Beyond what is known, a guess is at most ``max_growth`` times the largest value so far.
    """
    first = _first(at, range(start, start + REACH)) or _first(at, range(start - 1, 0, -1))
    if first is None:
        return []
    low, high, step = 0, LARGEST + 1, 1  # exclusive bounds, and the step of the progression
    known: list[Point] = []
    value, cost = first.value, first.cost
    while True:
        if cost is not None:
            known.append(Point(value, cost))
            low, high = (value, high) if cost.amount < target else (low, value)
        elif step == 1 and (second := _first(at, range(first.value + 1, first.value + REACH))):
            step = second.value - first.value
        if cost is None and (value - first.value) % step == 0:
            low, high = (value, high) if value < first.value else (low, value)
        least = low + 1 + (first.value - low - 1) % step
        if least >= high:
            return [point for point in known if point.value in (low, high)]
        guess = _guess(known, target, max_growth)
        if high <= LARGEST and (cost is None or len(known) % 4 == 3):
            guess = (low + high) // 2  # so that the search ends, whatever the cost's shape
        value = least + max(0, min(guess, high - 1) - least) // step * step
        cost = at(value)


def _guess(known: list[Point], target: float, max_growth: float) -> int:
    """Where the target lies if the root of the cost is a line: costs are nearly quadratics.

    The line goes through the nearest points on either side, or through the nearest two.
    """
    nearest = sorted(known, key=lambda point: abs(point.cost.amount - target))
    one = nearest[0]
    side = one.cost.amount < target
    others = [point for point in nearest if (point.cost.amount < target) != side] or nearest[1:]
    if others and others[0].cost.amount != one.cost.amount:
        (value, root), (other, other_root) = (
            (point.value, math.sqrt(point.cost.amount)) for point in (one, others[0])
        )
        guess = value + (math.sqrt(target) - root) / (other_root - root) * (other - value)
    else:
        guess = one.value * math.sqrt(target / one.cost.amount)
    return round(min(guess, max_growth * max(point.value for point in known)))


def _first(at: Callable[[int], Cost | None], values: Iterable[int]) -> Point | None:
    """The first of ``values`` that is admissible."""
    points = (Point(value, cost) for value in values if (cost := at(value)) is not None)
    return next(points, None)


def crossing(at: Callable[[int], float | None], start: int, target: float) -> int:
    """The value from 1 up at which ``at``, which rises or falls, is nearest to ``target``.

    From ``start`` outwards in growing steps, until ``at`` lies on the target's other side or leads
    away from it; where it is None, which is not admissible, the step is halved. Then halves of what
    lies between. Raises ValueError where ``start`` is not admissible.
    """
    first = at(start)
    if first is None:
        raise ValueError(f"a search must start where a size is admissible, but {start} is not")

    def gap(point: tuple[int, float]) -> float:
        return abs(point[1] - target)

    nearest = start, first
    for direction in (1, -1):
        near, step, growing = (start, first), 1, True
        while step:
            value = near[0] + direction * step
            cost = at(value) if value >= 1 else None
            if cost is None:
                step, growing = step // 2, False
                continue
            there = value, cost
            if (cost < target) != (first < target):
                return min(_halved(at, near, there, target), key=gap)[0]
            if gap(there) > gap(near):
                break
            near, step = there, 2 * step if growing else step // 2
        nearest = min(nearest, near, key=gap)
    return nearest[0]


def _halved(
    at: Callable[[int], float | None],
    one: tuple[int, float],
    other: tuple[int, float],
    target: float,
) -> list[tuple[int, float]]:
    """Two points on either side of the target, as near to each other as what is admissible."""
    while abs(one[0] - other[0]) > 1:
        value = (one[0] + other[0]) // 2
        cost = at(value)
        if cost is None:
            break
        if (cost < target) == (one[1] < target):
            one = value, cost
        else:
            other = value, cost
    return [one, other]


def outwards(value: int, most: int) -> Iterator[int]:
    """A whole number and the ``most`` on either side of it that are above 0, the nearest first."""
    yield value
    for step in range(1, most + 1):
        yield from (each for each in (value + step, value - step) if each >= 1)

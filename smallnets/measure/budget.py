"""The sizes of a network that meet a budget: how families come to be compared at equal cost.

What a network costs grows with its width, so the width that meets a budget is found by tracing a
few networks without allocating them. Widths are whole numbers and some maps take only multiples
of their blocks, so the steps between neighbouring widths are coarse: 4 % of the parameters at 50.
Where no width is near enough, the hidden width of the feed-forward maps closes the gap.
"""

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from smallnets.measure import flops
from smallnets.measure.latency import latencies
from smallnets.measure.parameters import parameter_bytes, parameters

Network = Callable[..., nnx.Module]  # (*, rngs) -> network
Sizes = dict[str, int]

START = 32  # the first width tried
LARGEST = 2**20  # no wider network is tried
AROUND = 3  # values on either side whose gap to the budget the next knob may also close
REACH = 512  # how many widths in a row may be refused before the search upwards gives up
TIMED_BYTES = 2**30  # no larger network is put on the device to be timed
NOISE = 0.25  # a timing whose quartiles lie further from the median, as a share of it, is refused


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What a network may cost, by one axis or by several that can be met together.

    ``params`` are stored parameters, ``active_params`` those that one token uses under routing,
    ``flops`` those of the matrix products of a forward pass, per example, in a batch of training,
    ``bytes`` the parameters' as they are stored, ``latency_ms`` the median time of a forward pass
    of one example on this device. Within ``tolerance``, a share of the budget, it is met; a latency
    also within the quartiles of its timing. With ``at_most`` it is met from below alone,
    and where nothing lies within the tolerance, by the largest candidate below a single budget.

    ``knobs`` names the keywords of the model that are chosen: the first meets the budget as nearly
    as it can, or nearly so, and the next one closes the gap. Raises ValueError for a budget that is
    no number above 0 and for a tolerance outside [0, 1).
    """

    params: float | None = None
    active_params: float | None = None
    flops: float | None = None
    bytes: float | None = None
    latency_ms: float | None = None
    tolerance: float = 0.005
    at_most: bool = False
    knobs: Sequence[str] = ("width", "hidden", "features")

    def __post_init__(self):
        for axis, amount in self.targets.items():
            if not _is_number(amount) or not 0 < amount < math.inf:
                raise ValueError(
                    f"a budget must be a number above 0, but budget.{axis} is {amount!r}: "
                    "give for example budget.params=20_000"
                )
        if not _is_number(self.tolerance) or not 0 <= self.tolerance < 1:
            raise ValueError(
                f"budget.tolerance must be a share in [0, 1), but is {self.tolerance!r}: "
                "give for example 0.005"
            )
        if not isinstance(self.at_most, bool):
            raise ValueError(
                f"budget.at_most must be true or false, but is {self.at_most!r}: give one"
            )
        if isinstance(self.knobs, str) or not self.knobs:
            raise ValueError(
                f"budget.knobs must list keywords of the model, but is {self.knobs!r}: "
                "give for example budget.knobs=[width]"
            )

    @property
    def targets(self) -> dict[str, float]:
        """The budget of each axis that has one."""
        return {axis: getattr(self, axis) for axis in AXES if getattr(self, axis) is not None}


class Cost(NamedTuple):
    """What a network costs by one axis, and half the range of the quartiles if it was timed."""

    amount: float
    spread: float = 0.0

    def meets(self, target: float, budget: Budget) -> bool:
        if budget.at_most and self.amount > target:
            return False
        return abs(self.amount - target) <= max(budget.tolerance * target, self.spread)


class Point(NamedTuple):
    """One value of a knob and what the network costs there."""

    value: int
    cost: Cost


class Candidate(NamedTuple):
    """Sizes of a network and what it costs by the axis that is searched."""

    sizes: Sizes
    cost: Cost


def solve(
    budget: Budget,
    network: Callable[[Sizes], Network],
    batch: jax.ShapeDtypeStruct,
    *,
    knobs: Sequence[str],
) -> Sizes:
    """The sizes, one for each of ``knobs`` or of the first of them, that meet ``budget``.

    ``network(sizes)`` is the factory ``(*, rngs) -> network``; what raises ValueError when it is
    built is not admissible and passed over. ``batch`` is the shape and type of a training batch,
    ``[examples, ...]``. Costs must not fall as a size grows. Counts are found by ``jax.eval_shape``
    and allocate nothing. A latency is measured, on parameters that are all zero, and by the first
    knob alone: it is met as well as this machine repeats a timing.

    Of the values of the first knob, the two neighbours of the budget are candidates, the nearer
    first; where neither is near enough, at each of them, and at a few values beyond them, the
    neighbours by the next knob; the first candidate that meets the budget is taken, so that
    proportions change as little as possible.

    Raises ValueError where nothing meets the budget (it names the nearest costs below and above),
    where budgets contradict each other, and where this machine can't measure the axis.
    """
    (axis, target), *others = budget.targets.items()

    def built(sizes: Sizes) -> nnx.Module:
        return jax.eval_shape(lambda: network(sizes)(rngs=nnx.Rngs(params=jax.random.key(0))))

    def cost(sizes: Sizes) -> Cost | None:
        try:
            model = built(sizes)
        except ValueError as error:
            # Of the first two sizes the same is wrong: it is not the size, and no other will do.
            if refused.setdefault(str(error), sizes) != sizes and not admitted:
                raise
            return None
        admitted.append(sizes)
        return AXES[axis](model, batch)

    max_growth = math.inf
    if axis == "latency_ms":  # no network is timed far beyond its budget, nor timings told apart
        max_growth, knobs = 2, knobs[:1]  # that differ by less than they scatter
    refused: dict[str, Sizes] = {}
    admitted: list[Sizes] = []
    seen: list[Candidate] = []
    for candidate in _candidates(cost, target, knobs, {}, max_growth=max_growth):
        if candidate.cost.meets(target, budget):
            _check_noise(axis, candidate)
            for other, wanted in others:
                found = AXES[other](built(candidate.sizes), batch)
                if not found.meets(wanted, budget):
                    raise ValueError(
                        f"budgets must be met together, but budget.{axis}={format_number(target)} "
                        f"is met at {_named(candidate.sizes)}, where {other} is "
                        f"{format_number(found.amount)}, not {format_number(wanted)}: set one of "
                        "the two"
                    )
            return candidate.sizes
        seen.append(candidate)
    under = [candidate for candidate in seen if candidate.cost.amount <= target]
    if budget.at_most and under and not others:
        return max(under, key=lambda candidate: candidate.cost.amount).sizes
    if not seen:
        built({knobs[0]: START})  # raises what is wrong with every network
    raise ValueError(_refusal(axis, target, budget.tolerance, seen))


def counted_costs(model: nnx.Module, batch: jax.ShapeDtypeStruct) -> dict[str, float]:
    """What ``model``, abstract or not, costs by every axis that is counted and not timed.

    Without ``flops`` where it holds an operation whose FLOPs have no rule.
    """
    costs = {axis: AXES[axis](model, batch).amount for axis in ("params", "active_params", "bytes")}
    with contextlib.suppress(ValueError):
        costs["flops"] = _flops(model, batch).amount
    return costs


def _params(model: nnx.Module, batch: jax.ShapeDtypeStruct) -> Cost:
    return Cost(parameters(model).stored)


def _active_params(model: nnx.Module, batch: jax.ShapeDtypeStruct) -> Cost:
    return Cost(parameters(model).active)


def _flops(model: nnx.Module, batch: jax.ShapeDtypeStruct) -> Cost:
    forward = flops.count(lambda model, inputs: model(inputs), model, batch)
    return Cost(forward.per(batch.shape[0]).products)


def _bytes(model: nnx.Module, batch: jax.ShapeDtypeStruct) -> Cost:
    return Cost(parameter_bytes(model))


def _latency_ms(model: nnx.Module, batch: jax.ShapeDtypeStruct) -> Cost:
    needed = parameter_bytes(model)
    if needed > TIMED_BYTES:
        raise ValueError(
            f"budget.latency_ms needs a network larger than is timed here: {needed:,} bytes of "
            f"parameters are not yet slow enough, {TIMED_BYTES:,} are the most: lower the budget"
        )
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), model)
    example = jnp.zeros((1, *batch.shape[1:]), batch.dtype)
    [timing] = latencies({"network": zeros}, example, batch_sizes=(1,), rounds=25)
    spread = (timing.upper_quartile_seconds - timing.lower_quartile_seconds) / 2
    return Cost(1e3 * timing.median_seconds, 1e3 * spread)


AXES: Mapping[str, Callable[[nnx.Module, jax.ShapeDtypeStruct], Cost]] = {
    "params": _params,
    "active_params": _active_params,
    "flops": _flops,
    "bytes": _bytes,
    "latency_ms": _latency_ms,
}


def _candidates(
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
        yield from _candidates(cost, target, finer, candidate.sizes, max_growth=max_growth)


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


def _check_noise(axis: str, candidate: Candidate) -> None:
    amount, spread = candidate.cost
    if spread > NOISE * amount:
        raise ValueError(
            f"budget.{axis} can't be measured on this machine now: at {_named(candidate.sizes)} it "
            f"is {format_number(amount)} with quartiles {spread / amount:.0%} away, over "
            f"{NOISE:.0%}: close other programs, or set a counted budget, such as budget.params"
        )


def _refusal(axis: str, target: float, tolerance: float, seen: list[Candidate]) -> str:
    under = [candidate for candidate in seen if candidate.cost.amount < target]
    over = [candidate for candidate in seen if candidate.cost.amount >= target]
    below = max(under, key=lambda candidate: candidate.cost.amount, default=None)
    above = min(over, key=lambda candidate: candidate.cost.amount, default=None)
    target_text = f"budget.{axis}={format_number(target)}"
    if below and above and above.cost.spread:
        return (
            f"{target_text} can't be measured on this machine now: neighbouring networks took "
            f"{_cost(below)} and {_cost(above)}: close other programs and try again, or set a "
            "budget that is counted, such as budget.params"
        )
    if below and above:
        return (
            f"no size meets {target_text} within {tolerance:.2%}: the nearest are {_cost(below)} "
            f"and {_cost(above)}: set one of these, or raise budget.tolerance"
        )
    if above:
        return f"{target_text} lies below the smallest network, {_cost(above)}: raise it"
    assert below
    return f"{target_text} lies above the largest network, {_cost(below)}: lower it"


def _cost(candidate: Candidate) -> str:
    return f"{format_number(candidate.cost.amount)} (at {_named(candidate.sizes)})"


def _named(sizes: Sizes) -> str:
    return ", ".join(f"{name}={value}" for name, value in sizes.items())


def format_number(amount: float) -> str:
    """A number as messages have it: whole from 100 on, else to four digits."""
    return f"{amount:,.0f}" if amount >= 100 else f"{amount:.4g}"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

"""The sizes of a network that meet a budget: how families come to be compared at equal cost.

What a network costs grows with its width, so the width that meets a budget is found by tracing a
few networks without allocating them. Widths are whole numbers and some maps take only multiples
of their blocks, so the steps between neighbouring widths are coarse: 4 % of the parameters at 50.
Where no width is near enough, the hidden width of the feed-forward maps closes the gap.
"""

import contextlib
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import jax
from flax import nnx

from smallnets.measure.costs import AXES, Cost
from smallnets.measure.search import START, Candidate, Sizes, candidates, crossing, outwards
from smallnets.nn.parameter import Undrawn

Axes = Mapping[str, Callable[[nnx.Module, jax.ShapeDtypeStruct], Cost]]
BUDGETS = (*AXES, "file_bytes")
Network = Callable[..., nnx.Module]  # (*, rngs) -> network

TOGETHER = 12  # values on either side of where a second axis is met at which both are tried
NOISE = 0.25  # a timing whose quartiles lie further from the median, as a share of it, is refused


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What a network may cost, by one axis or by several that can be met together.

    ``params`` are stored parameters, ``active_params`` those that one token uses under routing,
    ``flops`` those of the matrix products of a forward pass, per example, in a batch of training,
    ``bytes`` the parameters' as they are stored, ``latency_ms`` the median time of a forward pass
    of one example on this device, ``file_bytes`` those of the model's file as it is written, whose
    cost whoever solves must give. Within ``tolerance``, a share of the budget, it is met; a latency
    also within the quartiles of its timing. With ``at_most`` it is met from below alone,
    and where nothing lies within the tolerance, by the largest candidate below a single budget.

    ``knobs`` names the keywords of the model that are chosen, such as ``width`` or ``linear.rank``:
    the first meets the budget as nearly as it can, or nearly so, and the next one closes the gap.
    Raises ValueError for a budget that is no number above 0 and for a tolerance outside [0, 1).
    """

    params: float | None = None
    active_params: float | None = None
    flops: float | None = None
    bytes: float | None = None
    latency_ms: float | None = None
    file_bytes: float | None = None
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
        return {axis: getattr(self, axis) for axis in BUDGETS if getattr(self, axis) is not None}


def solve(
    budget: Budget,
    network: Callable[[Sizes], Network],
    batch: jax.ShapeDtypeStruct,
    *,
    knobs: Sequence[str],
    axes: Axes = AXES,
) -> Sizes:
    """The sizes, one for each of ``knobs`` or of the first of them, that meet ``budget``.

    ``network(sizes)`` is the factory ``(*, rngs) -> network``; what raises ValueError when it is
    built is not admissible and passed over. ``batch`` is the shape and type of a training batch,
    ``[examples, ...]``; ``axes`` give a network's cost by each axis. Costs must not fall as a size
    grows. Counts are found by ``jax.eval_shape`` and allocate nothing. A latency is measured, on
    parameters that are all zero, and by the first knob alone: it is met as well as this machine
    repeats a timing.

    Of the values of the first knob, the two neighbours of the budget are candidates, the nearer
    first; where neither is near enough, at each of them, and at a few values beyond them, the
    neighbours by the next knob; the first candidate that meets the budget is taken, so that
    proportions change as little as possible.

    Of several axes the last is met by the first knob, at each of whose values the other knobs meet
    the other axes: equal parameters and equal FLOPs take a width and a hidden width.

    Raises ValueError where nothing meets the budget (it names the nearest costs below and above),
    where budgets contradict each other, and where this machine can't measure the axis.
    """
    *others, (axis, target) = budget.targets.items()
    if not others:
        return _met_alone(budget, axis, target, network, batch, knobs, axes)
    without = replace(budget, **{axis: None})
    sizes = solve(without, network, batch, knobs=knobs, axes=axes)
    first = Candidate(sizes, axes[axis](_built(network(sizes)), batch))
    if _meets(first.cost, target, budget):
        return sizes
    outer, *inner = knobs

    def fixed(value: int) -> Callable[[Sizes], Network]:
        return lambda sizes: network({outer: value, **sizes})

    def along(value: int) -> float | None:
        """The last axis where the first is met exactly, between the two networks around it."""
        name, amount = others[0]
        cost = _cost_of(name, fixed(value), batch, axes)
        found = [*itertools.islice(candidates(cost, amount, inner, {}, max_growth=math.inf), 2)]
        by = [candidate.cost.amount for candidate in found]
        if len(found) < 2 or (by[0] < amount) == (by[1] < amount):
            return None
        ends = [axes[axis](_built(fixed(value)(each.sizes)), batch).amount for each in found]
        return ends[0] + (ends[1] - ends[0]) * (amount - by[0]) / (by[1] - by[0])

    tried = [first]
    if inner and axis != "latency_ms" and along(sizes[outer]) is not None:
        for value in outwards(crossing(along, sizes[outer], target), TOGETHER):
            with contextlib.suppress(ValueError):
                sizes = {
                    outer: value,
                    **solve(without, fixed(value), batch, knobs=inner, axes=axes),
                }
                there = Candidate(sizes, axes[axis](_built(network(sizes)), batch))
                if _meets(there.cost, target, budget):
                    return sizes
                tried.append(there)
    nearest = min(tried, key=lambda candidate: abs(candidate.cost.amount - target))
    said = ", ".join(f"budget.{name}={format_number(amount)}" for name, amount in others)
    raise ValueError(
        f"budgets must be met together, but where {said} is met, {axis} is nearest to "
        f"{format_number(target)} at {_named(nearest.sizes)}, where it is "
        f"{format_number(nearest.cost.amount)}: set that, raise budget.tolerance, or put a size "
        f"that changes their ratio first in budget.knobs={list(knobs)}"
    )


def _met_alone(
    budget: Budget,
    axis: str,
    target: float,
    network: Callable[[Sizes], Network],
    batch: jax.ShapeDtypeStruct,
    knobs: Sequence[str],
    axes: Axes,
) -> Sizes:
    """The sizes that meet one axis."""

    max_growth = math.inf
    if axis == "latency_ms":  # no network is timed far beyond its budget, nor timings told apart
        max_growth, knobs = 2, knobs[:1]  # that differ by less than they scatter
    seen: list[Candidate] = []
    for candidate in candidates(
        _cost_of(axis, network, batch, axes), target, knobs, {}, max_growth=max_growth
    ):
        if _meets(candidate.cost, target, budget):
            _check_noise(axis, candidate)
            return candidate.sizes
        seen.append(candidate)
    under = [candidate for candidate in seen if candidate.cost.amount <= target]
    if budget.at_most and under:
        return max(under, key=lambda candidate: candidate.cost.amount).sizes
    if not seen:
        _built(network({knobs[0]: START}))  # raises what is wrong with every network
    raise ValueError(_refusal(axis, target, budget.tolerance, seen))


def _cost_of(
    axis: str, network: Callable[[Sizes], Network], batch: jax.ShapeDtypeStruct, axes: Axes
) -> Callable[[Sizes], Cost | None]:
    """What sizes cost, None where they are not admissible.

    Raises ValueError for the second of two sizes of which the same is wrong, where none was
    admissible before: it is not the size, and no other will do.
    """
    refused: dict[str, Sizes] = {}
    admitted: list[Sizes] = []

    def cost(sizes: Sizes) -> Cost | None:
        try:
            model = _built(network(sizes))
        except ValueError as error:
            if refused.setdefault(str(error), sizes) != sizes and not admitted:
                raise
            return None
        admitted.append(sizes)
        return axes[axis](model, batch)

    return cost


def _built(network: Network) -> nnx.Module:
    """The network, its arrays abstract."""
    raised: list[ValueError] = []

    def build() -> nnx.Module | None:
        try:
            return network(rngs=Undrawn(params=jax.random.key(0)))
        except ValueError as error:  # JAX filters a traceback for longer than a network is traced
            raised.append(error)
            return None

    found = jax.eval_shape(build)
    if raised:
        raise raised[0]
    return found


def _meets(cost: Cost, target: float, budget: Budget) -> bool:
    if budget.at_most and cost.amount > target:
        return False
    return abs(cost.amount - target) <= max(budget.tolerance * target, cost.spread)


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

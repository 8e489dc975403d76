"""Cascades of kept models: when is a small one enough, and what does asking a larger one give?

Temperatures and the confidence at which a model answers are chosen on validation examples alone;
the test split only says what came of it. What is chosen is a kept model like any other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import linprog, minimize_scalar

from smallnets.measure.costs import counted_costs
from smallnets.models import Model
from smallnets.nn import Cascade
from smallnets.tasks.data import Data, Split
from smallnets.tasks.metrics import calibration_error, class_loss

POINTS = 41  # of the curve: from none passed on to all
DRAWS = 2000  # of the bootstrap
COLDEST, HOTTEST = 0.05, 20.0  # temperatures that are tried

# axes: K members, n examples, P points of the curve, B draws


class Answers(NamedTuple):
    """How sure each member alone is on a split, and whether it is wrong, both [K, n]."""

    confidence: np.ndarray
    wrong: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Point:
    """A cascade at one confidence: shares of the examples by who answers them, FLOPs, errors.

    ``random`` is the error where as many examples are passed on by chance, ``oracle`` where they
    are those for which it helps most.
    """

    confidence: float
    shares: tuple[float, ...]
    flops: float
    error: float
    random: float
    oracle: float


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate, and the 95 % interval of a paired bootstrap over the test examples."""

    estimate: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Hybrid:
    """A cascade, and what the test split says of it.

    ``temperatures`` and ``calibration`` are those of each member, the latter its calibration error
    on the test split as it is and with its temperature. ``differences`` are the cascade's error
    less each member's, ``flops_share`` its FLOPs over the last member's, ``area`` how far the
    curve's error lies below random deferral, the mean over its FLOPs; ``oracle_area`` is the same
    of the oracle.
    """

    model: Model
    temperatures: tuple[float, ...]
    calibration: tuple[tuple[float, float], ...]
    validation_error: float
    flops: tuple[float, ...]
    errors: tuple[float, ...]
    chosen: Point
    curve: tuple[Point, ...]
    differences: tuple[Interval, ...]
    flops_share: Interval
    area: Interval
    oracle_area: float

    def pays(self) -> bool:
        """Whether it is better than each member, by the intervals, at under half of the FLOPs."""
        better = all(each.high < 0 for each in self.differences)
        return better and self.flops_share.high < 0.5


def cascade(members: Sequence[Model], data: Data, *, at_most: float = 0.5, seed: int = 0) -> Hybrid:
    """The cascade of ``members``, the small one first, for a task of classes.

    Each member's temperature is the one of the lowest loss on the validation split (Guo et al.
    2017, arXiv:1706.04599); the confidence is then that of the lowest validation error whose mean
    FLOPs are ``at_most`` of the last member's, of the fewest FLOPs where several are. FLOPs are the
    products of forward passes, without what fills up a bucket. Intervals are of ``DRAWS`` draws of
    the test examples by ``seed``; the choice itself is not drawn anew.

    Raises ValueError, one line, for fewer than two members, for members that disagree about their
    inputs, classes or kind of task, for a task that is none of classes or has no validation
    examples, for validation examples that are those of the test, and where no cascade is as cheap
    as ``at_most``.
    """
    check_members(members, data)
    flops = np.asarray([_flops(member, data.test) for member in members])
    logits = [
        [_logits(member, split) for member in members] for split in (data.validation, data.test)
    ]
    temperatures = [temperature(each, data.validation.labels) for each in logits[0]]
    held_out, test = (
        _answers(each, split.labels, temperatures)
        for each, split in zip(logits, (data.validation, data.test), strict=True)
    )
    confidences = _confidences(held_out)
    confidence, validation_error = _chosen(held_out, confidences, flops, at_most)
    oracle = [_oracle(test, _stage(test, each)) for each in (*confidences, confidence)]
    *curve, chosen = (
        _point(test, each, flops, best)
        for each, best in zip((*confidences, confidence), oracle, strict=True)
    )
    stages = np.asarray([_stage(test, each.confidence) for each in (*curve, chosen)])
    differences, share, area = _intervals(test, stages, flops, seed)
    first = members[0]
    network = Cascade(
        [member.network for member in members], temperatures=temperatures, confidence=confidence
    )
    model = Model(network, first.inputs, classes=first.classes, kind=first.kind)
    return Hybrid(
        model=model,
        temperatures=tuple(temperatures),
        calibration=tuple(
            (_calibration(each, data.test), _calibration(each / by, data.test))
            for each, by in zip(logits[1], temperatures, strict=True)
        ),
        validation_error=validation_error,
        flops=tuple(flops.tolist()),
        errors=tuple(test.wrong.mean(axis=1).tolist()),
        chosen=chosen,
        curve=tuple(curve),
        differences=differences,
        flops_share=share,
        area=area,
        oracle_area=_area(
            *(
                np.asarray([getattr(p, name) for p in curve])
                for name in ("flops", "random", "oracle")
            )
        ),
    )


def check_members(members: Sequence[Model], data: Data) -> None:
    """Raise ValueError, one line, for models of which no cascade can be made."""
    if len(members) < 2:
        raise ValueError(
            f"a cascade needs a small model and a larger one, but got {len(members)}: name two runs"
        )
    first = members[0]
    for place, member in enumerate(members):
        if not isinstance(member, Model):
            raise ValueError(
                f"a cascade is of kept models, but number {place + 1} is a {type(member).__name__}:"
                " load it by smallnets.load"
            )
        for name in ("kind", "classes"):
            ours, theirs = getattr(first, name), getattr(member, name)
            if ours != theirs:
                raise ValueError(
                    f"members of a cascade answer one question, but number {place + 1} has the "
                    f"{name} {theirs}, the first {ours}: name runs of one task"
                )
        if not _equal(first.inputs, member.inputs):
            raise ValueError(
                f"members of a cascade read the same inputs, but number {place + 1} prepares them "
                "in another way than the first: name runs of one task and of one split of its data"
            )
    if data.kind != "classes" or first.kind != "classes" or data.test.labels.ndim != 1:
        raise ValueError(
            "a cascade goes by how sure a model is of an example's class, but the task asks for "
            f"{'tokens' if data.test.labels.ndim > 1 else data.kind}: name runs of a task of "
            "classes, or let a small decoder draft (generate --draft)"
        )
    if not len(data.validation):
        raise ValueError(
            "a cascade's confidence is chosen on validation examples, but the task has none: set "
            "task.validation, and train the runs on that"
        )
    if _same(data.validation, data.test):
        raise ValueError(
            "a cascade's confidence must not be chosen on the test split, but the validation "
            "examples are those of the test: give others"
        )
    for place, member in enumerate(members):
        shape = jax.eval_shape(member.network, _some(data.test)).shape
        if shape != (1, data.outputs):
            raise ValueError(
                f"members of a cascade answer with one logit for each of {data.outputs} classes, "
                f"but number {place + 1} gives {list(shape[1:])}: name runs of the task"
            )


def _equal(one: Any, other: Any) -> bool:
    """Whether two models prepare alike: the same attributes and arrays."""
    leaves, trees = zip(*(jax.tree.flatten(each) for each in (one, other)), strict=True)
    return trees[0] == trees[1] and all(map(np.array_equal, *leaves))


def _same(one: Split, other: Split) -> bool:
    """Whether every example of a split is one of another."""
    rows = [{row.tobytes() for row in split.inputs} for split in (one, other)]
    return rows[0] <= rows[1]


def _some(split: Split) -> jax.Array:
    """One example as a network sees it, of zeros."""
    kind = jnp.float32 if split.inputs.dtype == np.uint8 else split.inputs.dtype
    return jnp.zeros((1, *split.inputs.shape[1:]), kind)


def _flops(member: Model, split: Split) -> float:
    costs = counted_costs(member.network, jax.eval_shape(lambda: _some(split)))
    if "flops" not in costs:
        raise ValueError(
            f"the FLOPs of {type(member.network).__name__} are not known: give its layers "
            "flop_rules"
        )
    return costs["flops"]


@jax.jit
def _call(member: Model, x: jax.Array) -> jax.Array:
    return member.network(member.inputs(x) if x.dtype == jnp.uint8 else x)


def _logits(member: Model, split: Split, at_once: int = 512) -> np.ndarray:
    """[n, classes], a number of examples at a time."""
    parts = [
        np.asarray(_call(member, split.inputs[start : start + at_once]))
        for start in range(0, len(split), at_once)
    ]
    return np.concatenate(parts)


def temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The t of the lowest mean loss of softmax(logits / t).

    Source: temperature scaling, Guo et al. 2017, arXiv:1706.04599, section 4.2.
    """

    def loss(log_t: float) -> float:
        return float(jnp.mean(class_loss(jnp.asarray(logits / np.exp(log_t)), jnp.asarray(labels))))

    found = minimize_scalar(loss, bounds=np.log([COLDEST, HOTTEST]), method="bounded")
    return float(np.exp(found.x))


def _calibration(logits: np.ndarray, split: Split) -> float:
    return float(calibration_error(jnp.asarray(logits), jnp.asarray(split.labels)))


def _answers(
    logits: Sequence[np.ndarray], labels: np.ndarray, temperatures: Sequence[float]
) -> Answers:
    sure = [
        np.asarray(jax.nn.softmax(jnp.asarray(each / t)).max(axis=-1))
        for each, t in zip(logits, temperatures, strict=True)
    ]
    wrong = [each.argmax(axis=-1) != labels for each in logits]
    return Answers(np.asarray(sure), np.asarray(wrong))


def _confidences(answers: Answers) -> list[float]:
    """Those of the curve: by which more and more examples pass the first member, to all of them."""
    inner = np.quantile(answers.confidence[0], np.linspace(0, 1, POINTS)[1:-1])
    return [0.0, *np.unique(inner).tolist(), 2.0]


def _stage(answers: Answers, confidence: float) -> np.ndarray:
    """[n], which member answers each example."""
    sure = answers.confidence >= np.float32(confidence)
    sure[-1] = True
    return sure.argmax(axis=0)


def _spent(stage: np.ndarray, flops: np.ndarray) -> np.ndarray:
    """[n], the FLOPs of each example: of all members up to the one that answers."""
    return np.cumsum(flops)[stage]


def _wrong(answers: Answers, stage: np.ndarray) -> np.ndarray:
    return np.take_along_axis(answers.wrong, stage[None], axis=0)[0]


def _chosen(
    answers: Answers, confidences: Sequence[float], flops: np.ndarray, at_most: float
) -> tuple[float, float]:
    """The confidence of the lowest error that costs no more than asked, and that error."""
    found = []
    for confidence in confidences:
        stage = _stage(answers, confidence)
        spent = _spent(stage, flops).mean()
        if spent <= at_most * flops[-1]:
            found.append((_wrong(answers, stage).mean(), spent, confidence))
    if not found:
        raise ValueError(
            f"a cascade must cost at most {at_most:g} of its last member, but the first alone "
            f"costs {flops[0] / flops[-1]:.2g} of it: name a smaller one, or ask for more"
        )
    error, _, confidence = min(found)
    return float(confidence), float(error)


def _point(answers: Answers, confidence: float, flops: np.ndarray, oracle: float) -> Point:
    stage = _stage(answers, confidence)
    shares = np.bincount(stage, minlength=len(flops)) / len(stage)
    return Point(
        confidence=confidence,
        shares=tuple(shares.tolist()),
        flops=float(_spent(stage, flops).mean()),
        error=float(_wrong(answers, stage).mean()),
        random=float(shares @ answers.wrong.mean(axis=1)),
        oracle=oracle,
    )


def _oracle(answers: Answers, stage: np.ndarray) -> float:
    """The lowest error where each member answers as many examples as in ``stage``, whichever.

    Examples differ only by which members are wrong, so that it is a transport from these patterns
    to members, a small linear program.
    """
    members, count = answers.wrong.shape
    patterns, held = np.unique(answers.wrong, axis=1, return_counts=True)
    asked = np.bincount(stage, minlength=members)
    kinds = patterns.shape[1]
    rows = np.kron(np.eye(kinds), np.ones(members))
    columns = np.kron(np.ones(kinds), np.eye(members))
    found = linprog(
        patterns.T.reshape(-1).astype(float),
        A_eq=np.concatenate([rows, columns]),
        b_eq=np.concatenate([held, asked]),
    )
    return float(found.fun) / count


def _area(flops: np.ndarray, random: np.ndarray, error: np.ndarray) -> float:
    """The mean over the FLOPs of the curve of how far an error lies below random deferral."""
    return float(np.trapezoid(random - error, flops) / (flops[-1] - flops[0]))


def _intervals(
    answers: Answers, stages: np.ndarray, flops: np.ndarray, seed: int
) -> tuple[tuple[Interval, ...], Interval, Interval]:
    """Of the differences to each member, the share of FLOPs, and the area; the last is chosen."""
    members, count = answers.wrong.shape
    spent = np.asarray([_spent(stage, flops) for stage in stages])
    wrong = np.asarray([_wrong(answers, stage) for stage in stages])
    answered = np.asarray([stages == k for k in range(members)])  # [K, P + 1, n]
    random = np.random.default_rng(seed)
    draws = [np.ones(count), *random.multinomial(count, np.full(count, 1 / count), size=DRAWS)]
    found = []
    for weights in draws:
        weights = weights / count
        alone, errors = answers.wrong @ weights, wrong @ weights
        by_chance = alone @ (answered @ weights)
        costs = spent @ weights
        area = _area(costs[:-1], by_chance[:-1], errors[:-1])
        found.append([*(errors[-1] - alone), costs[-1] / flops[-1], area])
    estimates, *others = np.asarray(found)
    low, high = np.quantile(others, (0.025, 0.975), axis=0)
    *differences, share, area = (
        Interval(estimate=e, low=below, high=above)
        for e, below, above in zip(estimates.tolist(), low.tolist(), high.tolist(), strict=True)
    )
    return tuple(differences), share, area

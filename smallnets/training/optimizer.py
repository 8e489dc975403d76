"""Optimisers, and how initial values and learning rates depend on width."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax

from smallnets.nn.parameter import is_variable
from smallnets.traced import Traced

Shares = Callable[[int], optax.Schedule]  # steps -> (step -> share of the learning rate)


def constant_schedule(steps: int, *, warmup: float = 0.0) -> optax.Schedule:
    """A linear warm-up over w = round(warmup steps) steps, then the whole rate.

        share(t) = (1 + t) / (1 + w) for t < w, and then 1

    Raises ValueError for a warm-up outside [0, 1).
    """
    count = _warmup_steps(steps, warmup)
    return optax.warmup_constant_schedule(1 / (count + 1), 1.0, count)


def cosine_schedule(steps: int, *, warmup: float = 0.05) -> optax.Schedule:
    """The warm-up of :func:`constant_schedule`, then a cosine that would be 0 at t = steps.

        share(t) = (1 + cos(pi (t - w) / (steps - w))) / 2 for t >= w

    Source: Loshchilov & Hutter 2016, arXiv:1608.03983, equation 5, without restarts. Raises
    ValueError for a warm-up outside [0, 1).
    """
    count = _warmup_steps(steps, warmup)
    end = max(steps, count + 1)
    return optax.warmup_cosine_decay_schedule(1 / (count + 1), 1.0, count, end)


def linear_schedule(steps: int, *, warmup: float = 0.05) -> optax.Schedule:
    """The warm-up of :func:`constant_schedule`, then a line that would be 0 at t = steps.

        share(t) = (steps - t) / (steps - w) for t >= w

    Raises ValueError for a warm-up outside [0, 1).
    """
    count = _warmup_steps(steps, warmup)
    falling = optax.linear_schedule(1.0, 0.0, max(steps - count, 1))
    return optax.join_schedules([constant_schedule(steps, warmup=warmup), falling], [count])


def _warmup_steps(steps: int, warmup: float) -> int:
    if not 0 <= warmup < 1:
        raise ValueError(f"warmup must be a share in [0, 1), but is {warmup}: 0.05 is usual")
    return round(warmup * steps)


def gradient_transformation(
    steps: int,
    *,
    rule: Callable[..., optax.GradientTransformation],
    learning_rate: Traced,
    weight_decay: Traced | None = None,
    schedule: Shares = constant_schedule,
    clipping: Callable[[], optax.GradientTransformation] | None = None,
) -> optax.GradientTransformation:
    """An optimiser of Optax, with a schedule of its rate and with gradients clipped before it.

    ``rule`` is Optax's own function, such as ``optax.adamw``: it is given the rate

        rate(t) = learning_rate * schedule(steps)(t),    t = 0 .. steps - 1,

    and ``weight_decay``, which is left out where it is None: not every rule takes one. What else a
    rule takes is said where it is named. ``clipping()`` is a transformation of the gradients, such
    as ``optax.clip_by_global_norm``. Raises ValueError for a number of the rule's below 0 and one
    of the clipping's that is not above 0: Optax trains with either.
    """
    for part, least in ((rule, 0.0), (clipping, math.ulp(0.0))):
        for name, value in getattr(part, "keywords", {}).items():
            if isinstance(value, (int, float)) and not value >= least:
                wanted = "above 0" if least else "0 or more"
                raise ValueError(
                    f"the optimizer's {name} must be {wanted}, but is {value}: give such a number"
                )
    share = schedule(steps)
    decay = {} if weight_decay is None else {"weight_decay": weight_decay}
    transformation = rule(lambda step: learning_rate * share(step), **decay)
    return transformation if clipping is None else optax.chain(clipping(), transformation)


def has_fans(parameters: Any) -> Any:
    """Optax's mask of what is decayed: True for weight arrays, False for biases and scales."""
    return jax.tree.map(
        lambda variable: "fan_in" in variable.get_metadata(), parameters, is_leaf=is_variable
    )


def muon_matrices(parameters: Any) -> Any:
    """Which axes Muon makes orthogonal: the last two of an array [..., fan_in, fan_out].

    Axes before them (depth, experts, blocks) are of independent matrices. None, for Muon's Adam,
    stands at all else: biases, scales, tables of embeddings, depthwise kernels, and the cores of
    tensor trains, whose matrix is of more than two axes. The map to the logits is a matrix too.
    """
    last_two = optax.contrib.MuonDimensionNumbers(reduction_axis=-2, output_axis=-1)

    def axes(variable: Any) -> Any:
        metadata = variable.get_metadata()
        fans = metadata.get("fan_in"), metadata.get("fan_out")
        shapes = [array.shape[-2:] for array in jax.tree.leaves(variable)]  # none where masked
        return last_two if shapes == [fans] else None

    return jax.tree.map(axes, parameters, is_leaf=is_variable)


class Factors(NamedTuple):
    """By what a weight array's initial values and its learning rate are multiplied."""

    initial: float = 1.0
    rate: float = 1.0


Parametrization = Callable[[int, int], Factors]  # (fan_in, fan_out) -> factors


def standard(fan_in: int, fan_out: int) -> Factors:
    """Initial values of variance 1 / fan_in and one rate for all: nothing is multiplied."""
    del fan_in, fan_out
    return Factors()


def maximal_update(fan_in: int, fan_out: int, *, base_fan_in: float = 64) -> Factors:
    """Rates that transfer: the best one stays where it is as the width grows, under Adam.

        initial deviation = sqrt(min(1, max(fan_out, base_fan_in) / fan_in) / fan_in)
        rate = base_fan_in / fan_in

    As the width grows, a weight array and its update so keep a spectral norm of the order of
    sqrt(fan_out / fan_in), which changes activations by as much at every width. Where ``fan_in`` is
    ``base_fan_in`` nothing is multiplied; where the fan-in doesn't grow with width (a first layer,
    the inner factor of a Monarch map, a bottleneck of fixed rank) neither does its rate fall.

    It is derived for Adam, and holds for Lion, whose updates are as large. It doesn't for others:
    under sgd a wide network then hardly moves, Muon's updates grow less with width, and Adafactor's
    are relative to an array's size, so that the factor of the rate cancels.

    A map to few outputs, as to the logits, starts smaller by sqrt(base_fan_in / fan_in) beyond the
    base: the first logits of a wide network are near zero, of deviation sqrt(base_fan_in / width).

    Source: Yang & Hu 2020, arXiv:2011.14522 (maximal update); Yang, Simon & Bernstein 2023,
    arXiv:2310.17813, condition 1 and parametrization 1, whose deviation has no base (to 10 logits
    it starts smaller from width 10 on; the order in width is the same); for each factor of a
    structured map, Qiu et al. 2024, arXiv:2406.06248, section 3. Raises ValueError for a base that
    is no number above 0.
    """
    if not 0 < base_fan_in < math.inf:
        raise ValueError(
            f"base_fan_in must be a number above 0, but is {base_fan_in}: "
            "64 leaves the rate of 64 inputs as it is"
        )
    outputs = max(fan_out, base_fan_in)
    return Factors(math.sqrt(min(1.0, outputs / fan_in)), base_fan_in / fan_in)


def initial(parameters: Any, parametrization: Parametrization) -> Any:
    """``parameters`` as built, each weight array times its factor for initial values."""
    return _multiplied(parameters, lambda *fans: parametrization(*fans).initial)


def with_rates(
    optimizer: optax.GradientTransformation, parametrization: Parametrization
) -> optax.GradientTransformation:
    """``optimizer`` with each weight array's own rate, f times the rate of all.

    The optimiser is shown W / f, and W moves by f times its update. So f multiplies what comes of
    the gradient and leaves decoupled decay alone: each step of AdamW is

        W <- W - rate * (f * adam(gradient) + weight_decay * W),

    where all weights shrink by one share, whatever their width, as the wide network's balance of
    update and decay needs (Wang & Aitchison 2024, arXiv:2405.13698); decay times f would leave
    wide layers ever larger. Parameters without fans (biases, scales) have f = 1.
    """

    def rate(*fans: int) -> float:
        return parametrization(*fans).rate

    def seen(parameters: Any) -> Any:
        return _multiplied(parameters, lambda *fans: 1 / rate(*fans))

    def init(params: Any) -> Any:
        return optimizer.init(seen(params))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        updates, state = optimizer.update(updates, state, seen(params))
        return _multiplied(updates, rate), state

    return optax.GradientTransformation(init, update)


def _multiplied(parameters: Any, factor: Callable[[int, int], float]) -> Any:
    """Each weight array times its factor; where that is 1, the same array and no product."""

    def each(variable: Any) -> Any:
        metadata = variable.get_metadata()
        if "fan_in" not in metadata:
            return variable
        by = factor(metadata["fan_in"], metadata["fan_out"])
        return variable if by == 1 else jax.tree.map(lambda array: array * by, variable)

    return jax.tree.map(each, parameters, is_leaf=is_variable)

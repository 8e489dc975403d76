"""Optimisers, and how initial values and learning rates depend on width."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax

from smallnets.nn.parameter import is_variable
from smallnets.traced import Traced


def adamw(
    steps: int, *, learning_rate: Traced, weight_decay: Traced = 0.0, warmup: float = 0.05
) -> optax.GradientTransformation:
    """AdamW with a linear warm-up over the share ``warmup`` of the steps and a cosine to zero.

    Only parameters with a fan-in (weight matrices, not scales or biases) are decayed, by
    learning rate x weight decay a step.

    Source: Loshchilov & Hutter 2017, arXiv:1711.05101, algorithm 2. Raises ValueError for a
    warm-up outside [0, 1).
    """
    if not 0 <= warmup < 1:
        raise ValueError(f"warmup must be a share in [0, 1), but is {warmup}: 0.05 is usual")
    warmup_steps = round(warmup * steps)
    shape = optax.join_schedules(
        [
            optax.linear_schedule(1 / (warmup_steps + 1), 1.0, max(warmup_steps, 1)),
            optax.cosine_decay_schedule(1.0, max(steps - warmup_steps, 1)),
        ],
        [warmup_steps],
    )
    return optax.chain(
        optax.scale_by_adam(),
        optax.add_decayed_weights(weight_decay, mask=_has_fan_in),
        optax.scale_by_learning_rate(lambda count: learning_rate * shape(count)),
    )


def adam(steps: int, *, learning_rate: Traced) -> optax.GradientTransformation:
    """Adam at a constant rate (Kingma & Ba 2014, arXiv:1412.6980, algorithm 1)."""
    del steps
    return optax.adam(learning_rate)


def _has_fan_in(parameters: Any) -> Any:
    return jax.tree.map(
        lambda variable: "fan_in" in variable.get_metadata(), parameters, is_leaf=is_variable
    )


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

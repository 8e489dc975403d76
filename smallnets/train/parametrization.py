"""How initial values and learning rates depend on width: what a rate found at one width is worth
at another.

A parametrization is a pure function of the fan-in and the fan-out of the one product that a weight
array takes part in (metadata of the parameter, so each factor of a structured map has its own).
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax

from smallnets.nn.parameter import is_variable


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

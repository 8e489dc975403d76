from typing import Any

import jax
import optax

from smallnets.nn.parameter import is_variable
from smallnets.varying import Varying


def adamw(
    steps: int, *, learning_rate: Varying, weight_decay: Varying = 0.0, warmup: float = 0.05
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


def adam(steps: int, *, learning_rate: Varying) -> optax.GradientTransformation:
    """Adam at a constant rate (Kingma & Ba 2014, arXiv:1412.6980, algorithm 1)."""
    del steps
    return optax.adam(learning_rate)


def _has_fan_in(parameters: Any) -> Any:
    return jax.tree.map(
        lambda variable: "fan_in" in variable.get_metadata(), parameters, is_leaf=is_variable
    )

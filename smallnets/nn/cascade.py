"""Networks in a row: the small one answers where it is sure, and passes on the rest."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from smallnets.nn.exits import Remaining, bucketed
from smallnets.nn.parameter import Hyperparameter

# axes: K networks, n examples


class Cascade(nnx.Module):
    """Each network answers the examples of which it is sure; the next one is asked for the others.

        logits = l_k / t_k,  k the first with  max softmax(l_k / t_k) >= confidence,  or the last

    for the logits l_k of network k. The temperatures t_k make the confidences of networks
    comparable and change no answer. The examples that are passed on are moved together into the
    smallest bucket that holds them (:func:`smallnets.nn.exit_early`), so that a network computes
    hardly more than what it is asked. At a confidence above 1 all go to the last.

    Shapes: x[n, ...] -> logits[n, classes]; ``temperatures[K]``.
    Parameters: those of all networks
    FLOPs: sum_k (share of the examples that reach k) network_k

    Source: cascades by confidence, Viola & Jones 2001; with networks, Wang et al. 2017,
    arXiv:1705.08922. Raises ValueError for fewer than two networks, and unless each has a
    temperature above 0.
    """

    def __init__(
        self, networks: Sequence[Any], *, temperatures: Sequence[float], confidence: float
    ):
        if len(networks) < 2:
            raise ValueError(
                f"a cascade needs two networks or more, but has {len(networks)}: add a larger one"
            )
        if len(temperatures) != len(networks) or not min(temperatures) > 0:
            raise ValueError(
                f"each network needs a temperature above 0, but {len(networks)} networks have "
                f"{list(temperatures)}: 1 leaves logits as they are"
            )
        self.networks = nnx.List(networks)
        self.temperatures = Hyperparameter(jnp.asarray(temperatures, float))
        self.confidence = Hyperparameter(jnp.asarray(confidence, float))

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.answers(x, self.confidence[...])[0]

    def answers(self, x: jax.Array, confidence: jax.Array | float) -> tuple[jax.Array, jax.Array]:
        """The logits[n, classes] at a confidence, and which network gave each, [n] from 0."""
        count = len(x)
        shape = jax.eval_shape(self.networks[0], x)
        rows = Remaining(
            x, jnp.zeros(shape.shape, shape.dtype), jnp.arange(count), jnp.asarray(count)
        )
        asked = []
        for network, temperature in zip(self.networks, self.temperatures[...], strict=True):
            asked.append(rows.count)

            def head(x: jax.Array, network=network, temperature=temperature) -> jax.Array:
                return network(x) / temperature

            rows = bucketed(lambda x: x, head, rows, confidence)
        # those asked last come first
        stage = jnp.sum(jnp.arange(count)[None] < jnp.stack(asked)[1:, None], axis=0)
        place = jnp.argsort(rows.example)
        return rows.logits[place], stage[place]

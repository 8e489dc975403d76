"""Several networks of one shape that answer as one."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx


class Ensemble(nnx.Module):
    """The mean of what networks of one shape think, computed side by side.

        y = log (1 / S) sum_s softmax(network_s(x))

    The networks lie on a leading axis of length S; they differ in their numbers alone, as the runs
    of several seeds do. The answers are logits, whose softmax is the mean probability.

    Shapes: x[..., *shape] -> logits[..., classes].
    Parameters: S * network

    Source: mean of probabilities, Lakshminarayanan et al. 2016, arXiv:1612.01474. Raises ValueError
    for networks that are built otherwise, or of other shapes.
    """

    def __init__(self, networks: Sequence[Any]):
        described = {
            str((jax.tree.structure(each), [leaf.shape for leaf in jax.tree.leaves(each)]))
            for each in networks
        }
        if len(described) != 1:
            raise ValueError(
                f"an ensemble is of networks of one shape, but {len(networks)} have "
                f"{len(described)}: name runs that differ in their seeds"
            )
        self.networks = jax.tree.map(lambda *leaves: jnp.stack(leaves), *networks)

    def __call__(self, x: jax.Array) -> jax.Array:
        logits = jax.vmap(lambda network: network(x))(self.networks)
        return jax.nn.logsumexp(jax.nn.log_softmax(logits), axis=0) - jnp.log(len(logits))

"""Dropout: in training, numbers of a layer at zero by chance."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.core import Tracer

from smallnets.nn.parameter import Factory, Salt, hyperparameter
from smallnets.traced import TracedShare


class Dropout(nnx.Module):
    """In training y = m x / (1 - rate), with each m 0 at the probability ``rate``, else 1; else x.

    Whether it is in training is ``deterministic``, and the bits are from ``salt``; both are set by
    :func:`smallnets.nn.training`. A layer that is called several times in a step, as in a shared
    stack, drops the same numbers in each call, as Gal & Ghahramani 2015, arXiv:1512.05287, do over
    the turns of a recurrent network.

    Shapes: x[...] -> y[...].
    Parameters: 0

    Source: Srivastava et al. 2014, Journal of Machine Learning Research 15, section 4, with the
    factor in training. Raises ValueError for a rate outside [0, 1).
    """

    def __init__(self, rate: TracedShare, *, rngs: nnx.Rngs):
        if not isinstance(rate, Tracer) and not 0 <= rate < 1:
            raise ValueError(
                f"dropout must lie in [0, 1), but is {rate}: it is the share of numbers at zero"
            )
        self.rate = hyperparameter(rate)
        self.deterministic = True
        self.salt = Salt(jax.random.key_data(rngs.params()))

    def __call__(self, x: jax.Array) -> jax.Array:
        if self.deterministic:
            return x
        keep = 1 - self.rate[...]
        kept = jax.random.bernoulli(jax.random.wrap_key_data(self.salt[...]), keep, x.shape)
        return jnp.where(kept, x / keep, jnp.zeros_like(x))


class Dropped(nnx.Module):
    """A layer with dropout behind it.

    Shapes and parameters: those of ``layer``.
    """

    def __init__(
        self, d_in: int, d_out: int, *, layer: Factory, dropout: TracedShare, rngs: nnx.Rngs
    ):
        self.layer = layer(d_in, d_out, rngs=rngs)
        self.dropout = Dropout(dropout, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.dropout(self.layer(x))

    def decode(self, x: jax.Array, cache: Any, at: jax.Array | int) -> tuple[jax.Array, Any]:
        """As :meth:`smallnets.nn.Attention.decode`, of attention with dropout behind it."""
        y, cache = self.layer.decode(x, cache, at)
        return self.dropout(y), cache


def is_none(rate: Any) -> bool:
    """Whether a rate is the number 0, so that no dropout is built; a tracer is not."""
    return not isinstance(rate, Tracer) and rate == 0


def dropped(layer: Factory, rate: Any) -> Factory:
    """The factory of a layer with dropout behind it; at rate 0 the layer itself."""
    return layer if is_none(rate) else partial(Dropped, layer=layer, dropout=rate)

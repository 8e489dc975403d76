"""Linear layers, y = x W: what all of them promise, the full one, the low-rank one, and a bias."""

import math
import warnings
from abc import abstractmethod
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from smallnets.nn.parameter import Factory, is_own, is_variable, kernel


class Linear(nnx.Module):
    """What every linear layer promises: y = x W, for the W that :meth:`matrix` writes out."""

    @abstractmethod
    def __call__(self, x: jax.Array) -> jax.Array:
        """y[..., d_out] of x[..., d_in]."""

    @abstractmethod
    def matrix(self) -> jax.Array:
        """W[..., d_in, d_out]; the leading axes are those on which such layers are stacked."""


def flat(blocked: jax.Array) -> jax.Array:
    """W[..., d_in, d_out] of a W whose inputs and outputs both have two axes, [..., b, p, c, q]."""
    *lead, b, p, c, q = blocked.shape
    return blocked.reshape(*lead, b * p, c * q)


def divisors(number: int) -> list[int]:
    small = [each for each in range(1, math.isqrt(number) + 1) if number % each == 0]
    return sorted({*small, *(number // each for each in small)})


def check_blocks(d_in: int, d_out: int, blocks: int) -> None:
    """Raise ValueError where ``blocks`` does not divide both widths."""
    if blocks < 1 or d_in % blocks or d_out % blocks:
        raise ValueError(
            f"blocks must divide both widths, but blocks={blocks} for d_in={d_in}, "
            f"d_out={d_out}: choose widths that are multiples of {max(blocks, 1)}"
        )


class LargerThanDense(UserWarning):
    """A structured layer has more parameters than the dense layer of its widths."""


def warn_if_larger(
    d_in: int,
    d_out: int,
    *,
    name: str,
    value: int,
    choices: Iterable[int],
    parameters: Callable[[int], int],
) -> None:
    """Warn where the option ``name`` makes a layer larger than the dense one, and say what pays.

    ``parameters(value)`` is the number of parameters for a value of the option, ``choices`` are
    the values that it may have, in rising order; in a range, parameters rise too.
    """
    dense = d_in * d_out
    if parameters(value) <= dense:
        return
    if isinstance(choices, range):  # of a wide layer too long to be looked at one by one
        pays = choices[: bisect_left(choices, dense, key=parameters)]
    else:
        pays = [choice for choice in choices if parameters(choice) < dense]
    advice = f"choose {name} {_message(pays)}" if pays else f"no {name} is smaller here"
    warnings.warn(
        f"{name}={value} makes {parameters(value):,} parameters for d_in={d_in}, d_out={d_out}, "
        f"more than the {dense:,} of the dense layer: {advice}",
        LargerThanDense,
        stacklevel=2,
    )


def _message(values: Sequence[int]) -> str:
    """Rising numbers in words: an unbroken row by its ends."""
    if values[-1] - values[0] == len(values) - 1 and len(values) > 1:
        return f"from {values[0]} to {values[-1]}"
    return " or ".join(map(str, values))


class Dense(Linear):
    """The full linear layer, y = x W.

    Shapes: x[..., d_in] -> y[..., d_out]; W[d_in, d_out].
    Parameters: d_in * d_out
    FLOPs: 2 * d_in * d_out
    """

    def __init__(self, d_in: int, d_out: int, *, rngs: nnx.Rngs):
        self.kernel = kernel(rngs, d_in, d_out, fan_in=d_in, fan_out=d_out)

    def __call__(self, x: jax.Array) -> jax.Array:
        return jnp.einsum("...i,io->...o", x, self.kernel[...])

    def matrix(self) -> jax.Array:
        return self.kernel[...]


class Affine(nnx.Module):
    """Any linear layer plus a bias, y = linear(x) + b.

    Shapes: x[..., d_in] -> y[..., d_out]; b[d_out], zero at first.
    Parameters: linear + d_out
    FLOPs: linear
    """

    def __init__(self, d_in: int, d_out: int, *, linear: Factory, rngs: nnx.Rngs):
        self.linear = linear(d_in, d_out, rngs=rngs)
        self.bias = nnx.Param(jnp.zeros(d_out))

    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.linear(x)
        return y + jnp.broadcast_to(self.bias[...], y.shape)


class LowRank(Linear):
    """A linear layer through a bottleneck, y = x U V.

    Shapes: x[..., d_in] -> y[..., d_out]; U[d_in, rank], V[rank, d_out]. It saves parameters below
    rank d_in d_out / (d_in + d_out); at rank min(d_in, d_out) it expresses any matrix.
    Parameters: rank * (d_in + d_out)
    FLOPs: 2 * rank * (d_in + d_out)

    ``ratio`` is rank / min(d_in, d_out), rounded, at least 1: one of ``rank`` and ``ratio`` is
    given. Raises ValueError for a rank outside 1 .. min(d_in, d_out) or a ratio outside (0, 1], and
    warns where that is larger than the dense layer.
    """

    def __init__(
        self,
        d_in: int,
        d_out: int,
        *,
        rank: int | None = None,
        ratio: float | None = None,
        rngs: nnx.Rngs,
    ):
        smaller = min(d_in, d_out)
        if rank is None and ratio is not None:
            if not 0 < ratio <= 1:
                raise ValueError(
                    f"ratio must lie above 0 and up to 1, but is {ratio}: it is the share of the "
                    "full rank"
                )
            rank = max(1, round(ratio * smaller))
        elif rank is None or ratio is not None:
            raise ValueError(
                f"low-rank takes one of rank and ratio, not rank={rank} with ratio={ratio}: "
                "set the other to null"
            )
        if not 1 <= rank <= smaller:
            raise ValueError(
                f"rank must lie between 1 and the smaller width, but rank={rank} for "
                f"d_in={d_in}, d_out={d_out}: choose rank <= {smaller} or a larger width"
            )
        warn_if_larger(
            d_in,
            d_out,
            name="rank",
            value=rank,
            choices=range(1, smaller + 1),
            parameters=lambda rank: rank * (d_in + d_out),
        )
        self.rank = rank
        self.down = kernel(rngs, d_in, rank, fan_in=d_in, fan_out=rank)
        self.up = kernel(rngs, rank, d_out, fan_in=rank, fan_out=d_out)

    def __call__(self, x: jax.Array) -> jax.Array:
        hidden = jnp.einsum("...i,ir->...r", x, self.down[...])
        return jnp.einsum("...r,ro->...o", hidden, self.up[...])

    def matrix(self) -> jax.Array:
        return jnp.einsum("...ir,...ro->...io", self.down[...], self.up[...])


def merge(layer: Linear) -> Dense:
    """The dense layer that equals ``layer``, up to rounding; stacked as ``layer`` is.

    Notes on its parameters, such as the share of experts that one token uses, are kept.
    """
    matrix = layer.matrix()
    *_, d_in, d_out = matrix.shape
    notes = _first(layer).get_metadata()
    dense = jax.eval_shape(lambda: Dense(1, 1, rngs=nnx.Rngs(0)))
    dense.kernel = nnx.Param(matrix, **{**notes, "fan_in": d_in, "fan_out": d_out})
    return dense


def merged(model: Any) -> Any:
    """``model`` with every linear layer in it replaced by the dense layer that equals it.

    Blocks that are shared stay shared. So the differences of a relaxed layer stay as they are:
    merged, they would take a dense layer for each call.
    """

    def rule(node: Any) -> Any:
        return merge(node) if isinstance(node, Linear) and not is_own(_first(node)) else node

    return jax.tree.map(rule, model, is_leaf=lambda node: isinstance(node, Linear))


def _first(layer: Linear) -> nnx.Param:
    return jax.tree.leaves(layer, is_leaf=is_variable)[0]

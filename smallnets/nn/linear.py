import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterable

import jax
from flax import nnx


class Linear(nnx.Module):
    """What every linear map promises: y = x W, for the W that :meth:`matrix` writes out."""

    @abstractmethod
    def __call__(self, x: jax.Array) -> jax.Array:
        """y[..., d_out] of x[..., d_in]."""

    @abstractmethod
    def matrix(self) -> jax.Array:
        """W[..., d_in, d_out]; the leading axes are those on which such maps are stacked."""


def flat(blocked: jax.Array) -> jax.Array:
    """W[..., d_in, d_out] of a W whose inputs and outputs both have two axes, [..., b, p, c, q]."""
    *lead, b, p, c, q = blocked.shape
    return blocked.reshape(*lead, b * p, c * q)


def divisors(number: int) -> list[int]:
    return [each for each in range(1, number + 1) if number % each == 0]


def check_blocks(d_in: int, d_out: int, blocks: int) -> None:
    """Raise ValueError where ``blocks`` does not divide both widths."""
    if blocks < 1 or d_in % blocks or d_out % blocks:
        raise ValueError(
            f"blocks must divide both widths, but blocks={blocks} for d_in={d_in}, "
            f"d_out={d_out}: choose widths that are multiples of {max(blocks, 1)}"
        )


class LargerThanDense(UserWarning):
    """A structured map has more parameters than the dense map of its widths."""


def warn_if_larger(
    d_in: int,
    d_out: int,
    *,
    name: str,
    value: int,
    choices: Iterable[int],
    parameters: Callable[[int], int],
) -> None:
    """Warn where the option ``name`` makes a map larger than the dense one, and say what pays.

    ``parameters(value)`` is the number of parameters for a value of the option, ``choices`` are
    the values that it may have, in rising order.
    """
    dense = d_in * d_out
    if parameters(value) <= dense:
        return
    pays = [choice for choice in choices if parameters(choice) < dense]
    advice = f"choose {name} {_said(pays)}" if pays else f"no {name} is smaller here"
    warnings.warn(
        f"{name}={value} makes {parameters(value):,} parameters for d_in={d_in}, d_out={d_out}, "
        f"more than the {dense:,} of the dense map: {advice}",
        LargerThanDense,
        stacklevel=2,
    )


def _said(values: list[int]) -> str:
    """Rising numbers in words: an unbroken row by its ends."""
    if values[-1] - values[0] == len(values) - 1 and len(values) > 1:
        return f"from {values[0]} to {values[-1]}"
    return " or ".join(map(str, values))

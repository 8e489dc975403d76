"""A linear layer of one's own: replace it by yours, and keep what ``smallnets.testing`` checks."""

import math
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from smallnets.nn import Linear, kernel


def fft_flops(equation) -> int:
    """2.5 n log2 n for each Fourier transform of n real numbers, the usual count."""
    larger = max(atom.aval.size for atom in (*equation.invars, *equation.outvars))
    (length,) = equation.params["fft_lengths"]
    return round(2.5 * larger * math.log2(length))


class Circulant(Linear):
    """A circular convolution, y[j] = sum_i x[i] w[(j - i) mod n] for n = max(d_in, d_out).

    Shapes: x[..., d_in] -> y[..., d_out]; w[n].
    Parameters: max(d_in, d_out)
    FLOPs: three Fourier transforms of n numbers, where a dense layer takes 2 d_in d_out
    """

    flop_rules: ClassVar = {"fft": fft_flops}  # of operations that smallnets has no rule for

    def __init__(self, d_in: int, d_out: int, *, rngs: nnx.Rngs):
        self.d_in, self.d_out = d_in, d_out
        self.kernel = kernel(rngs, max(d_in, d_out), fan_in=d_in, fan_out=d_out)

    def __call__(self, x: jax.Array) -> jax.Array:
        n = max(self.d_in, self.d_out)
        transformed = jnp.fft.rfft(x, n=n)  # filled up with zeros
        factors = jnp.broadcast_to(jnp.fft.rfft(self.kernel[...]), transformed.shape)
        return jnp.fft.irfft(transformed * factors, n=n)[..., : self.d_out]

    def matrix(self) -> jax.Array:
        n = max(self.d_in, self.d_out)
        places = (jnp.arange(self.d_out) - jnp.arange(self.d_in)[:, None]) % n
        return self.kernel[...][..., places]  # any leading axes stay: of layers that are stacked

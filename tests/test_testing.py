"""Each promise of ``smallnets.testing`` refuses the layer that breaks it, by one line."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from smallnets.nn import Dense, kernel
from smallnets.testing import check_linear


class OneAxis(Dense):
    def __call__(self, x):
        return jnp.einsum("ni,io->no", x, self.kernel[...])


class NoFans(Dense):
    def __init__(self, d_in: int, d_out: int, *, rngs: nnx.Rngs):
        self.kernel = nnx.Param(jax.random.normal(rngs.params(), (d_in, d_out)))


class OtherFans(Dense):
    def __init__(self, d_in: int, d_out: int, *, rngs: nnx.Rngs):
        self.kernel = kernel(rngs, d_in, d_out, fan_in=d_out, fan_out=d_in)


class HeldTwice(Dense):
    def __init__(self, d_in: int, d_out: int, *, rngs: nnx.Rngs):
        super().__init__(d_in, d_out, rngs=rngs)
        self.again = self.kernel


class Stopped(Dense):
    def __call__(self, x):
        return jax.lax.stop_gradient(super().__call__(x))


class OtherMatrix(Dense):
    def matrix(self):
        return 2 * self.kernel[...]


class MatrixOfOne(Dense):
    def matrix(self):
        return jnp.einsum("io,op->ip", self.kernel[...], jnp.eye(self.kernel.shape[-1]))


class Fourier(Dense):
    def __call__(self, x):
        return jnp.fft.irfft(jnp.fft.rfft(super().__call__(x)), n=self.kernel.shape[-1])

    def matrix(self):
        return self.kernel[...]


BROKEN = {
    OneAxis: r"any number of leading axes",
    NoFans: r"NoFans.kernel must note the fans .* fan_in=16 and fan_out=16, but notes None",
    OtherFans: r"fan_in=32 and fan_out=16, but notes 16 and 32",
    HeldTwice: r"must hold each parameter once",
    Stopped: r"must equal finite differences",
    OtherMatrix: r"y = x W for the W of its matrix\(\), but they differ",
    MatrixOfOne: r"matrix\(\) must give W.* here \(3, 16, 16\), but gives nothing: ",
    Fourier: r"must be counted, or said not to be by counted=False: .*'fft'.*flop_rules",
}


@pytest.mark.slow
@pytest.mark.parametrize("layer", BROKEN, ids=lambda layer: layer.__name__)
def test_a_layer_that_breaks_a_promise(layer):
    with pytest.raises(AssertionError, match=BROKEN[layer]) as refused:
        check_linear(layer)
    assert len(str(refused.value).splitlines()) == 1


def test_what_can_t_be_kept_in_a_file():
    class Local(Dense):
        pass

    with pytest.raises(AssertionError, match=r"must be kept in a file: .* must be importable"):
        check_linear(Local, widths=[(8, 8)])


def test_a_layer_whose_flops_are_said_not_to_be_counted():
    check_linear(Fourier, widths=[(8, 8)], counted=False)


def test_what_the_factory_refuses_goes_through():
    def refused(d_in: int, d_out: int, *, rngs: nnx.Rngs) -> Dense:
        raise ValueError("blocks must divide both widths")

    with pytest.raises(ValueError, match="blocks must divide"):
        check_linear(refused)

import math
from itertools import pairwise

import jax
from flax import nnx

from smallnets.nn.affine import Affine
from smallnets.nn.parameter import Factory


class Perceptron(nnx.Module):
    """Affine maps with ReLU between them; with no hidden widths it is logistic regression.

    Shapes: x[..., *shape] -> logits[..., d_out]; each example is flattened.
    Parameters: sum over consecutive widths of (linear + the later width).
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        d_out: int,
        *,
        widths: list[int],
        linear: Factory,
        rngs: nnx.Rngs,
    ):
        self.axes = len(shape)
        sizes = [math.prod(shape), *widths, d_out]
        self.maps = nnx.List([Affine(a, b, linear=linear, rngs=rngs) for a, b in pairwise(sizes)])

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x.reshape(*x.shape[: x.ndim - self.axes], -1)
        for map in self.maps[:-1]:
            x = jax.nn.relu(map(x))
        return self.maps[-1](x)

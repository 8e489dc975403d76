import math
from itertools import pairwise

import jax
from flax import nnx

from smallnets.nn.linear import Affine, Dense
from smallnets.nn.parameter import Factory


class Perceptron(nnx.Module):
    """Affine layers with ReLU between them; with no hidden widths it is logistic regression.

    ``linear`` is the layer to each hidden width; the last, to the logits, is dense in every family.

    Shapes: x[..., *shape] -> logits[..., d_out]; each example is flattened.
    Parameters: sum over consecutive widths of (the layer + the later width).
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
        sizes = [math.prod(shape), *widths]
        hidden = [Affine(a, b, linear=linear, rngs=rngs) for a, b in pairwise(sizes)]
        self.layers = nnx.List([*hidden, Affine(sizes[-1], d_out, linear=Dense, rngs=rngs)])

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x.reshape(*x.shape[: x.ndim - self.axes], -1)
        for layer in self.layers[:-1]:
            x = jax.nn.relu(layer(x))
        return self.layers[-1](x)

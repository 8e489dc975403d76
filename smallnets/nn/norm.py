import jax
import jax.numpy as jnp
from flax import nnx


class RMSNorm(nnx.Module):
    """y = x / sqrt(mean(x^2) + epsilon) * scale.

    Shapes: x[..., d] -> y[..., d]; scale[d], one at first.
    Parameters: d

    Source: Zhang & Sennrich 2019, arXiv:1910.07467, equation 4.
    """

    def __init__(self, d: int, *, epsilon: float = 1e-6):
        self.epsilon = epsilon
        self.scale = nnx.Param(jnp.ones(d))

    def __call__(self, x: jax.Array) -> jax.Array:
        mean_square = jnp.mean(jnp.square(x), axis=-1, keepdims=True)
        y = x * jax.lax.rsqrt(mean_square + self.epsilon)
        return y * jnp.broadcast_to(self.scale[...], y.shape)


class LayerNorm(nnx.Module):
    """y = (x - mean(x)) / sqrt(variance(x) + epsilon) * scale + bias.

    Shapes: x[..., d] -> y[..., d]; scale[d], one at first; bias[d], zero at first.
    Parameters: 2 * d

    Source: Ba et al. 2016, arXiv:1607.06450, equation 4.
    """

    def __init__(self, d: int, *, epsilon: float = 1e-5):
        self.norm = RMSNorm(d, epsilon=epsilon)
        self.bias = nnx.Param(jnp.zeros(d))

    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.norm(x - jnp.mean(x, axis=-1, keepdims=True))
        return y + jnp.broadcast_to(self.bias[...], y.shape)

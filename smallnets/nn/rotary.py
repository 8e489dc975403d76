import jax
import jax.numpy as jnp


def rotate(x: jax.Array, *, base: float) -> jax.Array:
    """Rotary positions: each pair of numbers of a head is turned by its position times a frequency.

        y_i     = x_i cos(t f_i) - x_{i+h/2} sin(t f_i)
        y_{i+h/2} = x_{i+h/2} cos(t f_i) + x_i sin(t f_i),     f_i = base^(-2 i / h)

    for position t = 0, 1, ... and i = 0 .. h/2 - 1, so that the product of two rotated heads
    depends on their positions only by the difference. h is even.

    Shapes: x[..., T, heads, h] -> y of the same shape.

    Source: Su et al. 2021, arXiv:2104.09864, equation 34, with the halves of a head as pairs, as
    in Llama, where they pair neighbours.
    """
    positions, size = x.shape[-3], x.shape[-1]
    half = size // 2
    frequencies = base ** (-jnp.arange(half) / half)
    angles = jnp.outer(jnp.arange(positions, dtype=float), frequencies)[:, None]  # [T, 1, h/2]
    first, second = x[..., :half], x[..., half:]
    cos = jnp.broadcast_to(jnp.cos(angles), first.shape)
    sin = jnp.broadcast_to(jnp.sin(angles), first.shape)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)

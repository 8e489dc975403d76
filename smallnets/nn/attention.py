"""Attention between the positions of a sequence, and rotary positions."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from smallnets.nn.parameter import Factory


class Cache(NamedTuple):
    """Keys, rotated by their positions, and values of the positions so far.

    Both are [..., positions, key_value_heads, head_dim]. Where there is room for more positions
    than were read, what lies there is never looked at.
    """

    keys: jax.Array
    values: jax.Array


class Attention(nnx.Module):
    """Softmax attention between the positions of a sequence, its projections any linear layers.

        y_t = output(concat over heads n of sum_s softmax_s(q_tn . k_sn / sqrt(head_dim)) v_sn)

    with s over all positions, or over s <= t if ``causal``. ``d_in / head_dim`` query heads;
    ``key_value_heads`` of keys and values, each for as many query heads in a row: as many as the
    queries' without it, 1 is multi-query, between them grouped-query attention. Queries and keys
    are rotated by their positions with ``rotary_base``, without where it is None.

    Shapes: x[..., T, d_in] -> y[..., T, d_out].
    Parameters: linear(d_in, d_in) + 2 linear(d_in, key_value_heads head_dim) + linear(d_in, d_out)
    FLOPs: those of the layers, and 4 T d_in for each position: causal attention computes the other
    half of the products too.

    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.2; multi-query: Shazeer 2019,
    arXiv:1911.02150; grouped: Ainslie et al. 2023, arXiv:2305.13245. Raises ValueError where
    ``head_dim`` does not divide ``d_in`` or ``key_value_heads`` the heads, and for an odd
    ``head_dim`` with rotary positions or a base of theirs that is not above 0.
    """

    def __init__(
        self,
        d_in: int,
        d_out: int,
        *,
        linear: Factory,
        head_dim: int,
        key_value_heads: int | None = None,
        causal: bool,
        rotary_base: float | None = 10_000.0,
        rngs: nnx.Rngs,
    ):
        if head_dim < 1 or d_in % head_dim:
            raise ValueError(
                f"head_dim must divide the width, but head_dim={head_dim} for a width of {d_in}: "
                f"choose a width that is a multiple of {max(head_dim, 1)}"
            )
        heads = d_in // head_dim
        key_value_heads = heads if key_value_heads is None else key_value_heads
        if key_value_heads < 1 or heads % key_value_heads:
            raise ValueError(
                f"key_value_heads must divide the heads, but key_value_heads={key_value_heads} for "
                f"{heads} heads ({d_in} / {head_dim}): choose a divisor, or null for no sharing"
            )
        if rotary_base is not None and head_dim % 2:
            raise ValueError(
                f"rotary positions need an even head_dim, but head_dim={head_dim}: make it even, "
                "or set rotary_base to null"
            )
        if rotary_base is not None and not rotary_base > 0:
            raise ValueError(
                f"rotary_base must be above 0, but is {rotary_base}: 10,000 is usual, or null for "
                "no rotary positions"
            )
        self.head_dim, self.causal, self.rotary_base = head_dim, causal, rotary_base
        self.query = linear(d_in, d_in, rngs=rngs)
        self.key = linear(d_in, key_value_heads * head_dim, rngs=rngs)
        self.value = linear(d_in, key_value_heads * head_dim, rngs=rngs)
        self.output = linear(d_in, d_out, rngs=rngs)

    def __call__(self, x: jax.Array, counted: jax.Array | None = None) -> jax.Array:
        """y of x; where ``counted[..., T]`` is given, no position attends to one that is False."""
        query, key, value = self._heads(x, 0)
        seen: dict[str, Any] = {"is_causal": self.causal}
        if counted is not None:
            seen["mask"] = counted.reshape(-1, 1, 1, counted.shape[-1])
        return self._mixed(x, query, Cache(key, value), **seen)

    def decode(
        self, x: jax.Array, cache: Cache | None, at: jax.Array | int
    ) -> tuple[jax.Array, Cache]:
        """The outputs at the positions ``at``, ``at`` + 1, ... of x[batch, n, d], and the cache.

        ``cache`` holds the positions before ``at`` and has room for n more, into which theirs are
        written; None is none before, and then the cache given back has room for these alone. The
        outputs are those of all positions in one call, to rounding.
        """
        query, *read = self._heads(x, at)
        if cache is None:
            cache = Cache(*read)
            return self._mixed(x, query, cache, is_causal=True), cache
        cache = Cache(
            *(
                jax.lax.dynamic_update_slice_in_dim(old, new, at, axis=-3)
                for old, new in zip(cache, read, strict=True)
            )
        )
        positions = at + jnp.arange(x.shape[-2])
        seen = jnp.arange(cache.keys.shape[-3])[None] <= positions[:, None]
        return self._mixed(x, query, cache, mask=seen[None, None]), cache

    def _heads(self, x: jax.Array, at: jax.Array | int) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Queries and keys, rotated, and values of x[..., T, d], each [-1, T, heads, head_dim]."""

        def heads(y: jax.Array) -> jax.Array:
            return y.reshape(-1, x.shape[-2], y.shape[-1] // self.head_dim, self.head_dim)

        query, key, value = heads(self.query(x)), heads(self.key(x)), heads(self.value(x))
        if self.rotary_base is not None:
            query, key = (rotate(each, base=self.rotary_base, at=at) for each in (query, key))
        return query, key, value

    def _mixed(self, x: jax.Array, query: jax.Array, cache: Cache, **seen: Any) -> jax.Array:
        """What the queries of x find in the cache."""
        with jax.numpy_dtype_promotion("standard"):  # inside, JAX scales bfloat16 by a float32
            mixed = jax.nn.dot_product_attention(query, *cache, **seen)
        return self.output(mixed.reshape(*x.shape[:-1], -1))


def rotate(x: jax.Array, *, base: float, at: jax.Array | int = 0) -> jax.Array:
    """Rotary positions: each pair of numbers of a head is turned by its position times a frequency.

        y_i     = x_i cos(t f_i) - x_{i+h/2} sin(t f_i)
        y_{i+h/2} = x_{i+h/2} cos(t f_i) + x_i sin(t f_i),     f_i = base^(-2 i / h)

    for position t = ``at``, ``at`` + 1, ... and i = 0 .. h/2 - 1, so that the product of two
    rotated heads depends on their positions only by the difference. h is even.

    Shapes: x[..., T, heads, h] -> y of the same shape.

    Source: Su et al. 2021, arXiv:2104.09864, equation 34, with the halves of a head as pairs, as
    in Llama, where they pair neighbours.
    """
    positions, size = x.shape[-3], x.shape[-1]
    half = size // 2
    frequencies = base ** (-np.arange(half) / half)
    # Where the position is known while tracing, the tables are constants of the program.
    numbers: Any = np if isinstance(at, int) else jnp
    times = (at + numbers.arange(positions)).astype(np.float32)
    angles = numbers.outer(times, frequencies.astype(np.float32))[:, None]  # [T, 1, h/2]
    first, second = x[..., :half], x[..., half:]
    cos = jnp.broadcast_to(jnp.asarray(numbers.cos(angles), x.dtype), first.shape)
    sin = jnp.broadcast_to(jnp.asarray(numbers.sin(angles), x.dtype), first.shape)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)

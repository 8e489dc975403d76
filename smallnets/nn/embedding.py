import math

import jax
import jax.numpy as jnp
from flax import nnx

from smallnets.nn.linear import Dense, warn_if_larger
from smallnets.nn.parameter import kernel


class Embedding(nnx.Module):
    """A vector for each token, and if ``tied``, the logits of tokens from the same table.

        embed(t) = up(s table_t),    logits(x) = down(x) table^T

    Tied, the table is drawn with variance 1 / e, as the layer to the logits needs it, and s =
    sqrt(e) (Vaswani et al. 2017, arXiv:1706.03762, section 3.4); else with variance 1, and s = 1. A
    tied decoder starts by expecting the token that it has just read, by a logit of up to sqrt(e).
    The dense layers ``up`` and ``down`` are there where ``factor`` gives the e below width of a
    factorised embedding (ALBERT: Lan et al. 2019, arXiv:1909.11942, section 3.1), ``down`` only if
    tied; otherwise e = width.

    Shapes: tokens[...] (integers below ``vocabulary``) -> x[..., width]; table[vocabulary, e];
    x[..., width] -> logits[..., vocabulary].
    Parameters: vocabulary e, and e width for each of ``up`` and ``down``.
    FLOPs: none for the table's rows; 2 vocabulary e for the logits; those of the layers.

    Warns where a table and ``up`` are larger than the table of a plain embedding.
    """

    def __init__(
        self,
        vocabulary: int,
        width: int,
        *,
        factor: int | None = None,
        tied: bool,
        rngs: nnx.Rngs,
    ):
        e = width if factor is None else factor
        if factor is not None:
            warn_if_larger(
                vocabulary,
                width,
                name="embedding_width",
                value=factor,
                choices=range(1, width),
                parameters=lambda e: e * (vocabulary + width),
            )
        fan_in, fan_out = (e, vocabulary) if tied else (1, e)  # of the logits, or of a one-hot row
        self.table = kernel(rngs, vocabulary, e, fan_in=fan_in, fan_out=fan_out)
        self.scale = math.sqrt(fan_in)
        self.up = None if factor is None else Dense(e, width, rngs=rngs)
        self.down = Dense(width, e, rngs=rngs) if tied and factor is not None else None

    def __call__(self, tokens: jax.Array) -> jax.Array:
        x = self.scale * self.table[...][tokens]
        return x if self.up is None else self.up(x)

    def logits(self, x: jax.Array) -> jax.Array:
        x = x if self.down is None else self.down(x)
        return jnp.einsum("...e,ve->...v", x, self.table[...])


class LearnedPositions(nnx.Module):
    """A vector learned for each position, y_t = x_t + table_t.

    Shapes: x[..., T, d] -> y[..., T, d] for T up to ``length``; table[length, d], of variance 1.
    Parameters: length * d

    Source: Gehring et al. 2017, arXiv:1705.03122, section 3.1.
    """

    def __init__(self, length: int, d: int, *, rngs: nnx.Rngs):
        self.table = kernel(rngs, length, d, fan_in=1, fan_out=d)

    def __call__(self, x: jax.Array, at: jax.Array | int = 0) -> jax.Array:
        """y of x, whose first position is ``at``; beyond the table its last vector is added."""
        if isinstance(at, int):
            rows = self.table[at : at + x.shape[-2]]
        else:
            rows = self.table[...].at[at + jnp.arange(x.shape[-2])].get(mode="clip")
        return x + jnp.broadcast_to(rows, x.shape)

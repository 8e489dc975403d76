from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx

from smallnets.nn.parameter import Factory, kernel, stacked
from smallnets.nn.state import report, statistic


class SoftMixture(nnx.Module):
    """A soft mixture: each expert computes a few weighted means of positions, none is dropped.

        l = x W,  u_s = sum_t softmax_t(l_ts) x_t,  y_t = sum_s softmax_s(l_ts) expert(u_s)

    over the positions t of axis -2 and all slots s, ``slots`` for each of the ``experts``. There
    is neither a choice nor a dispatch. Every position sees all others, later ones too: in a causal
    model it must not be used. Without an axis of positions, [batch, d], it mixes the examples of a
    batch with each other, held-out ones too.

    Shapes: x[..., T, d_in] -> y[..., T, d_out]; a vector is one position.
    Parameters: experts * expert + d_in * experts * slots
    FLOPs: for each example experts * slots * expert + 2 T experts slots (2 d_in + d_out). Each
    position depends on every expert, so all parameters are active.

    At initialisation the means have a lower variance than x, about 1 / T of it where positions are
    independent, and so has y. In training the curve ``routing_entropy`` is that of a position's
    weights of the experts, in nats, over all mixtures (:mod:`smallnets.nn.state`).

    Source: Puigcerver et al. 2023, arXiv:2308.00951, equations 1 to 3, without the normalisation
    of section 2.3. Raises ValueError for experts or slots below 1.
    """

    def __init__(
        self,
        d_in: int,
        d_out: int,
        *,
        expert: Factory,
        experts: int,
        slots: int = 1,
        rngs: nnx.Rngs,
    ):
        if experts < 1 or slots < 1:
            raise ValueError(
                f"experts and slots must be at least 1, but experts={experts}, slots={slots}: "
                "choose 1 or more of each"
            )
        self.experts, self.slots = experts, slots
        self.kernel = kernel(rngs, d_in, experts * slots, fan_in=d_in, fan_out=experts * slots)
        self.expert = stacked(partial(expert, d_in, d_out), rngs.params(), experts)
        self.entropy = statistic("routing_entropy")

    def __call__(self, x: jax.Array) -> jax.Array:
        positions = x.reshape(-1, *x.shape[-2:]) if x.ndim > 1 else x.reshape(1, 1, -1)
        logits = jnp.einsum("bti,is->bts", positions, self.kernel[...])
        taken = jax.nn.softmax(logits, axis=1)
        given = jax.nn.softmax(logits, axis=2)
        slots = jnp.einsum("bts,bti->sbi", taken, positions)
        rows = slots.reshape(self.experts, -1, x.shape[-1])
        rows = jax.vmap(lambda expert, rows: expert(rows))(self.expert, rows)
        y = jnp.einsum("bts,sbo->bto", given, rows.reshape(*slots.shape[:2], -1))
        weights = given.reshape(*given.shape[:2], self.experts, self.slots).sum(axis=-1)
        entropy = -jax.scipy.special.xlogy(weights, weights).sum(axis=-1).mean()
        return report(y, self.entropy, entropy).reshape(*x.shape[:-1], -1)

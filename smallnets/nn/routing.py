"""Which experts a token goes to, and the two losses that keep routers healthy."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

# axes: T tokens, E experts, k choices of a token, n choices in all


class Routing(NamedTuple):
    """n choices: to which expert which token goes, and with which weight; ``expert[n]`` etc.

    Where slots are scarce, choices are served in this order. ``token`` is None where every token
    has as many choices: then choice i belongs to token i mod T. ``probabilities[T, E]`` are what
    the router thinks of the experts.
    """

    expert: jax.Array
    weight: jax.Array
    probabilities: jax.Array
    token: jax.Array | None = None

    def tokens_of(self, choices: jax.Array) -> jax.Array:
        """The token of each choice."""
        if self.token is None:
            return choices % self.probabilities.shape[0]
        return self.token[choices]

    def total(self, rows: jax.Array) -> jax.Array:
        """rows[n, d], one for each choice, to their sums for each token, [T, d]."""
        count = self.probabilities.shape[0]
        if self.token is None:
            # one by one: XLA on CPU adds up a leading axis ten times as slowly as it adds arrays
            return sum(rows.reshape(-1, count, rows.shape[-1])[1:], rows[:count])
        return jnp.zeros((count, rows.shape[-1]), rows.dtype).at[self.token].add(rows)

    def share(self) -> jax.Array:
        """[E], the share of all choices that goes to each expert; 1 / E where they are balanced."""
        count = self.probabilities.shape[-1]
        chosen = self.expert[None] == jnp.arange(count, dtype=self.expert.dtype)[:, None]
        return chosen.mean(axis=1, dtype=self.weight.dtype)

    def dropped(self, kept: jax.Array) -> jax.Array:
        """The share of choices that are not ``kept[n]``; where experts choose, of tokens left out.

        An expert that chooses drops nothing, but a token may have been chosen by none.
        """
        if self.token is not None:
            kept = jnp.zeros(self.probabilities.shape[0], bool).at[self.token].max(kept)
        return (~kept).mean(dtype=self.weight.dtype)

    def entropy(self) -> jax.Array:
        """Mean over tokens of the entropy of ``probabilities``, in nats, from 0 to log E."""
        return -jax.scipy.special.xlogy(self.probabilities, self.probabilities).sum(axis=-1).mean()


def token_choice(weights: jax.Array, experts: jax.Array, probabilities: jax.Array) -> Routing:
    """The routing in which each token has k choices, ``weights[T, k]`` and ``experts[T, k]``.

    First choices come before second ones, earlier tokens first.
    """
    return Routing(experts.T.reshape(-1), weights.T.reshape(-1), probabilities)


def balance_loss(routing: Routing) -> jax.Array:
    """E sum_i f_i P_i: 1 where tokens spread evenly, up to E where one expert takes all.

    f_i is the share of the choices that go to expert i (no gradient), P_i the mean router
    probability of expert i.

    Source: Fedus et al. 2021, arXiv:2101.03961, equations 4 to 6, with choices for tokens where
    k > 1.
    """
    share = jax.lax.stop_gradient(routing.share())
    return share.size * jnp.sum(share * routing.probabilities.mean(axis=0))


def router_z_loss(logits: jax.Array) -> jax.Array:
    """mean over tokens of (log sum_i exp(l_i))^2: keeps the logits small.

    Source: Zoph et al. 2022 (ST-MoE), arXiv:2202.08906, equation 5.
    """
    return jnp.mean(jnp.square(jax.nn.logsumexp(logits, axis=-1)))


@jax.custom_vjp
def attach_loss(x: jax.Array, loss: jax.Array) -> jax.Array:
    """x itself; in the backward pass ``loss`` receives the cotangent 1, as if added to the total.

    So a map keeps one signature, x -> y, wherever it is nested, in a ``lax.scan`` too, and its
    auxiliary loss still trains it. What that costs:

    - The value of the loss that the caller computes does not contain the auxiliary loss.
    - The auxiliary gradient does not know what the caller does with the output: scaling the
      caller's loss by 2 leaves it as it is, and any gradient through the map (a Jacobian, a
      gradient for one example) has it added. Finite differences disagree with the gradient
      unless the weights of the auxiliary losses are 0.
    - Forward-mode differentiation (``jvp``, ``hessian``) raises TypeError.
    """
    del loss
    return x


def _attach_forward(x: jax.Array, loss: jax.Array) -> tuple[jax.Array, jax.Array]:
    return x, jnp.ones_like(loss)


def _attach_backward(one: jax.Array, cotangent: jax.Array) -> tuple[jax.Array, jax.Array]:
    return cotangent, one


attach_loss.defvjp(_attach_forward, _attach_backward)

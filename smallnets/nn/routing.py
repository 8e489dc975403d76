"""Which experts a token goes to, and the two losses that keep routers healthy."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

# axes: T tokens, E experts, k choices of a token


class Assignment(NamedTuple):
    """The routing of T tokens: ``experts[T, k]`` (indices, best first), ``weights[T, k]``."""

    experts: jax.Array
    weights: jax.Array


def top_k_routing(logits: jax.Array, top_k: int) -> Assignment:
    """Each token's ``top_k`` likeliest experts, weighted by their softmax among those chosen.

    g_i = exp(l_i) / sum_{j chosen} exp(l_j)   (Jiang et al. 2024, arXiv:2401.04088, section 2.1)

    Shapes: logits[T, E] -> Assignment of [T, k]. The weights of a token sum to 1.
    """
    best, experts = jax.lax.top_k(logits, top_k)
    return Assignment(experts, jax.nn.softmax(best))


def balance_loss(logits: jax.Array, experts: jax.Array) -> jax.Array:
    """E sum_i f_i P_i: 1 where tokens spread evenly, up to E where one expert takes all.

    f_i is the share of the T k assignments that go to expert i (no gradient), P_i the mean router
    probability of expert i.

    Source: Fedus et al. 2021, arXiv:2101.03961, equations 4 to 6, with assignments for tokens
    where k > 1.
    """
    count = logits.shape[-1]
    assigned = jax.nn.one_hot(experts, count, dtype=logits.dtype)
    share = jax.lax.stop_gradient(assigned.mean(axis=(0, 1)))
    return count * jnp.sum(share * jax.nn.softmax(logits).mean(axis=0))


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

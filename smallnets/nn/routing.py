"""Routers, from tokens to choices of experts, and the losses that keep routers healthy."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from smallnets.nn.linear import Dense
from smallnets.nn.parameter import Buffer, hyperparameter, report
from smallnets.traced import Traced

WRITTEN_OUT = 64  # choices of a token that are added one by one: beyond, compiling takes long

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
            choices = rows.reshape(-1, count, rows.shape[-1])
            if len(choices) > WRITTEN_OUT:
                return choices.sum(axis=0)
            # one by one: XLA on CPU adds up a leading axis ten times as slowly as it adds arrays
            return sum(choices[1:], rows[:count])
        return jnp.zeros((count, rows.shape[-1]), rows.dtype).at[self.token].add(rows)

    def loads(self) -> jax.Array:
        """[E], how many choices go to each expert."""
        count = self.probabilities.shape[-1]
        chosen = self.expert[None] == jnp.arange(count, dtype=self.expert.dtype)[:, None]
        return chosen.sum(axis=1, dtype=self.weight.dtype)

    def share(self) -> jax.Array:
        """[E], the share of all choices that goes to each expert; 1 / E where they are balanced."""
        return self.loads() / self.expert.size

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


def gates(weights: jax.Array, chosen: jax.Array, experts: int) -> jax.Array:
    """weights[..., k] of the ``chosen[..., k]`` experts as weights of all, [..., experts]."""
    index = jnp.arange(experts, dtype=chosen.dtype).reshape((1,) * chosen.ndim + (-1,))
    return jnp.where(chosen[..., None] == index, weights[..., None], 0).sum(axis=-2)


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

    So a layer keeps one signature, x -> y, wherever it is nested, in a ``lax.scan`` too, and its
    auxiliary loss still trains it. What that costs:

    - The value of the loss that the caller computes does not contain the auxiliary loss.
    - The auxiliary gradient does not know what the caller does with the output: scaling the
      caller's loss by 2 leaves it as it is, and any gradient through the layer (a Jacobian, a
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


class TopK(nnx.Module):
    """Each token goes to its ``top_k`` likeliest experts, weighted by their softmax among those.

    g_i = exp(l_i) / sum_{j chosen} exp(l_j) of the logits l = x W

    or, not ``normalized``, g_i = exp(l_i) / sum_j exp(l_j) over all experts, as Switch has it. With
    one expert chosen the first form is 1 whatever the logits, and the router would learn nothing
    from the task: where ``normalized`` is None, it is the form for several, the second for one.

    Parameters: d_in * experts

    Source: Shazeer et al. 2017, arXiv:1701.06538; the weights: Jiang et al. 2024,
    arXiv:2401.04088, section 2.1; over all: Fedus et al. 2021, arXiv:2101.03961, equation 2.
    Raises ValueError where one of several experts is chosen and its weight is normalized.
    """

    def __init__(
        self,
        d_in: int,
        experts: int,
        *,
        top_k: int,
        normalized: bool | None = None,
        rngs: nnx.Rngs,
    ):
        if normalized:
            _check_learns(experts, top_k, "set normalized to null or false")
        self.top_k = top_k
        self.normalized = top_k > 1 if normalized is None else normalized
        self.score = Dense(d_in, experts, rngs=rngs)

    def __call__(self, x: jax.Array) -> tuple[jax.Array, Routing]:
        logits = self.score(x)
        probabilities = jax.nn.softmax(logits)
        best, experts = jax.lax.top_k(logits, self.top_k)
        weights = jnp.take_along_axis(probabilities, experts, axis=-1)
        weights = jax.nn.softmax(best) if self.normalized else weights
        return logits, token_choice(weights, experts, probabilities)

    def gates(self, x: jax.Array) -> jax.Array:
        """x[..., T, d] -> [..., T, experts]: a token's weights of all experts, most of them 0."""
        logits = self.score(x)
        best, chosen = jax.lax.top_k(logits, self.top_k)
        if not self.normalized:
            best = jnp.take_along_axis(jax.nn.log_softmax(logits), chosen, axis=-1)
            return gates(jnp.exp(best), chosen, logits.shape[-1])
        return gates(jax.nn.softmax(best), chosen, logits.shape[-1])


def _check_learns(experts: int, top_k: int, fix: str) -> None:
    """Raise ValueError where weights that add up to 1 leave a router without a gradient."""
    if top_k == 1 < experts:
        raise ValueError(
            "a router learns from the task by its weights, but where top_k=1 a weight normalized "
            f"over the chosen is always 1: {fix}, or top_k to 2 or more"
        )


class BiasBalanced(nnx.Module):
    """Top k of the affinities plus a bias for each expert, which balances them without a loss.

        s_i = sigmoid(l_i),  chosen = top k of s_i + b_i,  g_i = s_i / sum_{j chosen} s_j
        after each training step  b_i <- b_i + rate * sign(1 / experts - share_i)

    ``share_i`` is expert i's share of the choices in the step. The bias decides who is chosen and
    is in no weight. No gradient trains it, no optimiser sees it: it moves past both by ``rate``,
    whatever the learning rate, and with the sum of their signs where a block is called more than
    once in a step. It is no parameter in any count, though an evaluation needs its ``experts``
    numbers.

    Parameters: d_in * experts

    Source: DeepSeek-AI 2024, arXiv:2412.19437, equations 12 to 16 (its rate is 0.001); Wang et al.
    2024, arXiv:2408.15664. Raises ValueError where one of several experts is chosen: its weight
    would be 1, and the router learn nothing from the task.
    """

    def __init__(
        self, d_in: int, experts: int, *, top_k: int, rate: Traced = 0.001, rngs: nnx.Rngs
    ):
        _check_learns(experts, top_k, "set the router to TopK")
        self.top_k = top_k
        self.score = Dense(d_in, experts, rngs=rngs)
        self.bias = Buffer(jnp.zeros(experts))
        self.rate = hyperparameter(rate)

    def __call__(self, x: jax.Array) -> tuple[jax.Array, Routing]:
        logits = self.score(x)
        affinities = jax.nn.sigmoid(logits)
        chosen = jax.lax.top_k(affinities + self.bias[...][None], self.top_k)[1]
        # s_i / sum s as the softmax of log s: a sum of sigmoids that are all zero divides nothing
        logs = jax.nn.log_sigmoid(logits)
        weights = jax.nn.softmax(jnp.take_along_axis(logs, chosen, axis=-1))
        routing = token_choice(weights, chosen, jax.nn.softmax(logs))
        # in whole numbers: a rounded share may miss exact balance
        error = jnp.sign(routing.expert.size / logits.shape[-1] - routing.loads())
        weights = report(routing.weight, self.bias, self.rate[...] * error)
        return logits, routing._replace(weight=weights)

    def gates(self, x: jax.Array) -> jax.Array:
        """x[..., T, d] -> [..., T, experts], as :meth:`TopK.gates`."""
        logits = self.score(x)
        bias = self.bias[...].reshape((1,) * (x.ndim - 1) + (-1,))
        chosen = jax.lax.top_k(jax.nn.sigmoid(logits) + bias, self.top_k)[1]
        logs = jnp.take_along_axis(jax.nn.log_sigmoid(logits), chosen, axis=-1)
        return gates(jax.nn.softmax(logs), chosen, logits.shape[-1])


class ExpertChoice(nnx.Module):
    """Each expert takes the tokens that are likeliest to want it, ceil(T top_k / experts) of T.

    p = softmax over experts of x W; expert i takes the tokens with the largest p_i and adds to each
    its output times p_i. A token has ``top_k`` experts on average, maybe none, maybe all.

    Whether an expert takes a token depends on all others in the call, later ones too: in a causal
    model a position would see those after it, so there it must not be used. At initialisation
    the variance of y is lower than that of the experts, since p_i isn't renormalised.

    Parameters: d_in * experts

    Source: Zhou et al. 2022, arXiv:2202.09368, section 3.2, with c = top_k.
    """

    def __init__(self, d_in: int, experts: int, *, top_k: int, rngs: nnx.Rngs):
        self.top_k = top_k
        self.score = Dense(d_in, experts, rngs=rngs)

    def __call__(self, x: jax.Array) -> tuple[jax.Array, Routing]:
        logits = self.score(x)
        probabilities = jax.nn.softmax(logits)
        tokens, experts = logits.shape
        weights, chosen = jax.lax.top_k(probabilities.T, math.ceil(tokens * self.top_k / experts))
        index = jnp.repeat(jnp.arange(experts, dtype=chosen.dtype), chosen.shape[-1])
        return logits, Routing(index, weights.reshape(-1), probabilities, chosen.reshape(-1))

    def gates(self, x: jax.Array) -> jax.Array:
        """x[..., T, d] -> [..., T, experts]; experts choose among the T tokens of one example.

        So an example's answer is the same in any company: that of a call of it alone.
        """
        probabilities = jax.nn.softmax(self.score(x))
        tokens, experts = probabilities.shape[-2:]
        count = math.ceil(tokens * self.top_k / experts)
        if count == tokens:
            return probabilities
        weights, chosen = jax.lax.top_k(jnp.swapaxes(probabilities, -1, -2), count)
        return jnp.swapaxes(gates(weights, chosen, tokens), -1, -2)

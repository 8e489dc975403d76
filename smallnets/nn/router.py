"""Routers: from tokens to logits[T, experts] and a :class:`smallnets.nn.routing.Routing`.

A router is built like a map, ``router(d_in, experts, top_k=..., rngs=...)``, and knows neither what
the experts are nor how tokens reach them.
"""

import math

import jax
import jax.numpy as jnp
from flax import nnx

from smallnets.nn.dense import Dense
from smallnets.nn.parameter import constant
from smallnets.nn.routing import Routing, token_choice
from smallnets.nn.state import State, report
from smallnets.varying import Varying


class TopK(nnx.Module):
    """Each token goes to its ``top_k`` likeliest experts, weighted by their softmax among those.

    g_i = exp(l_i) / sum_{j chosen} exp(l_j) of the logits l = x W

    or, not ``normalized``, g_i = exp(l_i) / sum_j exp(l_j) over all experts, as Switch has it: with
    one expert chosen, the router learns from the task in that form alone.

    Parameters: d_in * experts

    Source: Shazeer et al. 2017, arXiv:1701.06538; the weights: Jiang et al. 2024,
    arXiv:2401.04088, section 2.1; over all: Fedus et al. 2021, arXiv:2101.03961, equation 2.
    """

    def __init__(
        self, d_in: int, experts: int, *, top_k: int, normalized: bool = True, rngs: nnx.Rngs
    ):
        self.top_k, self.normalized = top_k, normalized
        self.score = Dense(d_in, experts, rngs=rngs)

    def __call__(self, x: jax.Array) -> tuple[jax.Array, Routing]:
        logits = self.score(x)
        probabilities = jax.nn.softmax(logits)
        best, experts = jax.lax.top_k(logits, self.top_k)
        weights = jnp.take_along_axis(probabilities, experts, axis=-1)
        weights = jax.nn.softmax(best) if self.normalized else weights
        return logits, token_choice(weights, experts, probabilities)


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
    2024, arXiv:2408.15664.
    """

    def __init__(
        self, d_in: int, experts: int, *, top_k: int, rate: Varying = 0.001, rngs: nnx.Rngs
    ):
        self.top_k = top_k
        self.score = Dense(d_in, experts, rngs=rngs)
        self.bias = State(jnp.zeros(experts))
        self.rate = constant(rate)

    def __call__(self, x: jax.Array) -> tuple[jax.Array, Routing]:
        logits = self.score(x)
        affinities = jax.nn.sigmoid(logits)
        chosen = jax.lax.top_k(affinities + self.bias[...][None], self.top_k)[1]
        # s_i / sum s as the softmax of log s: a sum of sigmoids that are all zero divides nothing
        logs = jax.nn.log_sigmoid(logits)
        weights = jax.nn.softmax(jnp.take_along_axis(logs, chosen, axis=-1))
        routing = token_choice(weights, chosen, jax.nn.softmax(logs))
        error = jnp.sign(1 / logits.shape[-1] - routing.share())
        weights = report(routing.weight, self.bias, self.rate[...] * error)
        return logits, routing._replace(weight=weights)


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

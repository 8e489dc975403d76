from functools import partial

import jax
from flax import nnx

from smallnets.nn.dense import Dense
from smallnets.nn.dispatch import CapacityDispatch, capacity
from smallnets.nn.parameter import Factory, constant, scale_active, stacked
from smallnets.nn.routing import attach_loss, balance_loss, router_z_loss, top_k_routing
from smallnets.varying import Varying


class Mixture(nnx.Module):
    """A sparse mixture of experts: y = sum over the top k experts of g_i(x) expert_i(x).

    ``expert`` is any map; the ``experts`` of them live on a leading axis. A dense router without
    bias chooses, and each expert computes ceil(capacity_factor T top_k / experts) of the T tokens
    in the call, no more: tokens beyond that are dropped by that expert. The slots are computed
    whether filled or not, so what runs is what is counted. Which tokens are dropped depends on the
    others in the call, in an evaluation too: a held-out split is one call.

    Shapes: x[..., d_in] -> y[..., d_out]; the leading axes together are the tokens.
    Parameters: experts * expert + d_in * experts
    FLOPs: min(experts, top_k * capacity_factor) * expert + 2 * d_in * experts, for each token,
    where T is large enough for the rounding not to matter.

    At initialisation the variance of y lies between 1 / top_k and 1, since the weights g sum to 1.
    One expert equals that expert exactly.

    In training, ``balance_weight`` times the balance loss and ``router_z_weight`` times the router
    z-loss act on the router through the backward pass: see
    :func:`smallnets.nn.routing.attach_loss` for what that means for the loss you read.

    Source: Shazeer et al. 2017, arXiv:1701.06538; Fedus et al. 2021, arXiv:2101.03961; Zoph et al.
    2022, arXiv:2202.08906. Raises ValueError for top_k outside 1 .. experts or a
    capacity_factor below 1.
    """

    def __init__(
        self,
        d_in: int,
        d_out: int,
        *,
        expert: Factory,
        experts: int,
        top_k: int,
        capacity_factor: float = 1.25,
        balance_weight: Varying = 0.01,
        router_z_weight: Varying = 0.001,
        rngs: nnx.Rngs,
    ):
        if experts < 1:
            raise ValueError(f"experts must be at least 1, but is {experts}: choose 2 or more")
        if not 1 <= top_k <= experts:
            raise ValueError(
                f"top_k must lie between 1 and the number of experts, but top_k={top_k} for "
                f"experts={experts}: choose top_k <= {experts}"
            )
        if capacity_factor < 1:
            raise ValueError(
                f"capacity_factor must be at least 1, but is {capacity_factor}: "
                "below that tokens are dropped even where experts are balanced"
            )
        self.experts = experts
        self.top_k = top_k
        self.capacity_factor = capacity_factor
        self.router = Dense(d_in, experts, rngs=rngs)
        build = partial(expert, d_in, d_out)
        self.expert = scale_active(stacked(build, rngs.params(), experts), top_k / experts)
        self.balance_weight = constant(balance_weight)
        self.router_z_weight = constant(router_z_weight)

    def __call__(self, x: jax.Array) -> jax.Array:
        tokens = x.reshape(-1, x.shape[-1])
        logits = self.router(tokens)
        chosen = jax.lax.top_k(logits, self.top_k)[1]
        balance = self.balance_weight[...] * balance_loss(logits, chosen)
        z = self.router_z_weight[...] * router_z_loss(logits)
        assignment = top_k_routing(attach_loss(logits, balance + z), self.top_k)
        plan = CapacityDispatch.plan(
            assignment,
            experts=self.experts,
            slots=capacity(len(tokens), self.experts, self.top_k, self.capacity_factor),
        )
        rows = jax.vmap(lambda expert, rows: expert(rows))(self.expert, plan.dispatch(tokens))
        return plan.combine(rows).reshape(*x.shape[:-1], -1)

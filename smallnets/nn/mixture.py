"""Mixtures of experts: sparse ones, of any router and dispatcher, and soft ones."""

import functools
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from smallnets.nn.dispatch import block_rows, capacity, capacity_plan, dropless_plan
from smallnets.nn.parameter import (
    Factory,
    hyperparameter,
    kernel,
    report,
    scale_active,
    stacked,
    statistic,
    unstacked,
)
from smallnets.nn.routing import TopK, attach_loss, balance_loss, router_z_loss
from smallnets.traced import Traced


class Mixture(nnx.Module):
    """A sparse mixture: y = sum of shared experts + sum over the chosen ones of g_i expert_i(x).

    Three things vary independently. ``router`` (:mod:`smallnets.nn.routing`) says which of the
    ``experts`` a token goes to and with which weights g, ``top_k`` of them on average. The
    dispatcher (:mod:`smallnets.nn.dispatch`) says what is computed: with a ``capacity_factor``,
    ceil(capacity_factor T top_k / experts) of the T tokens in the call for each expert, no more;
    where it is None, or where there are no more choices than experts, all that was chosen, so that
    a few tokens do not pay for slots of all experts. ``expert`` is any layer; the experts live on a
    leading axis. ``shared`` experts besides see every token with weight 1.

    Tokens beyond an expert's capacity are dropped by that expert, and which ones depends on the
    others in the call. So the capacity is training's alone: elsewhere, as ``deterministic`` says,
    nothing is dropped and each token's answer is the same beside any others, but where experts
    choose (:class:`smallnets.nn.ExpertChoice`). Slots are computed whether filled or not, and so
    are the rows that fill up the blocks of the dropless kind: what runs is what is counted.

    Shapes: x[..., d_in] -> y[..., d_out]; the leading axes together are the tokens.
    Parameters: experts * expert + d_in * experts + shared * expert
    FLOPs: (top_k + B experts / T + shared) * expert + 2 * d_in * experts, for each of T tokens, in
    blocks of B rows; in training with a capacity factor min(experts, top_k * capacity_factor) is in
    place of top_k + B experts / T, where T is large enough for the rounding not to matter.

    At initialisation the variance of the routed sum lies between 1 / top_k and 1 where the weights
    g sum to 1, and each shared expert adds 1. One expert equals that expert exactly, without a
    capacity factor to rounding.

    In training, ``balance_weight`` times the balance loss and ``router_z_weight`` times the router
    z-loss act on the router through the backward pass: see :func:`smallnets.nn.routing.attach_loss`
    for what that means for the loss you read. The same way go three curves of a run
    (:mod:`smallnets.nn.parameter`), means over the training batches and over all mixtures of a
    model: ``routing_load``, the load of the busiest expert over the mean load (1 is balanced);
    ``routing_drops``, the share of choices that were dropped, or, where experts choose, of tokens
    that none took; and ``routing_entropy``, of a token's probabilities of experts, in nats.

    Source: Shazeer et al. 2017, arXiv:1701.06538; Fedus et al. 2021, arXiv:2101.03961; Zoph et al.
    2022, arXiv:2202.08906; shared experts and many fine-grained ones: Dai et al. 2024,
    arXiv:2401.06066 (DeepSeekMoE). Raises ValueError for top_k outside 1 .. experts, a
    capacity_factor below 1 or fewer than 0 shared experts.
    """

    deterministic = True

    def __init__(
        self,
        d_in: int,
        d_out: int,
        *,
        expert: Factory,
        experts: int,
        top_k: int,
        router: Factory = TopK,
        capacity_factor: float | None = 1.25,
        shared: int = 0,
        balance_weight: Traced = 0.01,
        router_z_weight: Traced = 0.001,
        rngs: nnx.Rngs,
    ):
        _check(experts, top_k, capacity_factor, shared)
        self.experts, self.top_k, self.shared = experts, top_k, shared
        self.capacity_factor = capacity_factor
        self.router = router(d_in, experts, top_k=top_k, rngs=rngs)
        build = partial(expert, d_in, d_out)
        self.expert = scale_active(stacked(build, rngs, experts), top_k / experts)
        self.shared_expert = stacked(build, rngs, shared) if shared else None
        self.balance_weight = hyperparameter(balance_weight)
        self.router_z_weight = hyperparameter(router_z_weight)
        self.load = statistic("routing_load")
        self.drops = statistic("routing_drops")
        self.entropy = statistic("routing_entropy")

    def drops_second_choices(self) -> bool:
        """Whether a token's second choice may find no slot because of others' first choices."""
        factor = self.capacity_factor
        return factor is not None and self.top_k > 1 and self.top_k * factor < self.experts

    def unrolled(self) -> "AllExperts":
        """The same answers with every expert computed for every token."""
        shared = unstacked(self.shared_expert, self.shared) if self.shared else []
        return AllExperts(self.router, unstacked(self.expert, self.experts), shared)

    def __call__(self, x: jax.Array) -> jax.Array:
        tokens = x.reshape(-1, x.shape[-1])
        logits, routing = self.router(tokens)
        choices = routing.expert.size
        if self.capacity_factor is None or self.deterministic or choices <= self.experts:
            block = block_rows(choices, self.experts)
            plan = dropless_plan(routing, experts=self.experts, block=block)
        else:
            slots = capacity(len(tokens), self.experts, self.top_k, self.capacity_factor)
            plan = capacity_plan(routing, experts=self.experts, slots=slots)
        y = plan.apply(self.expert, tokens, routing)
        if self.shared_expert is not None:
            y += jax.vmap(lambda expert: expert(tokens))(self.shared_expert).sum(axis=0)
        balance = self.balance_weight[...] * balance_loss(routing)
        y = attach_loss(y, balance + self.router_z_weight[...] * router_z_loss(logits))
        y = report(y, self.load, self.experts * routing.share().max())
        y = report(y, self.drops, routing.dropped(plan.kept()))
        y = report(y, self.entropy, routing.entropy())
        return y.reshape(*x.shape[:-1], -1)


class AllExperts(nnx.Module):
    """A mixture written out: y = sum over all experts of g_i expert_i(x), g_i mostly 0.

    What a :class:`Mixture` becomes for a program that is exported: nothing is dispatched, so that
    no size depends on the batch, and an example's answer is the same beside any others. Where
    experts choose, they do so within each example, as in a call of it alone.

    Shapes: x[n, ..., d_in] -> y[n, ..., d_out], n examples.
    FLOPs: (experts + shared) * expert + 2 * d_in * experts, for each token
    """

    def __init__(self, router: Any, experts: list[Any], shared: list[Any]):
        self.router = router
        self.experts, self.shared = nnx.List(experts), nnx.List(shared)

    def __call__(self, x: jax.Array) -> jax.Array:
        gates = self.router.gates(x.reshape(x.shape[0], -1, x.shape[-1]))
        gates = gates.reshape(*x.shape[:-1], -1)
        parts = [gates[..., i : i + 1] * expert(x) for i, expert in enumerate(self.experts)]
        return functools.reduce(jnp.add, [*parts, *(expert(x) for expert in self.shared)])


def has_capacity(model: nnx.Module) -> bool:
    """Whether experts of a model drop tokens in training."""
    modules = (module for _, module in nnx.iter_modules(model))
    return any(isinstance(each, Mixture) and each.capacity_factor is not None for each in modules)


def _check(experts: int, top_k: int, capacity_factor: float | None, shared: int) -> None:
    if experts < 1:
        raise ValueError(f"experts must be at least 1, but is {experts}: choose 2 or more")
    if not 1 <= top_k <= experts:
        raise ValueError(
            f"top_k must lie between 1 and the number of experts, but top_k={top_k} for "
            f"experts={experts}: choose top_k <= {experts}"
        )
    if capacity_factor is not None and capacity_factor < 1:
        raise ValueError(
            f"capacity_factor must be at least 1, but is {capacity_factor}: below that tokens are "
            "dropped even where experts are balanced, and null drops none"
        )
    if shared < 0:
        raise ValueError(f"shared must be at least 0, but is {shared}: choose 0 for no such expert")


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
    weights of the experts, in nats, over all mixtures (:mod:`smallnets.nn.parameter`).

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
        self.expert = stacked(partial(expert, d_in, d_out), rngs, experts)
        self.entropy = statistic("routing_entropy")

    def unrolled(self) -> "SoftMixture":
        """The same mixture with its experts one by one."""
        copy = jax.tree.map(lambda leaf: leaf, self)
        copy.expert = nnx.List(unstacked(self.expert, self.experts))
        return copy

    def __call__(self, x: jax.Array) -> jax.Array:
        positions = x.reshape(-1, *x.shape[-2:]) if x.ndim > 1 else x.reshape(1, 1, -1)
        logits = jnp.einsum("bti,is->bts", positions, self.kernel[...])
        taken = jax.nn.softmax(logits, axis=1)
        given = jax.nn.softmax(logits, axis=2)
        slots = jnp.einsum("bts,bti->sbi", taken, positions)
        rows = slots.reshape(self.experts, -1, x.shape[-1])
        if isinstance(self.expert, nnx.List):
            rows = jnp.stack([expert(each) for expert, each in zip(self.expert, rows, strict=True)])
        else:
            rows = jax.vmap(lambda expert, rows: expert(rows))(self.expert, rows)
        y = jnp.einsum("bts,sbo->bto", given, rows.reshape(*slots.shape[:2], -1))
        weights = given.reshape(*given.shape[:2], self.experts, self.slots).sum(axis=-1)
        entropy = -jax.scipy.special.xlogy(weights, weights).sum(axis=-1).mean()
        return report(y, self.entropy, entropy).reshape(*x.shape[:-1], -1)

"""Rules of optimisers under which weights are zero: those that are stay so, or ever more are."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from smallnets.nn.parameter import is_variable
from smallnets.traced import Traced

Rule = Callable[..., optax.GradientTransformation]


class _Masked(NamedTuple):
    """The state of a rule, the step, and 1 where a weight may be something, 0 where it is zero."""

    inner: Any
    step: jax.Array
    mask: Any


def zeros_kept(
    learning_rate: Any, *, rule: Rule, weight_decay: Traced | None = None
) -> optax.GradientTransformation:
    """``rule`` under which weights that are zero when training begins stay zero.

    Of arrays that have fans; biases may begin at zero and move. So a network that was pruned by
    :func:`smallnets.compress.with_zeros` is trained on with its zeros.
    """
    inner = _inner(learning_rate, rule, weight_decay)

    def init(params: Any) -> _Masked:
        mask = _of_weights(lambda weights: (weights != 0).astype(weights.dtype), params)
        return _Masked(inner.init(params), jnp.zeros((), jnp.int32), mask)

    def update(updates: Any, state: _Masked, params: Any = None) -> tuple[Any, _Masked]:
        updates, after = inner.update(updates, state.inner, params)
        updates = jax.tree.map(jnp.multiply, updates, state.mask)
        return updates, state._replace(inner=after, step=state.step + 1)

    return optax.GradientTransformation(init, update)


def gradually_sparse(
    learning_rate: Any,
    *,
    rule: Rule,
    share: float,
    until: int,
    every: int = 10,
    weight_decay: Traced | None = None,
) -> optax.GradientTransformation:
    """``rule`` under which ever more of each weight array is zero: training from dense to sparse.

        s_t = share (1 - (1 - t / until)^3) for t < until, and then share

    Every so many steps the s_t of an array's weights that are smallest in magnitude become zero;
    they may come back where a later step moves them above others. Biases and norms stay. Source:
    Zhu & Gupta 2017, arXiv:1710.01878, equation 1, from no zeros. Raises ValueError for a share
    outside (0, 1), and for until or every below 1.
    """
    if not 0 < share < 1:
        raise ValueError(f"share must lie between 0 and 1, but is {share}: it is of the zeros")
    if until < 1 or every < 1:
        raise ValueError(
            f"until and every must be at least 1, but are {until} and {every}: give steps"
        )
    inner = _inner(learning_rate, rule, weight_decay)

    def init(params: Any) -> _Masked:
        return _Masked(inner.init(params), jnp.zeros((), jnp.int32), _ones(params))

    def update(updates: Any, state: _Masked, params: Any = None) -> tuple[Any, _Masked]:
        updates, after = inner.update(updates, state.inner, params)
        left = 1 - jnp.minimum(state.step.astype(jnp.float32) / until, 1.0)
        zeros = share * (1 - left**3)

        def largest(weights: jax.Array) -> jax.Array:
            flat = jnp.abs(weights).reshape(-1)
            ranks = jnp.argsort(jnp.argsort(flat))
            kept = ranks >= jnp.round(zeros * flat.size).astype(ranks.dtype)
            return kept.reshape(weights.shape).astype(weights.dtype)

        there = jax.tree.map(jnp.add, params, updates)
        mask = jax.lax.cond(
            state.step % every == 0, lambda: _of_weights(largest, there), lambda: state.mask
        )
        updates = jax.tree.map(
            lambda new, old, kept: jnp.where(kept > 0, new - old, -old), there, params, mask
        )
        return updates, _Masked(after, state.step + 1, mask)

    return optax.GradientTransformation(init, update)


def _inner(learning_rate: Any, rule: Rule, weight_decay: Any) -> optax.GradientTransformation:
    decay = {} if weight_decay is None else {"weight_decay": weight_decay}
    return rule(learning_rate, **decay)


def _of_weights(mask: Callable[[jax.Array], jax.Array], params: Any) -> Any:
    """A mask for each array, of ones where it has no fans."""

    def each(variable: Any) -> Any:
        has_fans = is_variable(variable) and "fan_in" in variable.get_metadata()
        return jax.tree.map(mask if has_fans else jnp.ones_like, variable)

    return jax.tree.map(each, params, is_leaf=is_variable)


def _ones(params: Any) -> Any:
    return jax.tree.map(jnp.ones_like, params)

"""Weights in a few bits: after training, or rounded in training as they will be."""

from collections.abc import Callable
from typing import Any

import jax
from flax import nnx

from smallnets.nn import SoftMixture
from smallnets.nn.parameter import is_variable
from smallnets.nn.quantised import Code, check_code, quantised, straight_through


def in_code(
    model: Any,
    inputs: jax.Array | None = None,
    *,
    code: Code = "int4",
    group: int = 32,
    leave_out: tuple[str, ...] = (),
) -> Any:
    """``model`` with its weight arrays as :class:`smallnets.nn.Quantised`, packed.

    ``code`` is int8, int4 or ternary; ``group`` weights in a row along the axis that a product sums
    over share a scale, or with 0 a whole column. All arrays that have fans are rounded, tables,
    heads and convolutions too; routers stay, whose choices would change, and biases and norms, and
    the parts named in ``leave_out``. Raises ValueError for another code or group, and where there
    is nothing to round.
    """
    del inputs
    return _rounded(model, lambda each: quantised(each, code, group), code, group, leave_out)


def quantisation_aware(
    model: Any,
    *,
    training: bool,
    key: jax.Array | None,
    code: Code = "int4",
    group: int = 32,
    leave_out: tuple[str, ...] = (),
) -> Any:
    """A view of training (:class:`smallnets.training.fit.Fit`): the model as it will be in a code.

    A step sees rounded weights and gives their gradients to the weights themselves; evaluations and
    the model that training returns are :func:`in_code`, by the same rounding, so that what was
    scored is what is kept. A model without its view would be another one.
    """
    del key
    if not training:
        return in_code(model, code=code, group=group, leave_out=leave_out)
    return _rounded(model, lambda each: straight_through(each, code, group), code, group, leave_out)


def _rounded(
    model: Any,
    change: Callable[[nnx.Param], Any],
    code: str,
    group: int,
    leave_out: tuple[str, ...],
) -> Any:
    check_code(code, group)
    left, count = {"router", *leave_out}, 0

    def rule(path: Any, leaf: Any) -> Any:
        nonlocal count
        names = jax.tree_util.keystr(path, simple=True, separator=".").split(".")
        if isinstance(leaf, SoftMixture):  # whose own array routes
            found = jax.tree.map(lambda leaf: leaf, leaf)
            found.expert = jax.tree_util.tree_map_with_path(rule, leaf.expert, is_leaf=is_variable)
            return found
        if not isinstance(leaf, nnx.Param) or {*names} & left:
            return leaf
        if "fan_in" not in leaf.get_metadata() or leaf.ndim < 2:
            return leaf
        count += 1
        return change(leaf)

    def is_leaf(node: Any) -> bool:
        return is_variable(node) or isinstance(node, SoftMixture)

    found = jax.tree_util.tree_map_with_path(rule, model, is_leaf=is_leaf)
    if not count:
        raise ValueError(
            "a pass must find something to do, but quantise finds no weight array to round: they "
            "are in a code already, or all left out"
        )
    return found

"""Factorised maps as the dense ones that they equal: more parameters, and on the clock often less.

A factorised map is trained for its size, but at small widths or batches one dense product is
faster: both forms can be timed beside each other (:mod:`smallnets.measure.latency`).
"""

from typing import Any

import jax
from flax import nnx

from smallnets.nn.dense import Dense
from smallnets.nn.linear import Linear
from smallnets.nn.parameter import is_variable
from smallnets.nn.relaxed import is_own


def merge(map: Linear) -> Dense:
    """The dense map that equals ``map``, up to rounding; stacked as ``map`` is.

    Notes on its parameters, such as the share of experts that one token uses, are kept.
    """
    matrix = map.matrix()
    *_, d_in, d_out = matrix.shape
    notes = _first(map).get_metadata()
    dense = jax.eval_shape(lambda: Dense(1, 1, rngs=nnx.Rngs(0)))
    dense.kernel = nnx.Param(matrix, **{**notes, "fan_in": d_in, "fan_out": d_out})
    return dense


def merged(model: Any) -> Any:
    """``model`` with every linear map in it replaced by the dense map that equals it.

    Blocks that are shared stay shared. So the differences of a relaxed map stay as they are:
    merged, they would take a dense map for each call.
    """

    def rule(node: Any) -> Any:
        return merge(node) if isinstance(node, Linear) and not is_own(_first(node)) else node

    return jax.tree.map(rule, model, is_leaf=lambda node: isinstance(node, Linear))


def _first(map: Linear) -> nnx.Param:
    return jax.tree.leaves(map, is_leaf=is_variable)[0]

"""How many parameters a model has, and how many bytes they take; nothing is allocated.

Every function takes a model whose arrays may be abstract, as ``jax.eval_shape`` leaves them. A
parameter is an ``nnx.Param``, or a :class:`smallnets.nn.Quantised` that stands for one; any other
variable (a constant, a random key, a running mean) is none.
"""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
from flax import nnx

from smallnets.nn.quantised import Quantised

ACTIVE = "active"  # metadata of an nnx.Param: the share of it that one token uses


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """Numbers of parameters, as counts of scalars.

    ``stored`` counts each place in the tree that holds a parameter: what an optimiser updates and,
    because ``jax.jit`` unties a parameter that two places hold, what a compiled program takes.
    ``unique`` counts a parameter once however many places hold it. A model that shares by calling
    has ``stored == unique``. ``active`` counts the unique parameters that one token uses under
    routing: of ``experts`` experts that are stacked, ``top_k / experts``.
    """

    stored: int
    unique: int
    active: int


def parameters(model: Any) -> Parameters:
    """Count the parameters of ``model``.

    A mixture says what share of its experts one token uses: it gives each parameter of theirs the
    metadata ``active = top_k / experts``, multiplied for mixtures inside mixtures. Without it a
    parameter is wholly active.

    Two places hold one parameter where they hold the same ``nnx.Variable`` object. An abstract
    model keeps that from ``nnx.eval_shape(..., graph=True, graph_updates=True)``, whereas
    ``jax.eval_shape`` unties.

    Raises ValueError where ``active`` lies outside (0, 1], and where the tree has arrays but no
    ``nnx.Param``.
    """
    return by_part(model, depth=0).get("", Parameters(stored=0, unique=0, active=0))


def by_part(model: Any, *, depth: int = 1) -> dict[str, Parameters]:
    """The same counts for each part: the parameters whose paths agree in the first ``depth`` steps.

    Keys are dotted paths, in the order of the tree. An aliased parameter is unique in the part that
    holds it first, so the parts sum to the whole.
    """
    stored, unique, active = Counter(), Counter(), Counter()
    seen: set[int] = set()
    for path, parameter in _parameters(model):
        part = jax.tree_util.keystr(path[:depth], simple=True, separator=".")
        size = _size(parameter)
        stored[part] += size
        if id(parameter) not in seen:
            seen.add(id(parameter))
            unique[part] += size
            active[part] += round(size * _active_share(path, parameter))
    return {
        part: Parameters(stored=stored[part], unique=unique[part], active=active[part])
        for part in stored
    }


def parameter_bytes(model: Any, *, bits: int | None = None) -> int:
    """Bytes of the unique parameters at ``bits`` bits each, packed, each array in whole bytes.

    Without ``bits``, the bytes that their arrays take as they are: an array of a type below eight
    bits takes a byte an element in memory.
    """
    if bits is not None and bits < 1:
        raise ValueError(f"bits must be at least 1, but bits={bits}: choose 32, 16, 8, 4, ...")
    variables = {id(parameter): parameter for _, parameter in _parameters(model)}
    if bits is not None:
        return sum(-(-_size(variable) * bits // 8) for variable in variables.values())
    return sum(
        math.prod(array.shape) * array.dtype.itemsize
        for array in jax.tree.leaves(list(variables.values()))
    )


def _size(parameter: nnx.Variable) -> int:
    """Numbers in a parameter; in a quantised one those that it stands for."""
    if isinstance(parameter, Quantised):
        return math.prod(parameter.shape)
    return sum(math.prod(array.shape) for array in jax.tree.leaves(parameter))


def _parameters(model: Any) -> Iterator[tuple[Any, nnx.Variable]]:
    leaves = jax.tree_util.tree_leaves_with_path(
        model, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable)
    )
    if leaves and not any(isinstance(leaf, nnx.Variable) for _, leaf in leaves):
        raise ValueError(
            f"parameters are nnx.Param leaves, but all {len(leaves)} leaves of this "
            f"{type(model).__name__} are bare: wrap each parameter in nnx.Param"
        )
    return ((path, leaf) for path, leaf in leaves if isinstance(leaf, (nnx.Param, Quantised)))


def _active_share(path: Any, parameter: nnx.Variable) -> float:
    share = parameter.get_metadata(ACTIVE, 1.0)
    if not 0 < share <= 1:
        raise ValueError(
            f"the active share of a parameter lies in (0, 1], but {jax.tree_util.keystr(path)} "
            f"has active={share}: set it to top_k / experts"
        )
    return share

"""What goes into each linear layer of a model, captured by a backward pass."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from smallnets.nn import Linear, Quantised
from smallnets.nn.parameter import OWN, combine, is_own, is_variable, partition

BATCH = 64  # examples in one backward pass


class Gram(nnx.Variable):
    """X^T X of the inputs X[n, d_in] that a layer was called with, [..., d_in, d_in]."""


class Watched(Linear):
    """A linear layer with the Gram matrix of its inputs; it stands in the layer's place."""

    def __init__(self, layer: Linear):
        matrix = jax.eval_shape(layer.matrix)
        self.layer = layer
        notes = {OWN: True} if is_own(first_variable(layer)) else {}
        *lead, d_in, _ = matrix.shape
        self.gram = Gram(jnp.zeros((*lead, d_in, d_in)), **notes)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.layer(_observed(x, self.gram[...]))

    def matrix(self) -> jax.Array:
        return self.layer.matrix()


@jax.custom_vjp
def _observed(x: jax.Array, gram: jax.Array) -> jax.Array:
    """x itself; in the backward pass X^T X is the cotangent of ``gram``.

    Rows without a cotangent take no part in the answer and don't count: such are those that fill
    up an expert's blocks.
    """
    del gram
    return x


def _backward(x: jax.Array, cotangent: jax.Array) -> tuple[jax.Array, jax.Array]:
    used = jnp.any(cotangent != 0, axis=-1, keepdims=True)
    rows = jnp.where(used, x, 0).reshape(-1, x.shape[-1])
    return cotangent, jnp.einsum("ni,nj->ij", rows, rows)


_observed.defvjp(lambda x, gram: (x, x), _backward)


def watched(model: Any, inputs: jax.Array) -> Any:
    """``model`` with each linear layer :class:`Watched`, its Gram matrix that of all its inputs.

    ``inputs[n, ...]`` are prepared examples. The Gram matrices are the gradient of a sum of the
    answers with random weights, so that they are found wherever a layer stands: a block that is
    called several times in a ``lax.scan`` has the sum over its calls, a relaxed difference one for
    each of them, an expert only its own tokens. Takes a forward and a backward pass, and in memory
    the inputs of all layers for 64 examples. Quantised weights are decoded, which mixtures need.
    """

    def rule(node: Any) -> Any:
        return Watched(node) if isinstance(node, Linear) else node

    model = jax.tree.map(rule, decoded(model), is_leaf=lambda node: isinstance(node, Linear))
    grams, rest = partition(model, Gram)

    def sums(grams: Any, examples: jax.Array, index: jax.Array) -> jax.Array:
        answers = combine(grams, rest)(examples)
        weights = jax.random.normal(jax.random.fold_in(jax.random.key(0), index), answers.shape)
        return jnp.vdot(weights, answers)

    def add(total: Any, examples: jax.Array, index: jax.Array) -> Any:
        return jax.tree.map(jnp.add, total, jax.grad(sums)(grams, examples, index))

    whole, size = divmod(len(inputs), BATCH)
    if whole:
        batches = inputs[: whole * BATCH].reshape(whole, BATCH, *inputs.shape[1:])

        def step(total: Any, each: Any) -> tuple[Any, None]:
            return add(total, *each), None

        grams_found, _ = jax.lax.scan(step, grams, (batches, jnp.arange(whole)))
    else:
        grams_found = grams
    if size:
        grams_found = add(grams_found, inputs[whole * BATCH :], jnp.asarray(whole))
    return combine(grams_found, rest)


def unwatched(model: Any) -> Any:
    """``model`` without what :func:`watched` put into it."""
    return jax.tree.map(plain, model, is_leaf=lambda node: isinstance(node, Watched))


def plain(node: Any) -> Any:
    """The layer itself where it is watched; anything else as it is."""
    return node.layer if isinstance(node, Watched) else node


def decoded(model: Any) -> Any:
    """``model`` with every quantised array as the parameter that it stands for."""

    def rule(leaf: Any) -> Any:
        if not isinstance(leaf, Quantised):
            return leaf
        notes = leaf.get_metadata()
        own = ("code", "length", "group", "swapped")
        return nnx.Param(leaf[...], **{k: v for k, v in notes.items() if k not in own})

    return jax.tree.map(rule, model, is_leaf=is_variable)


def changed(
    rule: Callable[[Any], Any],
    model: Any,
    kinds: type | tuple[type, ...],
    *,
    name: str,
    leave_out: tuple[str, ...] = (),
) -> Any:
    """``model`` with ``rule(node)`` in place of each node of these kinds.

    Nodes below a part of a name in ``leave_out`` stay. Raises ValueError where no node is changed,
    since a pass that does nothing is a mistake.
    """
    count = 0

    def at(path: Any, node: Any) -> Any:
        nonlocal count
        names = jax.tree_util.keystr(path, simple=True, separator=".").split(".")
        if not isinstance(node, kinds) or {*names} & {*leave_out}:
            return node
        new = rule(node)
        count += new is not node
        return new

    found = jax.tree_util.tree_map_with_path(at, model, is_leaf=lambda n: isinstance(n, kinds))
    if not count:
        kinds = kinds if isinstance(kinds, tuple) else (kinds,)
        wanted = " or ".join(kind.__name__ for kind in kinds)
        raise ValueError(
            f"a pass must find something to do, but {name} finds no {wanted} that it would make "
            "smaller in this model: choose another pass, or let it save more"
        )
    return found


def check_share(name: str, value: float) -> None:
    """Raise ValueError for what is no share in (0, 1]."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise ValueError(
            f"{name} must lie above 0 and up to 1, but is {value}: it is the share that is kept"
        )


def first_variable(layer: Any) -> nnx.Variable:
    return jax.tree.leaves(layer, is_leaf=is_variable)[0]


def damped(gram: jax.Array, share: float = 1e-6) -> jax.Array:
    """A Gram matrix [..., d, d] that can be inverted: a share of its mean diagonal is added to it.

    Where a layer saw nothing, it is the identity.
    """
    d = gram.shape[-1]
    mean = jnp.trace(gram, axis1=-2, axis2=-1)[..., None, None] / d
    identity = jnp.broadcast_to(jnp.eye(d), gram.shape)
    return jnp.where(mean > 0, gram + share * mean * identity, identity)


def parameters_of(layer: Linear) -> int:
    """Numbers in a layer, one of those that are stacked."""
    *lead, _, _ = jax.eval_shape(layer.matrix).shape
    variables = jax.tree.leaves(layer, is_leaf=is_variable)
    return sum(math.prod(variable.shape) for variable in variables) // math.prod(lead)

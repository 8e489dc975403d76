"""What each part of a model costs: its parameters, their bytes, and the products they enter."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
from flax import nnx
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal

from smallnets.measure import flops
from smallnets.measure.flop_rules import PRODUCTS, Atom
from smallnets.measure.parameters import parameter_bytes, parameters

WITHOUT_PARAMETERS = ""


class Part(NamedTuple):
    """Numbers of parameters and of their bytes; ``products`` are FLOPs of one call."""

    stored: int = 0
    active: int = 0
    bytes: int = 0
    products: float = 0

    def __add__(self, other: Any) -> "Part":
        return Part(*(a + b for a, b in zip(self, other, strict=True)))


def parts(model: Any, *inputs: Any) -> dict[str, Part]:
    """The costs of ``model`` and of ``model(*inputs)``, by the module that holds the parameters.

    Keys are dotted paths of modules, in the order of the tree; a parameter that ``model`` itself
    holds stands alone. A product belongs to the module
    whose parameters it multiplies; those that multiply none, or those of two modules, stand under
    ``""``, and so do those inside ``while``. The products sum to those of
    :func:`smallnets.measure.flops.count`, which see for what raises ValueError. ``model`` and
    ``inputs`` may be abstract. Arithmetic that is not in a product belongs to no part. Without
    ``inputs`` nothing is called, and no products are counted.
    """
    leaves = jax.tree_util.tree_leaves_with_path(
        model, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable)
    )
    names = [_dotted(path[:-1]) or _dotted(path) for path, _ in leaves]
    found: dict[str, Part] = {}
    labels: list[str | None] = []
    for name, (_, leaf) in zip(names, leaves, strict=True):
        trained = isinstance(leaf, nnx.Param)
        labels += [name if trained else None] * len(jax.tree.leaves(leaf))
        if trained:
            counted = parameters(leaf)
            part = Part(counted.stored, counted.active, parameter_bytes(leaf))
            found[name] = found.get(name, Part()) + part
    if not inputs:
        return found
    whole = flops.count(_call, model, *inputs).products
    jaxpr = flops.live(_call, model, *inputs)
    labels += [None] * (len(jaxpr.invars) - len(labels))
    products, _ = _products(jaxpr, labels)
    for name in found:
        found[name] += Part(products=products[name])
    rest = whole - sum(part.products for part in found.values())
    return {**found, WITHOUT_PARAMETERS: Part(products=rest)} if rest else found


def _dotted(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")


def _call(model: Any, *inputs: Any) -> Any:
    return model(*inputs)


def _picks_one(equation: JaxprEqn) -> bool:
    """Whether an equation takes one part of its first array, as a layer of stacked ones is."""
    name = equation.primitive.name
    indices = equation.invars[1].aval if name == "gather" else None
    return name == "dynamic_slice" or len(getattr(indices, "shape", (0, 0))) == 1


def _products(
    called: ClosedJaxpr | Jaxpr, labels: Sequence[str | None]
) -> tuple[Counter[str], list[str | None]]:
    """FLOPs of the products of a jaxpr by label, and the labels of its results.

    An array is labelled with a module if it is made of that module's parameters alone.
    """
    jaxpr = called if isinstance(called, Jaxpr) else called.jaxpr
    known = dict(zip(jaxpr.invars, labels, strict=True))

    def label(atom: Atom) -> str | None:
        return None if isinstance(atom, Literal) else known.get(atom)

    total: Counter[str] = Counter()
    for equation in jaxpr.eqns:
        name, parameters = equation.primitive.name, equation.params
        inputs = [label(atom) for atom in equation.invars]
        outputs: Sequence[str | None] = [None] * len(equation.outvars)
        arrays = {label(atom) for atom in equation.invars if not isinstance(atom, Literal)}
        if name in PRODUCTS:
            owners = arrays - {None}
            owner = owners.pop() if len(owners) == 1 else None
            total[owner or WITHOUT_PARAMETERS] += PRODUCTS[name](equation)
        elif name in flops.CALLS:
            inside, outputs = _products(flops.called(equation), inputs)
            total.update(inside)
        elif name == "cond":  # its larger branch counts
            branches = (_products(branch, inputs[1:])[0] for branch in parameters["branches"])
            total.update(max(branches, key=lambda inside: sum(inside.values())))
        elif name == "scan":
            start, carried = flops.constants_and_carried(equation)
            for place in range(start, start + carried):
                inputs[place] = None  # made anew at each turn
            inside, _ = _products(parameters["jaxpr"], inputs)
            total.update({each: number * parameters["length"] for each, number in inside.items()})
        elif _picks_one(equation):
            outputs = inputs[:1]
        elif len(arrays) == 1:
            outputs = [arrays.pop()] * len(equation.outvars)
        known.update(zip(equation.outvars, outputs, strict=True))
    return total, [label(atom) for atom in jaxpr.outvars]

"""FLOPs of any JAX function, counted from its jaxpr; nothing is compiled or allocated.

XLA's own cost analysis counts the body of a loop once, so 24 shared layers in a ``lax.scan`` come
out 24 times too low. Here the body of a ``scan`` counts ``length`` times, of a ``while`` as often
as it turns where that is known before the program runs, and of a ``cond`` its larger branch.

Two totals, never added up for the reader:

- ``products``: multiply-adds at two FLOPs each, of matrix products (2 m n k, times the batch),
  convolutions and ragged products. This is the number the field calls a model's FLOPs. A
  convolution counts what it multiplies, not the zeros of its padding or dilation, so its gradients
  count right too. A ragged product counts each row once, with the group that it belongs to; a
  backend without a kernel for it (XLA on CPU) runs every row through every group.
- ``elementwise``: one for each floating-point number that arithmetic gives (exp and tanh count one,
  as an addition does), one for each number that a reduction takes in beyond those it gives out,
  n log2 n for a sort. Integer arithmetic, comparisons of integers, moves, selections, conversions
  and random bits count none.

What has no rule raises: a wrong count is worse than none.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn
from jax.interpreters.partial_eval import dce_jaxpr

from smallnets.measure.flop_rules import OTHERS, PRODUCTS, Atom, Known, integer, turns
from smallnets.nn.parameter import combine, partition

CALLS = {  # operations that run one jaxpr once, and the parameter that holds it
    "jit": "jaxpr",
    "closed_call": "call_jaxpr",
    "composite": "jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "custom_vmap_call": "call",
    "remat2": "jaxpr",
    "shard_map": "jaxpr",
}


@dataclass(frozen=True, kw_only=True)
class Flops:
    """Floating-point operations of one call: whole numbers, unless divided by :meth:`per`."""

    products: float
    elementwise: float

    def __add__(self, other: "Flops") -> "Flops":
        return Flops(
            products=self.products + other.products,
            elementwise=self.elementwise + other.elementwise,
        )

    def __mul__(self, times: int) -> "Flops":
        return Flops(products=self.products * times, elementwise=self.elementwise * times)

    def per(self, number: int) -> "Flops":
        """FLOPs for each of ``number`` examples or tokens in the call."""
        if number < 1:
            raise ValueError(f"FLOPs are divided by at least 1, not by {number}")
        return Flops(products=self.products / number, elementwise=self.elementwise / number)


NONE = Flops(products=0, elementwise=0)


def count(function: Callable[..., Any], *arguments: Any) -> Flops:
    """FLOPs of one call ``function(*arguments)``.

    ``arguments`` are pytrees of arrays or of ``jax.ShapeDtypeStruct``. What doesn't reach the
    result isn't counted, as XLA doesn't run it. Under ``shard_map`` all devices count together.

    Raises ValueError for a ``while`` whose number of turns depends on data, and for an operation
    that has no rule here (a decomposition, an FFT, a call into foreign code).
    """
    closed = jax.make_jaxpr(function)(*arguments)
    live, _ = dce_jaxpr(closed.jaxpr, [True] * len(closed.jaxpr.outvars), instantiate=True)
    return _total(live, live.invars, {})


def training_step(loss: Callable[..., jax.Array], model: Any, *batch: Any) -> Flops:
    """FLOPs of ``loss(model, *batch)`` and of its gradient with respect to every ``nnx.Param``.

    The optimiser's update is not in it: elementwise, and some ten FLOPs a parameter with Adam.
    """
    parameters, rest = partition(model)

    def of_parameters(parameters: Any, rest: Any, *batch: Any) -> jax.Array:
        return loss(combine(parameters, rest), *batch)

    return count(jax.value_and_grad(of_parameters), parameters, rest, *batch)


def _total(called: ClosedJaxpr | Jaxpr, operands: Sequence[Atom], known: Known) -> Flops:
    """FLOPs of a jaxpr that is called with ``operands``, told which integers are known outside."""
    jaxpr = called if isinstance(called, Jaxpr) else called.jaxpr
    pairs = zip(jaxpr.invars, operands, strict=True)
    inside = {
        inner: value for inner, outer in pairs if (value := integer(outer, known)) is not None
    }
    return sum((_equation(equation, inside) for equation in jaxpr.eqns), NONE)


def _equation(equation: JaxprEqn, known: Known) -> Flops:
    name, parameters = equation.primitive.name, equation.params
    if name in PRODUCTS:
        return Flops(products=PRODUCTS[name](equation), elementwise=0)
    if name in OTHERS:
        return Flops(products=0, elementwise=OTHERS[name](equation) if _floating(equation) else 0)
    if name in CALLS:
        return _total(parameters[CALLS[name]], equation.invars, known) * _devices(equation)
    if name == "cond":
        branches = (_total(b, equation.invars[1:], known) for b in parameters["branches"])
        return max(branches, key=lambda flops: (flops.products, flops.elementwise))
    if name == "scan":
        body, constants = parameters["jaxpr"], parameters["num_consts"]
        operands = [*equation.invars[:constants], *body.jaxpr.invars[constants:]]
        return _total(body, operands, known) * parameters["length"]
    if name == "while":
        return _while(equation, known)
    raise ValueError(
        f"no rule says how many FLOPs the operation {name!r} takes: count the function without it "
        "and add its FLOPs by hand"
    )


def _floating(equation: JaxprEqn) -> bool:
    arrays: list[Any] = [atom.aval for atom in equation.invars]
    return any(jnp.issubdtype(array.dtype, jnp.inexact) for array in arrays)


def _devices(equation: JaxprEqn) -> int:
    """How many devices run the jaxpr of a call: inside ``shard_map`` it is one device's share."""
    if equation.primitive.name != "shard_map":
        return 1
    mesh = equation.params["mesh"]
    return math.prod(mesh.shape[axis] for axis in equation.params["newly_manual_axes"])


def _while(loop: JaxprEqn, known: Known) -> Flops:
    number = turns(loop, known)
    if number is None:
        raise ValueError(
            "the FLOPs of a while loop need its number of turns, but this one's depends on data: "
            "use lax.scan, or lax.fori_loop with bounds that are plain integers"
        )
    test, body = loop.params["cond_jaxpr"], loop.params["body_jaxpr"]
    first, constants = loop.params["cond_nconsts"], loop.params["body_nconsts"]
    operands = [*loop.invars[first : first + constants], *body.jaxpr.invars[constants:]]
    tests = _total(test, test.jaxpr.invars, known) * (number + 1)
    return _total(body, operands, known) * number + tests

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

What has no rule raises: a wrong count is worse than none. A layer that uses such an operation may
state the rule itself, in its class: ``flop_rules = {"fft": rule}``, where ``rule(equation)`` gives
the FLOPs of one such operation from its jaxpr equation, ``equation.invars[0].aval.shape``,
``equation.outvars`` and ``equation.params``. They count as ``products``. Since the rule is of the
operation and not of the layer, it holds under ``vmap``, ``scan`` and in gradients as all others do.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn
from jax.extend.core.primitives import closed_call_p
from jax.interpreters import partial_eval

from smallnets.measure.flop_rules import OTHERS, PRODUCTS, Atom, Known, Rule, integer, turns
from smallnets.nn.parameter import combine, partition

# Operations that run one jaxpr once. The plain calls pass on their operands and no more.
PLAIN_CALLS = {"composite", "custom_jvp_call", "custom_vjp_call", "custom_vmap_call"}
CALLS = PLAIN_CALLS | {"closed_call", "eval_jaxpr", "jit", "remat2", "shard_map"}
LOOPS = {"cond", "scan", "while"}
CALLED = ("jaxpr", "call_jaxpr", "call")  # what a call's parameter with the jaxpr may be named
JAXPRS = (*CALLED, "branches", "cond_jaxpr", "body_jaxpr")
Rules = Mapping[str, Rule]  # what layers state, by the name of an operation


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

    Raises ValueError for a ``while`` whose number of turns depends on data, for an operation that
    has no rule here (a decomposition, an FFT, a call into foreign code), unless a layer among the
    arguments states one as ``flop_rules``, and where two layers state different ones.
    """
    jaxpr = live(function, *arguments)
    return _total(jaxpr, jaxpr.invars, {}, _stated(arguments))


def _stated(tree: Any) -> dict[str, Rule]:
    """The rules that the layers in a tree state, by the operation's name."""
    found: dict[str, Rule] = {}

    def look(node: Any) -> bool:
        for name, rule in getattr(type(node), "flop_rules", {}).items():
            if found.setdefault(name, rule) is not rule:
                raise ValueError(
                    f"an operation has one rule for its FLOPs, but two layers state their own for "
                    f"{name!r}, one of them {type(node).__name__}: share one function"
                )
        return False

    jax.tree.leaves(tree, is_leaf=look)
    return found


def live(function: Callable[..., Any], *arguments: Any) -> Jaxpr:
    """The jaxpr of ``function(*arguments)`` without what doesn't reach the result."""
    jaxpr = jax.make_jaxpr(function)(*arguments).jaxpr
    if jaxpr.is_high:  # from JAX 0.11 on, some operations are written out only for the compiler
        jaxpr = partial_eval.lower_jaxpr2(jaxpr)  # pyright: ignore[reportAttributeAccessIssue]
    return _live(jaxpr)


def training_step(loss: Callable[..., jax.Array], model: Any, *batch: Any) -> Flops:
    """FLOPs of ``loss(model, *batch)`` and of its gradient with respect to every ``nnx.Param``.

    The optimiser's update is not in it: elementwise, and some ten FLOPs a parameter with Adam.
    """
    parameters, rest = partition(model)

    def of_parameters(parameters: Any, rest: Any, *batch: Any) -> jax.Array:
        return loss(combine(parameters, rest), *batch)

    return count(jax.value_and_grad(of_parameters), parameters, rest, *batch)


def called(call: JaxprEqn) -> Any:
    """The jaxpr that a call runs."""
    name = next((name for name in CALLED if name in call.params), CALLED[0])
    return call.params[name]


def constants_and_carried(scan: JaxprEqn) -> tuple[int, int]:
    """How many operands of a ``scan`` are constants, and how many are carried, in this order.

    JAX 0.10 has the two numbers as parameters, 0.11 and 0.12 have a tree of the operands.
    """
    if "ft_in" in scan.params:
        constants, carried, _ = scan.params["ft_in"].unpack()
        return len(constants), len(carried)
    return scan.params["num_consts"], scan.params["num_carry"]


def _live(jaxpr: Any) -> Any:
    """A jaxpr, closed or not, or several, without what doesn't reach the results."""
    if isinstance(jaxpr, tuple):
        return tuple(map(_live, jaxpr))
    if not isinstance(jaxpr, Jaxpr):  # JAX 0.10 tells closed jaxprs from others
        return jaxpr.replace(jaxpr=_live(jaxpr.jaxpr))
    opened = jaxpr.replace(eqns=[_opened(equation) for equation in jaxpr.eqns])
    used = [True] * len(opened.outvars)
    return partial_eval.dce_jaxpr(opened, used, instantiate=True)[0]


def _opened(equation: JaxprEqn) -> JaxprEqn:
    """The equation with live jaxprs inside, such that JAX sees which operands these use.

    JAX takes every operand of a custom gradient as used, since the gradient's rules may use it.
    Here those rules have been applied already, so that it is a plain call.
    """
    name, parameters = equation.primitive.name, equation.params
    if name not in CALLS | LOOPS:
        return equation
    inside = {key: _live(value) for key, value in parameters.items() if key in JAXPRS}
    opened = equation.replace(params={**parameters, **inside})
    if name not in PLAIN_CALLS:
        return opened
    with _refusing_unknown_parameters(equation):
        return opened.replace(primitive=closed_call_p, params={"call_jaxpr": called(opened)})


@contextmanager
def _refusing_unknown_parameters(equation: JaxprEqn) -> Iterator[None]:
    """Another version of JAX may name parameters otherwise: that is a ValueError, as no rule is."""
    try:
        yield
    except KeyError as missing:
        raise ValueError(
            f"the operation {equation.primitive.name!r} of JAX {jax.__version__} has no parameter "
            f"{missing}, which its FLOPs need: use a version of JAX that pyproject.toml admits"
        ) from missing


def _total(
    inside: ClosedJaxpr | Jaxpr, operands: Sequence[Atom], known: Known, rules: Rules
) -> Flops:
    """FLOPs of a jaxpr that is called with ``operands``, told which integers are known outside."""
    jaxpr = inside if isinstance(inside, Jaxpr) else inside.jaxpr
    pairs = zip(jaxpr.invars, operands, strict=True)
    known = {inner: value for inner, outer in pairs if (value := integer(outer, known)) is not None}
    return sum((_equation(equation, known, rules) for equation in jaxpr.eqns), NONE)


def _equation(equation: JaxprEqn, known: Known, rules: Rules) -> Flops:
    with _refusing_unknown_parameters(equation):
        return _ruled(equation, known, rules)


def _ruled(equation: JaxprEqn, known: Known, rules: Rules) -> Flops:
    name, parameters = equation.primitive.name, equation.params
    if name in PRODUCTS:
        return Flops(products=PRODUCTS[name](equation), elementwise=0)
    if name in OTHERS:
        return Flops(products=0, elementwise=OTHERS[name](equation) if _floating(equation) else 0)
    if name in CALLS:
        return _total(called(equation), equation.invars, known, rules) * _devices(equation)
    if name == "cond":
        branches = (_total(b, equation.invars[1:], known, rules) for b in parameters["branches"])
        return max(branches, key=lambda flops: (flops.products, flops.elementwise))
    if name == "scan":
        body, (constants, _) = parameters["jaxpr"], constants_and_carried(equation)
        operands = [*equation.invars[:constants], *body.jaxpr.invars[constants:]]
        return _total(body, operands, known, rules) * parameters["length"]
    if name == "while":
        return _while(equation, known, rules)
    if name in rules:
        return Flops(products=rules[name](equation), elementwise=0)
    raise ValueError(
        f"no rule says how many FLOPs the operation {name!r} takes: state one in the layer that "
        "uses it, as its class's flop_rules"
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


def _while(loop: JaxprEqn, known: Known, rules: Rules) -> Flops:
    number = turns(loop, known)
    if number is None:
        raise ValueError(
            "the FLOPs of a while loop need its number of turns, but this one's depends on data: "
            "use lax.scan, or lax.fori_loop with bounds that are plain integers"
        )
    test, body = loop.params["cond_jaxpr"], loop.params["body_jaxpr"]
    first, constants = loop.params["cond_nconsts"], loop.params["body_nconsts"]
    operands = [*loop.invars[first : first + constants], *body.jaxpr.invars[constants:]]
    tests = _total(test, test.jaxpr.invars, known, rules) * (number + 1)
    return _total(body, operands, known, rules) * number + tests

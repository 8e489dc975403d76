"""How often a ``lax.while_loop`` turns, where that is known before the program runs.

Known is the loop that counts: its test compares two integers, each of which stays as it is or
changes by a fixed step in the body. ``lax.fori_loop`` is one, wherever its bounds are known.
"""

from collections.abc import Mapping

import numpy as np
from jax.extend.core import Jaxpr, JaxprEqn, Literal, Var

Atom = Var | Literal
Known = Mapping[Var, int]  # integers of a jaxpr whose values are known before it runs


def integer(atom: Atom, known: Known) -> int | None:
    """The value of an operand, if it is a single integer that is known."""
    if not isinstance(atom, Literal):
        return known.get(atom)
    value = np.asarray(atom.val)
    return int(value) if value.ndim == 0 and np.issubdtype(value.dtype, np.integer) else None


def turns(loop: JaxprEqn, known: Known) -> int | None:
    """Turns of a ``while`` equation; None where they depend on data."""
    test, body = loop.params["cond_jaxpr"].jaxpr, loop.params["body_jaxpr"].jaxpr
    if len(test.eqns) != 1 or test.outvars[0] is not test.eqns[0].outvars[0]:
        return None
    if test.eqns[0].primitive.name not in ("lt", "le", "gt", "ge"):
        return None
    test_constants, body_constants = loop.params["cond_nconsts"], loop.params["body_nconsts"]
    start = loop.invars[test_constants + body_constants :]
    before = body.invars[body_constants:]

    def course(atom: Atom) -> tuple[int | None, int | None]:
        """The operand's value at the start and its change with each turn."""
        if isinstance(atom, Literal):
            return integer(atom, known), 0
        position = test.invars.index(atom) - test_constants
        if position < 0:
            return integer(loop.invars[position + test_constants], known), 0
        step = _step(body, before[position], body.outvars[position])
        return integer(start[position], known), step

    (left, left_step), (right, right_step) = map(course, test.eqns[0].invars)
    if left is None or right is None or left_step is None or right_step is None:
        return None
    return _crossing(test.eqns[0].primitive.name, left - right, left_step - right_step)


def _step(body: Jaxpr, before: Var, after: Atom) -> int | None:
    """The integer that the body adds to a carried number; None where it does anything else."""
    if after is before:
        return 0
    for equation in body.eqns:
        if equation.outvars[0] is after and equation.primitive.name in ("add", "sub"):
            first, second = equation.invars
            if first is before and isinstance(second, Literal):
                step = integer(second, {})
                return -step if step and equation.primitive.name == "sub" else step
            if second is before and isinstance(first, Literal) and equation.primitive.name == "add":
                return integer(first, {})
    return None


def _crossing(comparison: str, difference: int, step: int) -> int | None:
    """The first t with ``difference + t step`` no longer below (above) 0; None if there is none."""
    if comparison in ("gt", "ge"):
        difference, step = -difference, -step
    if comparison in ("le", "ge"):
        difference -= 1
    if difference >= 0:
        return 0
    return -(difference // step) if step > 0 else None

"""FLOPs of single operations of a jaxpr: the rules that :mod:`smallnets.measure.flops` adds up.

``PRODUCTS`` has the rules for multiply-adds (two FLOPs each), ``OTHERS`` those for everything else:
what is elementwise or reduces, and what takes none because it moves, selects, converts, sends or
draws random bits.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jax.extend.core import Jaxpr, JaxprEqn, Literal, Var

Rule = Callable[[JaxprEqn], int]


def _array(atom: Any) -> Any:
    """Shape, size and type of an operand or result."""
    return atom.aval


def _matrix_product(equation: JaxprEqn) -> int:
    """2 b m n k: two for each number of the result and each term of its sum."""
    left, result = _array(equation.invars[0]), _array(equation.outvars[0])
    (contracted, _), _ = equation.params["dimension_numbers"]
    return 2 * result.size * math.prod(left.shape[axis] for axis in contracted)


def _ragged_product(equation: JaxprEqn) -> int:
    """2 m n k: each row of the left operand meets the n columns of the one group it belongs to."""
    left, right = map(_array, equation.invars[:2])
    numbers = equation.params["ragged_dot_dimension_numbers"]
    (_, contracted), (_, batch) = numbers.dot_dimension_numbers
    shared = {*contracted, *batch, *numbers.rhs_group_dimensions}
    columns = math.prod(n for axis, n in enumerate(right.shape) if axis not in shared)
    return 2 * left.size * columns


def _convolution(equation: JaxprEqn) -> int:
    """2 (batch) (features out) (features in of a group) (taps that meet a number of the input)."""
    left, kernel = map(_array, equation.invars[:2])
    result = _array(equation.outvars[0])
    numbers = equation.params["dimension_numbers"]
    batch, features, *out_axes = numbers.out_spec
    _, features_in, *kernel_axes = numbers.rhs_spec
    axes = zip(
        (left.shape[axis] for axis in numbers.lhs_spec[2:]),
        (kernel.shape[axis] for axis in kernel_axes),
        (result.shape[axis] for axis in out_axes),
        equation.params["window_strides"],
        equation.params["padding"],
        equation.params["lhs_dilation"],
        equation.params["rhs_dilation"],
        strict=True,
    )
    taps = math.prod(_taps(*axis) for axis in axes)
    return 2 * result.shape[batch] * result.shape[features] * kernel.shape[features_in] * taps


def _taps(
    size: int,
    window: int,
    positions: int,
    stride: int,
    padding: tuple[int, int],
    dilation: int,
    window_dilation: int,
) -> int:
    """Pairs (output position, kernel position) along one axis that meet a number of the input."""
    starts = np.arange(positions)[:, None] * stride - padding[0]
    met = starts + np.arange(window) * window_dilation
    inside = (met >= 0) & (met <= (size - 1) * dilation) & (met % dilation == 0)
    return int(np.count_nonzero(inside))


PRODUCTS: dict[str, Rule] = {
    "dot_general": _matrix_product,
    "ragged_dot_general": _ragged_product,
    "conv_general_dilated": _convolution,
}


def _nothing(_: JaxprEqn) -> int:
    return 0


def _each(equation: JaxprEqn) -> int:
    return _array(equation.outvars[0]).size


def _one_minus_square(equation: JaxprEqn) -> int:
    """(1 + x)(1 - x): three operations in one from JAX 0.11 on, in the gradient of tanh."""
    return 3 * _each(equation)


def _taken_in(equation: JaxprEqn) -> int:
    return _array(equation.invars[0]).size


def _reduced(equation: JaxprEqn) -> int:
    return _taken_in(equation) - _each(equation)


def _sorted(equation: JaxprEqn) -> int:
    axis = equation.params["dimension" if equation.primitive.name == "sort" else "axis"]
    array = _array(equation.invars[0])
    return array.size * math.ceil(math.log2(max(array.shape[axis], 1)))


def _window(equation: JaxprEqn) -> int:
    return _each(equation) * (math.prod(equation.params["window_dimensions"]) - 1)


def _unpooled(equation: JaxprEqn) -> int:
    return _taken_in(equation) * math.prod(equation.params["window_dimensions"])


def _scattered(equation: JaxprEqn) -> int:
    return _array(equation.invars[2]).size


def _table(rules: dict[Rule, str]) -> dict[str, Rule]:
    return {name: rule for rule, names in rules.items() for name in names.split()}


OTHERS = _table(
    {
        _each: """
            abs acos acosh add add_any asin asinh atan atan2 atanh bessel_i0e bessel_i1e cbrt ceil
            clamp cos cosh digamma div eq eq_to erf erf_inv erfc exp exp2 expm1 floor ge gt igamma
            igamma_grad_a igammac integer_pow le le_to lgamma log log1p log2 logistic lt lt_to max
            min mul ne neg nextafter polygamma pow regularized_incomplete_beta rem round rsqrt sign
            sin sinh sqrt square sub tan tanh zeta""",
        _one_minus_square: "one_minus_square",
        _reduced: "argmax argmin reduce_max reduce_min reduce_prod reduce_sum",
        _taken_in: "cumlogsumexp cummax cummin cumprod cumsum",
        _sorted: "sort top_k",
        _window: "reduce_window_max reduce_window_min reduce_window_sum select_and_gather_add",
        _unpooled: "select_and_scatter_add",
        _scattered: "scatter-add scatter-max scatter-min scatter-mul",
        _nothing: """
            all_gather all_to_all and axis_index bitcast_convert_type broadcast_in_dim clz complex
            concatenate conj convert_element_type copy debug_callback debug_print
            device_put dynamic_slice dynamic_update_slice empty empty2 gather imag iota
            iota_2x32_shape is_finite mulhi name not optimization_barrier or pad platform_index
            pmax pmin population_count ppermute psum psum_invariant pvary random_bits random_clone
            random_fold_in random_seed random_split random_unwrap random_wrap real reduce_and
            reduce_or reduce_precision reduce_scatter reduce_xor reshape reshard rev
            rng_bit_generator scatter select_n sharding_constraint shift_left
            shift_right_arithmetic shift_right_logical slice split squeeze stack stop_gradient
            threefry2x32 tile transpose unstack xor zeros_like""",
    }
)


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

"""What every layer promises, to be checked of one's own: what is broken is one AssertionError.

A test of a linear layer is ``check_linear(MyLayer)``, or of one with options
``check_linear(partial(MyLayer, blocks=4))``. The layers of smallnets keep the same contract.
"""

import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.extend.core import Jaxpr, JaxprEqn, Var

from smallnets import models
from smallnets.measure import flops
from smallnets.nn.parameter import Factory, Hyperparameter, combine, is_variable, partition

__all__ = [
    "check_fans",
    "check_flops",
    "check_gradient",
    "check_linear",
    "check_matrix",
    "check_saved",
    "check_shapes",
    "check_side_by_side",
]
Held = tuple[str, nnx.Param]  # the name of a parameter, and itself
MOVES = {"convert_element_type", "copy", "reshape", "squeeze", "transpose"}  # of all numbers, once


def check_linear(
    factory: Factory,
    *,
    widths: Sequence[tuple[int, int]] = ((16, 16), (32, 16), (16, 32)),
    counted: bool = True,
) -> None:
    """All checks of this module for ``factory(d_in, d_out, *, rngs)``.

    Shapes, fans and matrices at each pair of widths, the rest at the last. ``counted=False`` says
    that its FLOPs can't be counted. Takes some seconds. Raises AssertionError, one line, for the
    first promise that is not kept; what the factory itself raises goes through.
    """
    for d_in, d_out in widths:
        check_shapes(factory, d_in, d_out)
        layers, x = _three(factory, d_in, d_out), _normal((5, d_in), np.random.default_rng(1))
        layer = _at(layers, 0)
        check_fans(layer, x)
        check_matrix(layers, x)
    if counted:
        check_flops(layer, x)
    check_side_by_side(layers, x)
    check_gradient(layer, x)
    check_saved(layer, x)


def check_shapes(factory: Factory, d_in: int, d_out: int) -> None:
    """y[..., d_out] float32 of x[..., d_in] for any leading axes, and no parameter held twice."""

    def build_and_call(x: jax.Array) -> jax.Array:
        layer = factory(d_in, d_out, rngs=nnx.Rngs(params=jax.random.key(0)))
        for paths in nnx.find_duplicates(layer):
            raise AssertionError(
                f"{_name(layer)} must hold each parameter once, but "
                f"{' and '.join(map(str, paths))} are one: call a part twice in place of that"
            )
        try:
            return _result(layer, x)
        except Exception as error:
            raise AssertionError(
                f"{_name(layer)} must take x[..., {d_in}] with any number of leading axes, but for "
                f"x{list(x.shape)} raises {type(error).__name__}: {' '.join(str(error).split())}"
            ) from error

    for lead in ((), (3,), (2, 3)):
        shape, expected = (*lead, d_in), (*lead, d_out)
        y = jax.eval_shape(build_and_call, jax.ShapeDtypeStruct(shape, jnp.float32))
        _require(
            getattr(y, "shape", None) == expected and y.dtype == jnp.float32,
            f"{_name(factory)} must give float32 {expected} for x{list(shape)}, but gives {y}: "
            "take any number of leading axes, none too",
        )


def check_fans(layer: Any, x: jax.Array) -> None:
    """Each weight array notes the fans of the products that it takes part in.

    Of ``dot_general`` products, that is: fan_in is the length of the sum, fan_out the number of
    outputs that one input reaches. Initial values, decay and ``parametrization`` rest on them.
    """
    jaxpr = flops.live(_result, layer, x)
    leaves = jax.tree_util.tree_leaves_with_path(layer, is_leaf=is_variable)
    held = [
        (jax.tree_util.keystr(path, simple=True, separator="."), leaf)
        if isinstance(leaf, nnx.Param)
        else None
        for path, leaf in leaves
    ]
    for name, parameter, fans in _products(jaxpr, [*held, None]):
        said = parameter.get_metadata()
        noted = said.get("fan_in"), said.get("fan_out")
        _require(
            noted == fans,
            f"{_name(layer)}.{name} must note the fans of its product, fan_in={fans[0]} and "
            f"fan_out={fans[1]}, but notes {noted[0]} and {noted[1]}: make it with "
            "smallnets.nn.kernel(..., fan_in=..., fan_out=...)",
        )


def check_side_by_side(layers: Any, x: jax.Array) -> None:
    """Under ``jax.vmap``, layers on a leading axis give what each gives alone."""
    together = jax.jit(jax.vmap(_result, in_axes=(0, None)))(layers, x)
    alone = jax.jit(_result)  # one program for all of them
    for index, expected in enumerate(together):
        found = alone(_at(layers, index), x)
        _close(found, expected, f"{_name(layers)} must give the same alone and under jax.vmap")


def check_gradient(layer: Any, x: jax.Array) -> None:
    """The gradient by parameters and inputs equals finite differences, in double precision.

    Along a random direction. Auxiliary losses, which are in no value, are switched off.
    """
    random = np.random.default_rng(0)

    def drawn(leaf: jax.Array) -> jax.Array:
        return jnp.asarray(random.normal(size=leaf.shape))

    with jax.enable_x64(True):
        layer = jax.tree.map(lambda leaf: jnp.asarray(leaf, float), layer)
        trained, rest = partition(jax.tree.map(_silent, layer, is_leaf=is_variable))
        point = trained, drawn(x)
        direction = jax.tree.map(drawn, point)
        weights = drawn(jax.eval_shape(_result, layer, point[1]))

        def value(point: Any) -> jax.Array:
            trained, x = point
            return (weights * _result(combine(trained, rest), x)).sum()

        @jax.jit
        def slopes(point: Any, direction: Any) -> tuple[jax.Array, jax.Array]:
            products = jax.tree.map(jnp.vdot, jax.grad(value)(point), direction)
            moved = jax.vmap(lambda step: jax.tree.map(lambda a, b: a + step * b, point, direction))
            after, before = jax.lax.map(value, moved(jnp.asarray([1e-6, -1e-6])))
            return sum(jax.tree.leaves(products), jnp.zeros(())), (after - before) / 2e-6

        found, expected = map(float, slopes(point, direction))
    _require(
        bool(np.isclose(found, expected, rtol=1e-6)),
        f"the gradient of {_name(layer)} must equal finite differences, but along a random "
        f"direction it is {found:.8g} and they are {expected:.8g}: look for a custom gradient, a "
        "stop_gradient or a cast to fewer bits",
    )


def check_matrix(layers: Any, x: jax.Array) -> None:
    """Where a layer writes out its ``matrix()``, y = x W; stacked layers keep their leading axis.

    ``layers`` lie on a leading axis: W[layers, d_in, d_out] then.
    """
    if not hasattr(layers, "matrix"):
        return
    y = jax.eval_shape(jax.vmap(_result, in_axes=(0, None)), layers, x)
    name, expected = _name(layers), (len(y), x.shape[-1], y.shape[-1])
    try:
        shape = jax.eval_shape(_matrix, layers).shape
    except Exception as error:
        shape = f"nothing: {type(error).__name__}: {' '.join(str(error).split())}"
    _require(
        shape == expected,
        f"{name}.matrix() must give W[..., d_in, d_out] with the leading axes on which such layers "
        f"are stacked, here {expected}, but gives {shape}: write '...' in front of its einsums "
        "and indices",
    )

    @jax.jit
    def both(layers: Any, x: jax.Array) -> tuple[jax.Array, ...]:
        stacked, alone = _matrix(layers), jax.vmap(_matrix)(layers)
        y = jax.vmap(_result, in_axes=(0, None))(layers, x)
        return y, jnp.einsum("ni,lio->lno", x, stacked), stacked, alone

    y, product, stacked, alone = both(layers, x)
    _close(product, y, f"{name} must be y = x W for the W of its matrix()")
    _close(stacked, alone, f"{name}.matrix() must be the same stacked or not")


def check_saved(layer: Any, x: jax.Array) -> None:
    """Saved and loaded again it is equal, bit for bit."""
    package = type(layer).__module__.partition(".")[0]
    with tempfile.TemporaryDirectory() as folder:
        try:
            path = models.save(layer, Path(folder) / models.NAME)
            again = models.load(path, allow=(package,))
        except ValueError as error:
            said = str(error).replace(f"{Path(folder) / models.NAME}: ", "")
            raise AssertionError(f"{_name(layer)} must be kept in a file: {said}") from error
    same = jax.tree.structure(layer) == jax.tree.structure(again) and all(
        map(np.array_equal, jax.tree.leaves(layer), jax.tree.leaves(again))
    )
    call = jax.jit(_result)
    _require(
        same and np.array_equal(call(layer, x), call(again, x)),
        f"{_name(layer)} must be equal once it is saved and loaded, but is not: keep what it needs "
        "as nnx.Variable or as plain attributes",
    )


def check_flops(layer: Any, x: jax.Array) -> None:
    """Its FLOPs are counted, in a forward pass and in a training step."""
    try:
        flops.count(_result, layer, x)
        flops.training_step(lambda layer, x: _result(layer, x).sum(), layer, x)
    except ValueError as error:
        raise AssertionError(
            f"the FLOPs of {_name(layer)} must be counted, or said not to be by counted=False: "
            f"{error}"
        ) from error


def _require(kept: bool, line: str) -> None:
    if not kept:
        raise AssertionError(line)


def _close(one: Any, other: Any, rule: str) -> None:
    one, other = np.asarray(one), np.asarray(other)
    worst = float(np.abs(one - other).max())
    _require(
        bool(np.allclose(one, other, rtol=1e-4, atol=1e-5)),
        f"{rule}, but they differ by {worst:.2g}: look for an axis that is taken for another",
    )


def _matrix(layer: Any) -> jax.Array:
    return layer.matrix()


def _result(layer: Callable[[jax.Array], jax.Array], x: jax.Array) -> Any:
    return layer(x)


def _three(factory: Factory, d_in: int, d_out: int) -> Any:
    """Three layers on a leading axis, all parameters drawn, biases too, so that each one counts.

    By numpy, since compiling how a layer draws its own takes longer than all checks.
    """

    def parts() -> tuple[Any, Any]:
        return partition(factory(d_in, d_out, rngs=nnx.Rngs(params=jax.random.key(0))))

    def draw(parameter: nnx.Param) -> Any:
        scale = 1 / math.sqrt(parameter.get_metadata().get("fan_in", 1))
        return jax.tree.map(lambda leaf: scale * _normal((3, *leaf.shape), random), parameter)

    random = np.random.default_rng(0)
    parameters, rest = jax.eval_shape(parts)
    parameters = jax.tree.map(draw, parameters, is_leaf=is_variable)
    rest = jax.jit(lambda: parts()[1])() if jax.tree.leaves(rest) else rest
    return combine(parameters, jax.tree.map(lambda leaf: jnp.stack([leaf] * 3), rest))


def _normal(shape: tuple[int, ...], random: np.random.Generator) -> jax.Array:
    return jnp.asarray(random.normal(size=shape), jnp.float32)


def _at(layers: Any, index: int) -> Any:
    return jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)[index]), layers)


def _silent(variable: nnx.Variable) -> nnx.Variable:
    """The variable; a hyperparameter, such as the weight of an auxiliary loss, at zero."""
    if isinstance(variable, Hyperparameter):
        return Hyperparameter(jnp.zeros_like(variable[...]))
    return variable


def _name(layer: Any) -> str:
    layer = getattr(layer, "func", layer)  # of a partial
    return layer.__name__ if isinstance(layer, type) else type(layer).__name__


def _products(
    jaxpr: Jaxpr, held: Sequence[Held | None]
) -> Iterator[tuple[str, nnx.Param, tuple[int, int]]]:
    """Each product of a parameter in a jaxpr: its name, itself, and the fans that it has there.

    ``held`` says of each input of the jaxpr which parameter it is, if any.
    """
    known = dict(zip(jaxpr.invars, held, strict=True))
    for equation in jaxpr.eqns:
        operands = [known.get(atom) if isinstance(atom, Var) else None for atom in equation.invars]
        name = equation.primitive.name
        if name in MOVES:
            known[equation.outvars[0]] = operands[0]
        elif name == "dot_general":
            for side, operand in enumerate(operands):
                if operand is not None:
                    yield (*operand, _fans(equation, side))
        elif name in flops.CALLS:
            called = flops.called(equation)
            yield from _products(called if isinstance(called, Jaxpr) else called.jaxpr, operands)


def _fans(product: JaxprEqn, side: int) -> tuple[int, int]:
    contracted, batch = product.params["dimension_numbers"]
    operand: Any = product.invars[side].aval
    shape = operand.shape
    fan_in = math.prod(shape[axis] for axis in contracted[side])
    return fan_in, math.prod(shape) // fan_in // math.prod(shape[axis] for axis in batch[side])

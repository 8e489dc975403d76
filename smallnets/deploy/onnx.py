"""ONNX: one file for any batch, by jax2onnx; as int8, weights and products in eight bits.

:func:`main` runs in the environment of this route alone, on a model's file. What jax2onnx writes is
mended there: products become MatMul, which is what the quantiser looks for (onnxruntime #8488),
arrays that stand in the graph several times, as a shared block's do, are kept once, and whole
numbers of a model that is kept in a few bits take four of them, or two. At batch 1 an operation
costs more than its arithmetic, so sizes are not computed where they are known, and a norm is one
operation: with the tables of rotary positions written out, a decoder takes .7 to .8 of the time.
"""

# What is imported below is in the environment of a route, not in ours.
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

import json
import logging
import math
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np

from smallnets.deploy import environment

SHAPING = {"Expand", "Reshape", "Unsqueeze"}  # whose further inputs say a shape
ELEMENTWISE = {"Add", "Sub", "Mul", "Div", "Where", "Max", "Min"}
# A norm from its end to its beginning: each operation, and which of its inputs goes on.
NORM = (("Mul", 1), ("Div", 1), ("Sqrt", 0), ("Add", 0), ("ReduceMean", 0), ("Mul", 0))
# A known array is written out as often as it is repeated if its rows are of fewer numbers than ROW,
# since repeating those while it runs takes three times as long, and there are at most TABLE then.
ROW, TABLE = 16, 2**14
PRODUCTS = {"MatMul", "Gemm", "Einsum", "Conv"}
INTEGER = {"MatMulInteger", "ConvInteger", "QLinearMatMul", "QLinearConv"}


def convert(jobs: list[dict[str, Any]], allow: tuple[str, ...] = ()) -> None:
    """Write the ONNX file of each job: its ``model``'s file, ``out``, and ``input``, as in a card.

    Where ``input`` is None, it is the model's cached step (:mod:`smallnets.deploy.step`).
    jax2onnx takes seconds to start, so that several models are better converted at once.
    """
    environment.run("onnx", "onnx", ["float", json.dumps([jobs, allow])], allow)


def quantize(program: Path, out: Path) -> dict[str, int]:
    """Write the int8 file of an ONNX file; return the products in it, see :func:`products`."""
    return json.loads(environment.run("onnx", "onnx", ["int8", program, out]).splitlines()[-1])


def main(arguments: list[str]) -> None:
    """In the route's environment: ``float JOBS`` or ``int8 PROGRAM OUT``."""
    logging.disable(logging.WARNING)
    if arguments[0] == "int8":
        _write_int8(Path(arguments[1]), Path(arguments[2]))
        return
    jobs, allow = json.loads(arguments[1])
    for job in jobs:
        _write_float(Path(job["model"]), Path(job["out"]), job["input"], allow)


def _write_float(
    model: Path, out: Path, signature: dict[str, Any] | None, allow: list[str]
) -> None:
    import onnx_ir as ir
    from jax2onnx import to_onnx
    from onnx_ir.passes import common

    from smallnets import models
    from smallnets.deploy import step
    from smallnets.deploy.form import form
    from smallnets.deploy.stablehlo import shape_of

    loaded = models.load(model, allow=tuple(allow))
    inputs, outputs = ["x"], ["logits"]
    if signature is None:
        function, shapes = step.of(loaded)
        inputs, outputs = [*step.STEP_INPUTS], [*step.STEP_OUTPUTS]
    else:
        written = form(loaded)
        function, shapes = (lambda x: written(x)), [shape_of(signature, "B")]
    program: Any = to_onnx(
        function,
        inputs=shapes,
        input_names=inputs,
        output_names=outputs,
        model_name="smallnets",
        export_mode="web",
        return_mode="ir",
    )
    for node in list(program.graph):
        if node.op_type == "Einsum":
            _einsum_to_matmul(node)
    for node in list(program.graph):
        if node.op_type == "Mul":
            _fold_norm(node)
    # What is left unused, a shape among it, may have been all that kept another.
    while [node for node in list(program.graph) if _drop_shape(node)]:
        common.RemoveUnusedNodesPass()(program)
    common.DeduplicateInitializersPass(size_limit=2**40)(program)
    _narrow(program)
    ir.save(program, out)


def _narrow(program: Any) -> None:
    """Whole numbers that only become floats in as few bits as hold them: 2 (opset 25), 4 or 8."""
    import ml_dtypes
    import onnx_ir as ir

    for name, value in program.graph.initializers.items():
        users = {node.op_type for node in value.consumers()}
        if value.dtype != ir.DataType.INT8 or users != {"Cast"}:
            continue
        numbers = value.const_value.numpy()
        low, high = numbers.min(initial=0), numbers.max(initial=0)
        if low < -8 or high > 7:
            continue
        ternary = low >= -2 and high <= 1
        narrow = numbers.astype(ml_dtypes.int2 if ternary else ml_dtypes.int4)
        value.const_value = ir.tensor(narrow, name=name)
        value.dtype = value.const_value.dtype
        if ternary:
            program.ir_version = max(program.ir_version, 13)
            program.graph.opset_imports[""] = max(program.graph.opset_imports[""], 25)


def _drop_shape(node: Any) -> bool:
    """Whether a node took sizes that are computed from the batch's, and takes known ones now.

    A new shape with one unknown size is a constant that leaves it open, arrays of unequal shape are
    combined without being expanded, and a slice names only the axes that it cuts.
    """
    if node.op_type not in ("Reshape", "Expand", "Slice"):
        return False
    (result,), source = node.outputs, node.inputs[0]
    if result.shape is None or source.shape is None or result.is_graph_output():
        return False
    if not result.uses():  # it is about to go
        return False
    if node.op_type == "Slice":
        return _cut_known_axes(node)
    sizes = list(result.shape)
    if node.op_type == "Reshape":
        unknown = [not isinstance(size, int) for size in sizes]
        if sum(unknown) > 1 or 0 in sizes or node.inputs[1].is_initializer():
            return False
        shape = np.array([-1 if free else size for size, free in zip(sizes, unknown, strict=True)])
        node.replace_input_with(1, _constant(node, f"{result.name}_shape", shape))
        return True
    if list(source.shape) != sizes and not all(
        use.node.op_type in ELEMENTWISE
        and any(other is not result and other.shape == result.shape for other in use.node.inputs)
        for use in result.uses()
    ):
        return False
    array = _folded(source)
    known = [size if isinstance(size, int) else 1 for size in sizes]
    if (
        array is not None
        and array.ndim > 0
        and array.shape[-1] < ROW
        and array.size < math.prod(known) <= TABLE
    ):
        whole = np.broadcast_to(array, known).copy()
        source = _constant(node, f"{result.name}_whole", whole)
    result.replace_all_uses_with(source)
    return True


def _cut_known_axes(node: Any) -> bool:
    """A slice along axes of known size alone, where the others are whole; whether it wasn't so."""
    before, after = list(node.inputs[0].shape), list(node.outputs[0].shape)
    said = [_folded(each) for each in (node.inputs[1], *node.inputs[3:])]
    if len(said) != 3 or any(each is None for each in said) or node.inputs[2].is_initializer():
        return False
    cut = []
    for start, axis, step in zip(*said, strict=True):
        if before[axis] == after[axis] and (start, step) == (0, 1):
            continue
        if not isinstance(after[axis], int) or start < 0 or step < 1:
            return False
        cut.append((start, start + step * after[axis], axis, step))
    for place, values in enumerate(zip(*cut, strict=True), 1):
        array = np.array(values, np.int64)
        node.replace_input_with(
            place, _constant(node, f"{node.outputs[0].name}_cut_{place}", array)
        )
    return bool(cut)


def _fold_norm(scaled: Any) -> None:
    """x * (1 / sqrt(mean(x * x) + epsilon)) * scale as one operation; anything else stays."""
    import onnx_ir as ir

    value, path = scaled.inputs[0], []
    for operation, follow in NORM:
        node = value.producer()
        if node is None or node.op_type != operation:
            return
        path.append(node)
        value = node.inputs[follow]
    times, inverse, _, plus, mean, square = path
    x, weights = times.inputs[0], scaled.inputs[1]
    while (producer := weights.producer()) and producer.op_type in ("Expand", "Reshape"):
        weights = producer.inputs[0]
    known = (inverse.inputs[0], plus.inputs[1], mean.inputs[1], weights)
    one, epsilon, axes, scale = (_folded(each) for each in known)
    if any(each is None for each in (one, epsilon, axes, scale, x.shape)):
        return
    last = len(x.shape) - 1
    if tuple(square.inputs) != (x, x) or one != 1 or list(axes % (last + 1)) != [last]:
        return
    if scale.shape != (x.shape[last],):
        return
    said = [ir.AttrInt64("axis", -1), ir.AttrFloat32("epsilon", float(epsilon))]
    norm = ir.Node("", "RMSNormalization", [x, weights], attributes=said)
    norm.outputs[0].shape, norm.outputs[0].dtype = x.shape, x.dtype
    scaled.append(norm)
    scaled.outputs[0].replace_all_uses_with(norm.outputs[0])


def _constant(node: Any, name: str, array: Any) -> Any:
    """A new array in the graph of a node."""
    import onnx_ir as ir

    value = ir.Value(name=name, const_value=ir.tensor(array))
    value.shape, value.dtype = ir.Shape(array.shape), value.const_value.dtype
    node.graph.register_initializer(value)
    return value


def _einsum_to_matmul(node: Any) -> None:
    """An Einsum that is x W, or a stack of such products, as MatMul; any other stays."""
    import onnx_ir as ir

    left, right, result = (
        part.replace("...", "") for part in re.split(",|->", node.attributes["equation"].value)
    )
    if len(right) < 2:
        return
    stack, (inner, columns) = right[:-2], right[-2:]
    turned = left.endswith(columns) and result.endswith(inner)  # x W^T
    if turned:
        inner, columns = columns, inner
    rows = left[:-1]
    if left[-1:] != inner or result != rows + columns or rows[: len(stack)] != stack:
        return
    if stack and len(rows) != len(stack) + 1:
        return
    weights = node.inputs[1]
    while (producer := weights.producer()) and producer.op_type in ("Expand", "Unsqueeze"):
        weights = producer.inputs[0]  # axes in front, for the ellipsis
    array = _folded(weights)
    if array is None or array.ndim != len(right):
        return
    if not weights.is_initializer():
        weights = _constant(node, f"{weights.name}_folded", array)
    if turned:
        order = [*range(len(stack)), len(stack) + 1, len(stack)]
        transpose = ir.Node("", "Transpose", [weights], attributes=[ir.AttrInt64s("perm", order)])
        node.prepend(transpose)
        (weights,) = transpose.outputs
    node.op_type = "MatMul"
    node.attributes.pop("equation")
    node.replace_input_with(1, weights)


def _folded(value: Any) -> Any:
    """The array of a value that is known before the program runs, as numpy; None of any other."""
    if value.const_value is not None:
        return value.const_value.numpy()
    node = value.producer()
    if node is None or node.op_type not in ("Reshape", "Transpose"):
        return None
    arrays = [_folded(each) for each in node.inputs]
    if any(each is None for each in arrays):
        return None
    if node.op_type == "Reshape":
        return arrays[0].reshape([int(size) for size in arrays[1]])
    return arrays[0].transpose(list(node.attributes["perm"].value))


def _write_int8(source: Path, out: Path) -> None:
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load(source)
    _fold_transposes(model.graph)
    axes = {each.name: len(each.dims) for each in model.graph.initializer}
    products_ = [node for node in model.graph.node if node.op_type == "MatMul"]
    quantize_dynamic(
        model,
        out,
        # not QInt8: where a processor has no VNNI, sums of unsigned times signed bytes saturate at
        # 16 bits, silently (19 % of the answers of a network of width 64 changed)
        weight_type=QuantType.QUInt8,
        # a scale for each column, but of stacked matrices one for all (onnxruntime #25489)
        per_channel=all(axes.get(node.input[1], 2) == 2 for node in products_),
        op_types_to_quantize=["MatMul", "Gather"],
    )
    print(json.dumps(products(onnx.load(out))))


def _fold_transposes(graph: Any) -> None:
    """Weights that are turned in the graph, turned once: the quantiser takes only what is there."""
    from onnx import numpy_helper

    weights = {each.name: each for each in graph.initializer}
    for node in [each for each in graph.node if each.op_type == "Transpose"]:
        if node.input[0] in weights:
            array = numpy_helper.to_array(weights[node.input[0]])
            turned = array.transpose(list(node.attribute[0].ints))
            graph.initializer.append(numpy_helper.from_array(turned.copy(), node.output[0]))
            graph.node.remove(node)


def products(model: Any) -> dict[str, int]:
    """The products of a file: ``integer`` ones, ``of_weights`` in all, and ``of_activations``.

    Those of activations with each other, as in attention, have no weights to round.
    """
    constant = {each.name for each in model.graph.initializer}
    found = {"integer": 0, "of_weights": 0, "of_activations": 0}
    for node in _nodes(model.graph):
        named = node.input[:1] if node.op_type in SHAPING else node.input
        if constant.issuperset(named):  # what is made of weights alone
            constant.update(node.output)
        if node.op_type in INTEGER:
            found["integer"] += 1
            found["of_weights"] += 1
        elif node.op_type in PRODUCTS:
            weighs = any(name in constant for name in node.input)
            found["of_weights" if weighs else "of_activations"] += 1
    return found


def _nodes(graph: Any) -> Any:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _nodes(attribute.g)


if __name__ == "__main__":
    main(sys.argv[1:])

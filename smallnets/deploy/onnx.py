"""ONNX: one file for any batch, by jax2onnx; as int8, weights and products in eight bits.

:func:`main` runs in the environment of this route alone, on a model's file. What jax2onnx writes is
mended there: products become MatMul, which is what the quantiser looks for (onnxruntime #8488), and
arrays that stand in the graph several times, as a shared block's do, are kept once.
"""

import json
import logging
import re
import sys
from pathlib import Path
from typing import Any

from smallnets.deploy import environment

PRODUCTS = {"MatMul", "Gemm", "Einsum", "Conv"}
INTEGER = {"MatMulInteger", "ConvInteger", "QLinearMatMul", "QLinearConv"}


def convert(model: Path, out: Path, signature: dict[str, Any], allow: tuple[str, ...] = ()) -> None:
    """Write the ONNX file of a model's file; ``signature`` is its card's input."""
    environment.run("onnx", "onnx", ["float", model, out, json.dumps([signature, allow])], allow)


def quantize(program: Path, out: Path) -> dict[str, int]:
    """Write the int8 file of an ONNX file; return the products in it, see :func:`products`."""
    return json.loads(environment.run("onnx", "onnx", ["int8", program, out, "null"]))


def main(arguments: list[str]) -> None:
    """In the route's environment: ``float MODEL OUT SIGNATURE`` or ``int8 PROGRAM OUT null``."""
    kind, source, out, said = arguments
    if kind == "float":
        _write_float(Path(source), Path(out), *json.loads(said))
    else:
        _write_int8(Path(source), Path(out))


def _write_float(model: Path, out: Path, signature: dict[str, Any], allow: list[str]) -> None:
    logging.disable(logging.WARNING)
    import onnx_ir as ir
    from jax2onnx import to_onnx
    from onnx_ir.passes.common import DeduplicateInitializersPass

    from smallnets import models
    from smallnets.deploy.form import form
    from smallnets.deploy.stablehlo import shape_of

    written = form(models.load(model, allow=tuple(allow)))
    graph: Any = to_onnx(
        lambda x: written(x),
        inputs=[shape_of(signature, "B")],
        input_names=["x"],
        output_names=["logits"],
        model_name="smallnets",
        export_mode="web",
        return_mode="ir",
    )
    DeduplicateInitializersPass(size_limit=2**40)(graph)
    for node in graph.graph.all_nodes():
        _einsum_to_matmul(node)
    ir.save(graph, out)


def _einsum_to_matmul(node: Any) -> None:
    """An Einsum that is a batch of matrix products as MatMul; others stay."""
    if node.op_type != "Einsum":
        return
    left, right, result = re.split(",|->", node.attributes["equation"].value)
    inner, columns = right[-2:]
    rest = right[:-2].replace("...", "")
    batch = left.replace("...", "")[: len(rest)]
    plain = left.endswith(inner) and result.endswith(columns) and left[:-1] == result[:-1]
    weights_of_all = not rest or (batch == rest and len(left.replace("...", "")) == len(rest) + 2)
    if plain and weights_of_all and columns not in left:
        node.op_type = "MatMul"
        node.attributes.pop("equation")


def _write_int8(source: Path, out: Path) -> None:
    logging.disable(logging.WARNING)
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load(source)
    shapes = {each.name: len(each.dims) for each in model.graph.initializer}
    matrices = all(
        shapes.get(node.input[1], 2) == 2 for node in model.graph.node if node.op_type == "MatMul"
    )
    # a scale for each column, but of stacked matrices one for all (onnxruntime #25489)
    quantize_dynamic(
        source, out, weight_type=QuantType.QInt8, per_channel=matrices, op_types_to_quantize=["MatMul", "Gather"]
    )
    print(json.dumps(products(onnx.load(out))))


def products(model: Any) -> dict[str, int]:
    """The products of a file: ``integer`` ones, ``of_weights`` in all, and ``of_activations``.

    Those of activations with each other, as in attention, have no weights to round.
    """
    constant = {each.name for each in model.graph.initializer}
    found = {"integer": 0, "of_weights": 0, "of_activations": 0}
    for node in _nodes(model.graph):
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

"""LiteRT (TensorFlow Lite's file): one example a call, by litert-converter from StableHLO's text.

:func:`main` runs in the environment of this route alone, which has no JAX. As int8 or int4, weights
are rounded by ai-edge-quantizer, and products take integers.
"""

# What is imported below is in the environment of a route, not in ours.
# pyright: reportMissingImports=false

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from smallnets.deploy import environment

PRODUCTS = {"FULLY_CONNECTED", "BATCH_MATMUL", "CONV_2D", "DEPTHWISE_CONV_2D"}


def convert(
    text: str, out: Path, *, inputs: Sequence[str] = ("x",), outputs: Sequence[str] = ("logits",)
) -> None:
    """Write the file of a program of batch 1, given as StableHLO's text, and its names."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "program.mlir"
        source.write_text(text)
        names = json.dumps([list(inputs), list(outputs)])
        environment.run("litert", "litert", ["float", source, out, names])


def quantize(program: Path, out: Path, *, bits: int = 8) -> dict[str, int]:
    """Write the file with weights of 8 or 4 bits; return its products, as :mod:`.onnx` has them."""
    said = environment.run("litert", "litert", [f"int{bits}", program, out])
    return json.loads(said.splitlines()[-1])


def main(arguments: list[str]) -> None:
    """In the route's environment: ``float PROGRAM.mlir OUT NAMES`` or ``int8|int4 PROGRAM OUT``."""
    kind, source, out = arguments[:3]
    if kind == "float":
        _write_float(Path(source), Path(out), *json.loads(arguments[3]))
        return
    from ai_edge_quantizer import quantizer, recipe

    chosen = {"int8": recipe.dynamic_wi8_afp32, "int4": recipe.dynamic_wi4_afp32}[kind]
    quantize = quantizer.Quantizer(source)
    quantize.load_quantization_recipe(chosen())
    Path(out).write_bytes(quantize.quantize().quantized_model)
    try:
        print(json.dumps(products(Path(out))))
    except RuntimeError as error:
        raise ValueError(
            f"the runtime refuses the {kind} file that the quantiser wrote "
            f"({str(error).splitlines()[0][:100]}): leave --{kind} out"
        ) from None


def _write_float(source: Path, out: Path, inputs: list[str], outputs: list[str]) -> None:
    from litert_converter.mlir import ir, passmanager
    from litert_converter.mlir._mlir_libs import converter_api_ext as api

    context = ir.Context()
    api.prepare_mlir_context(context)
    with context:
        module = ir.Module.parse(source.read_text())
        names: dict[str, Any] = {"input_names": inputs, "output_names": outputs}
        api.set_signature(module.operation, signature_name="serving_default", **names)
        passes = passmanager.PassManager()
        api.run_convert_to_tfl_passes(module, passes, api.ConvertToTFLConfig())
        out.write_bytes(api.export_flatbuffer_to_bytes(module.operation))


def products(program: Path) -> dict[str, int]:
    """The products of a file, as :func:`smallnets.deploy.onnx.products` counts them."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter: Any = Interpreter(model_path=str(program))
    interpreter.allocate_tensors()
    details = {each["index"]: each for each in interpreter.get_tensor_details()}
    written = {index for op in interpreter._get_ops_details() for index in op["outputs"]}
    written |= {each["index"] for each in interpreter.get_input_details()}
    found = {"integer": 0, "of_weights": 0, "of_activations": 0}
    for op in interpreter._get_ops_details():
        if op["op_name"] not in PRODUCTS:
            continue
        weights = [index for index in op["inputs"][:2] if index not in written]
        if not weights:
            found["of_activations"] += 1
            continue
        found["of_weights"] += 1
        found["integer"] += str(details[weights[0]]["dtype"].__name__).startswith("int")
    return found


if __name__ == "__main__":
    main(sys.argv[1:])

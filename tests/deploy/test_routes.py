"""Every YAML of the model's groups by every route: the file answers as the network does.

The networks' parameters are drawn, norms and biases too, so that each one counts; what training
makes of them is in test_artefact.py, a network of each kind.
"""

import subprocess
from pathlib import Path

import numpy as np
import pytest
from networks import WORDS, built
from test_artefact import python_of

from smallnets import models
from smallnets.deploy import litert, onnx, proof, runtime, stablehlo
from smallnets.deploy.form import form
from smallnets.deploy.proof import Examples, measured, require_parity

# Depthwise products, and pooling by a product with ones, stay float: such files are refused.
PARTLY = {"convolutional-separable", "convolutional-inverted_bottleneck", "lenet5-mean"}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.long,
    pytest.mark.filterwarnings("ignore:.*more than the:smallnets.nn.linear.LargerThanDense"),
]


@pytest.fixture(scope="module")
def found(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the model of each case, its inputs and answers, and its ONNX file."""
    for route in ("onnx", "litert"):
        python_of(route)
    folder, jobs = tmp_path_factory.mktemp("routes"), []
    for name in WORDS:
        model, x = built(name, cache)
        models.save(model, folder / f"{name}.safetensors")
        np.savez(folder / f"{name}.npz", x=x, logits=proof.alone(model, x))
        signature = {"shape": list(x.shape[1:]), "dtype": str(x.dtype)}
        paths = {"model": f"{folder / name}.safetensors", "out": f"{folder / name}.onnx"}
        jobs.append({**paths, "input": signature})
    onnx.convert(jobs)
    return folder


LIST = """
import sys
import onnx
print(*(node.op_type for node in onnx.load(sys.argv[1]).graph.node))
"""


@pytest.mark.parametrize(("name", "norms"), [("transformer", 2 * 2 + 1), ("convolutional", 0)])
def test_no_size_is_computed_and_each_norm_is_one_operation(name: str, norms: int, found: Path):
    said = subprocess.run(
        [python_of("onnx"), "-c", LIST, found / f"{name}.onnx"], capture_output=True, text=True
    )
    operations = said.stdout.split()
    assert "MatMul" in operations
    assert not {"Shape", "Expand", "ReduceMean"} & {*operations}
    assert operations.count("RMSNormalization") == norms


@pytest.mark.parametrize("name", WORDS)
def test_a_network(name: str, found: Path):
    model = models.load(found / f"{name}.safetensors")
    with np.load(found / f"{name}.npz") as file:
        arrays = dict(file)
    examples = Examples(arrays["x"], np.zeros(len(arrays["x"]), np.int32), arrays["logits"], None)
    signature = {"shape": arrays["x"].shape[1:], "dtype": arrays["x"].dtype}
    written = form(model)
    stablehlo.write(written, signature, found / f"{name}.stablehlo")
    program = runtime.load(found / f"{name}.stablehlo")
    for batch in proof.BATCHES:
        answers = runtime.answers(program, examples.inputs, batch)
        np.testing.assert_allclose(answers, examples.logits, atol=proof.TOLERANCE)
    litert.convert(
        stablehlo.exported(written, signature, 1).mlir_module(), found / f"{name}.tflite"
    )
    for suffix in (".onnx", ".tflite"):
        entry = measured(found / f"{name}{suffix}", model, examples, rounds=0)
        require_parity(name, entry, model)
    counted = onnx.quantize(found / f"{name}.onnx", found / f"{name}.int8.onnx")
    assert (counted["integer"] >= 0.9 * counted["of_weights"] > 0) is (name not in PARTLY)

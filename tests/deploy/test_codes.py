"""A model that is kept in a few bits: the file holds its whole numbers, bit for bit, as narrow."""

import json
import subprocess
from pathlib import Path

import jax
import numpy as np
import pytest
from layers import normal  # pyright: ignore[reportMissingImports]
from test_artefact import python_of
from test_form import residual
from test_models import model_of

from smallnets import models
from smallnets.compress.quantise import in_code
from smallnets.deploy import onnx, proof
from smallnets.deploy.form import form
from smallnets.nn.quantised import Code

BITS = {"int8": 8, "int4": 4, "ternary": 2}

READ = """
import json, sys, numpy as np, onnx, onnxruntime
program, inputs, answers = sys.argv[1:]
found = {}
for each in onnx.load(program).graph.initializer:
    kind = onnx.TensorProto.DataType.Name(each.data_type)
    codes = onnx.numpy_helper.to_array(each)
    found.setdefault(kind, []).append(codes.astype(float).ravel().tolist())
session = onnxruntime.InferenceSession(program, providers=["CPUExecutionProvider"])
np.save(answers, session.run(None, {"x": np.load(inputs)})[0])
print(json.dumps(found))
"""


@pytest.mark.slow
@pytest.mark.parametrize("code", BITS)
def test_the_file_holds_the_codes(code: Code, tmp_path: Path):
    python = python_of("onnx")
    model = model_of("residual", in_code(residual(unique=2, width=24), code=code))
    x = normal(5, 4)
    models.save(model, tmp_path / "model.safetensors")
    np.save(tmp_path / "x.npy", x)
    paths = {"model": tmp_path / "model.safetensors", "out": tmp_path / "model.onnx"}
    job = {name: str(path) for name, path in paths.items()}
    onnx.convert([{**job, "input": {"shape": [4], "dtype": "float32"}}])
    words = [python, "-c", READ, paths["out"], tmp_path / "x.npy", tmp_path / "y.npy"]
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    found = json.loads(said)
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), proof.alone(model, x), atol=5e-5)
    assert {*found} <= {f"INT{BITS[code]}", "INT64", "INT32", "FLOAT"}
    leaves = {id(leaf): leaf for leaf in jax.tree.leaves(form(model)) if leaf.dtype == np.int8}
    kept = [np.asarray(leaf).ravel().tolist() for leaf in leaves.values()]
    assert sorted(found[f"INT{BITS[code]}"]) == sorted(kept)
    if code == "ternary":  # of these weights the quantiser rounds none, and it is said
        counted = onnx.quantize(paths["out"], tmp_path / "model.int8.onnx")
        assert counted["integer"] == 0 < counted["of_weights"]

"""This model without JAX: python run.py [INPUTS.npy] [ANSWERS.npy], raw inputs [n, ...] to logits.

Needs numpy, and onnxruntime (model.onnx) or ai-edge-litert (model.tflite).
"""

import json
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent


def load(program):
    """The function x[n, ...] -> logits of a file of this folder."""
    if program.suffix == ".onnx":
        import onnxruntime  # pyright: ignore[reportMissingImports]

        session = onnxruntime.InferenceSession(program, providers=["CPUExecutionProvider"])
        return lambda x: session.run(None, {"x": x})[0]
    from ai_edge_litert.interpreter import Interpreter  # pyright: ignore[reportMissingImports]

    signature = Interpreter(str(program)).get_signature_runner()
    return lambda x: np.concatenate([signature(x=one[None])["logits"] for one in x])


if __name__ == "__main__":
    expected = json.loads((HERE / "card.json").read_text())["input"]
    x = np.load(sys.argv[1] if sys.argv[1:] else HERE / "sample_inputs.npy")
    if list(x.shape[1:]) != expected["shape"] or x.dtype != expected["dtype"]:
        sys.exit(
            f"inputs must be {expected['dtype']} [n, *{expected['shape']}], not {x.dtype} {x.shape}"
        )
    runtimes = {"model.onnx": "onnxruntime", "model.tflite": "ai_edge_litert"}
    here = [HERE / name for name, package in runtimes.items() if find_spec(package)]
    y = load(next(path for path in here if path.exists()))(x)
    if sys.argv[2:]:
        np.save(sys.argv[2], y)
    elif sys.argv[1:]:
        print(y)
    else:
        print("largest difference:", np.abs(y - np.load(HERE / "sample_logits.npy")).max())

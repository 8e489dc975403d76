"""A program of an artefact, loaded by its runtime, called and timed: numpy and that runtime alone.

:func:`main` runs in a route's environment: ``PROGRAM INPUTS.npy ANSWERS.npz BATCHES ROUNDS``. It
writes the answers at each batch size, and the clock's numbers as JSON on standard output.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Program = Callable[[np.ndarray], np.ndarray]
WARMUP = 20  # calls before the clock is read
SUFFIXES = {".onnx": "onnx", ".tflite": "litert", ".stablehlo": "stablehlo"}  # and their routes


def load(path: Path) -> Program:
    """The function x[n, ...] -> logits of a file, on one thread; a LiteRT file answers n = 1.

    Its hash must have been verified: what reads programs withstands no forged ones.
    """
    return {".onnx": _onnx, ".tflite": _litert, ".stablehlo": _stablehlo}[path.suffix](path)


def _onnx(path: Path) -> Program:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, {"x": x})[0]


def _litert(path: Path) -> Program:
    from ai_edge_litert.interpreter import Interpreter

    interpreter: Any = Interpreter(model_path=str(path), num_threads=1)
    interpreter.allocate_tensors()
    (x_index,) = (each["index"] for each in interpreter.get_input_details())
    (y_index,) = (each["index"] for each in interpreter.get_output_details())

    def call(x: np.ndarray) -> np.ndarray:
        interpreter.set_tensor(x_index, x)
        interpreter.invoke()
        return interpreter.get_tensor(y_index)

    return call


def _stablehlo(path: Path) -> Program:
    import jax

    program = jax.jit(jax.export.deserialize(bytearray(path.read_bytes())).call)
    return lambda x: np.asarray(program(x))


def answers(program: Program, x: np.ndarray, batch: int) -> np.ndarray:
    """The answers to all of x[n, ...], ``batch`` examples a call, the last call fewer."""
    return np.concatenate([program(x[i : i + batch]) for i in range(0, len(x), batch)])


def timing(program: Program, x: np.ndarray, rounds: int) -> dict[str, float]:
    """Of one call: the lowest and the median time, and the CPU's time, in seconds."""
    for _ in range(WARMUP):
        program(x)
    seconds = []
    busy = time.process_time()
    for _ in range(rounds):
        start = time.perf_counter()
        program(x)
        seconds.append(time.perf_counter() - start)
    busy = (time.process_time() - busy) / rounds
    return {"lowest": min(seconds), "median": float(np.median(seconds)), "cpu": busy}


def main(arguments: list[str]) -> None:
    path, inputs, out = map(Path, arguments[:3])
    batches, rounds = json.loads(arguments[3]), int(arguments[4])
    start = time.perf_counter()
    x = np.load(inputs)
    program = load(path)
    program(x[:1])
    said: dict[str, Any] = {"first_answer": time.perf_counter() - start, "seconds": {}}
    np.savez(out, **{str(batch): answers(program, x, batch) for batch in batches})
    for batch in batches if rounds else ():
        if batch <= len(x):
            said["seconds"][batch] = timing(program, x[:batch], rounds)
    print(json.dumps(said))


if __name__ == "__main__":
    main(sys.argv[1:])

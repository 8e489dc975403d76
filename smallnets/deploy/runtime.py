"""A program of an artefact, loaded by its runtime, called and timed: numpy and that runtime alone.

:func:`main` runs in a route's environment: ``PROGRAM INPUTS.npy ANSWERS.npz BATCHES ROUNDS``. It
writes the answers at each batch size, and the clock's numbers as JSON on standard output. With
``--step`` it walks a decoder's cached step over tokens instead.
"""

# What is imported below is in the environment of a route, not in ours.
# pyright: reportMissingImports=false

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Program = Callable[[np.ndarray], np.ndarray]
WARMUP = 20  # calls before the clock is read
SUFFIXES = {  # and their routes
    ".onnx": "onnx",
    ".tflite": "litert",
    ".stablehlo": "stablehlo",
    ".safetensors": "jax",
}


def load(path: Path) -> Program:
    """The function x[n, ...] -> logits of a file, on one thread; a LiteRT file answers n = 1.

    Its hash must have been verified: what reads programs withstands no forged ones.
    """
    kinds = {".onnx": _onnx, ".tflite": _litert, ".stablehlo": _stablehlo, ".safetensors": _jax}
    return kinds[path.suffix](path)


def _onnx(path: Path) -> Program:
    session = _session(path)
    return lambda x: session.run(None, {"x": x})[0]


def _session(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


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


def _jax(path: Path) -> Program:
    """The model itself, compiled as users would, to compare with: its classes are ours alone."""
    import jax

    from smallnets import models

    model = models.load(path)
    program = jax.jit(lambda model, x: model(x))
    return lambda x: np.asarray(program(model, x))


STEP_INPUTS, STEP_OUTPUTS = ("tokens", "at", "keys", "values"), ("logits", "new_keys", "new_values")


def load_step(path: Path) -> Callable[..., Any]:
    """The cached step of a file: (tokens[1, 1], at, keys, values) -> logits, keys, values."""
    if path.suffix == ".onnx":
        session = _session(path)
        return lambda *x: session.run(STEP_OUTPUTS, dict(zip(STEP_INPUTS, x, strict=True)))
    if path.suffix == ".tflite":
        from ai_edge_litert.interpreter import Interpreter

        step = Interpreter(model_path=str(path), num_threads=1).get_signature_runner()

        def call(*x: np.ndarray) -> list[np.ndarray]:
            found = step(**dict(zip(STEP_INPUTS, x, strict=True)))
            return [found[name] for name in STEP_OUTPUTS]

        return call
    import jax

    program = jax.jit(jax.export.deserialize(bytearray(path.read_bytes())).call)
    return lambda *x: [np.asarray(each) for each in program(*x)]


def walked(
    step: Callable[..., Any], tokens: np.ndarray, shape: list[int], prompt: int, greedy: bool
) -> tuple[np.ndarray, np.ndarray, list[float]]:
    """The logits at each position of tokens[1, W], the tokens, and each call's seconds.

    Where ``greedy``, tokens behind the first ``prompt`` are the likeliest ones.
    """
    keys = values = np.zeros(shape, np.float32)
    tokens, seconds, rows = tokens.copy(), [], []
    for at in range(tokens.shape[1]):
        start = time.perf_counter()
        logits, keys, values = step(tokens[:, at : at + 1], np.asarray(at, np.int32), keys, values)
        seconds.append(time.perf_counter() - start)
        rows.append(logits[0])
        if greedy and prompt <= at + 1 < tokens.shape[1]:
            tokens[0, at + 1] = logits[0].argmax()
    return np.stack(rows), tokens[0, prompt:], seconds


def _main_of_step(path: Path, inputs: Path, out: Path, said: str, rounds: int) -> None:
    shape, prompt = json.loads(said)
    tokens = np.load(inputs)
    start = time.perf_counter()
    step = load_step(path)
    walked(step, tokens[:, :1], shape, prompt, False)
    first = time.perf_counter() - start
    logits, _, seconds = walked(step, tokens, shape, prompt, False)
    _, written, more = walked(step, tokens, shape, prompt, True)
    np.savez(out, logits=logits, tokens=written)
    times = {"lowest": min(seconds + more), "median": float(np.median(seconds + more))}
    print(json.dumps({"first_answer": first, "seconds": {"1": times} if rounds else {}}))


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
    if arguments[5:] == ["--step"]:
        _main_of_step(path, inputs, out, arguments[3], int(arguments[4]))
        return
    batches, rounds = json.loads(arguments[3]), int(arguments[4])
    start = time.perf_counter()
    x = np.load(inputs)
    program = load(path)
    program(x[:1])
    said: dict[str, Any] = {"first_answer": time.perf_counter() - start, "seconds": {}}
    found: dict[str, Any] = {str(batch): answers(program, x, batch) for batch in batches}
    np.savez(out, **found)
    for batch in batches if rounds else ():
        if batch <= len(x):
            said["seconds"][batch] = timing(program, x[:batch], rounds)
    print(json.dumps(said))


if __name__ == "__main__":
    main(sys.argv[1:])

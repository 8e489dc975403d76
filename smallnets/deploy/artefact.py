"""An artefact: a folder with a run's model, its programs, a card, and what a check needs."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from smallnets import models, rows
from smallnets.allowed import check_allowed
from smallnets.deploy import behind, card, environment, litert, onnx, proof, stablehlo, step, web
from smallnets.deploy.form import form
from smallnets.files import check_new, new_folder
from smallnets.measure import machine
from smallnets.measure.energy import BUSY_CORE
from smallnets.models import Model
from smallnets.rows import Row
from smallnets.sweep.build import build, load
from smallnets.tasks.data import Data, Split

ROUTES = ("stablehlo", "onnx", "litert")
PAGE = "web"  # besides: the ONNX file in a browser
SAMPLES = 8  # real inputs that are kept with their logits
LEAST_INTEGER = 0.9  # share of the products with weights that int8 or int4 means
SENT_ON = 0.2  # share of answers that a hybrid sends on, by the threshold of the card
NOT_STATED = "not stated"


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is to be exported: routes, roundings, and how little of a rounding will do.

    ``partial`` allows an int8 or int4 file of fewer integer products than nine in ten.
    """

    to: Sequence[str] = ROUTES
    int8: bool = False
    int4: bool = False
    partial: bool = False
    rounds: int = 200
    examples: int = proof.EXAMPLES
    weights_licence: str = NOT_STATED
    data_licence: str = ""

    def __post_init__(self):
        for route in self.to:
            if route not in (*ROUTES, PAGE):
                names = ", ".join((*ROUTES, PAGE))
                raise ValueError(f"routes are {names}, but --to names {route!r}: choose of them")
        if PAGE in self.to and "onnx" not in self.to:
            raise ValueError("web runs the ONNX file in a page, but --to names no onnx: add it")
        if not self.to:
            raise ValueError(f"--to names no route: give one or more of {','.join(ROUTES)}")
        if self.int8 and not {"onnx", "litert"} & {*self.to}:
            raise ValueError("int8 is for onnx and litert, but --to names neither: add one")
        if self.int4 and "litert" not in self.to:
            raise ValueError("int4 is for litert, but --to does not name it: add it")


def export(
    run: str | Path, out: str | Path, wanted: Wanted, *, allow: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Write the artefact of a run's kept model into a new folder; return its card.

    Every program is read back and compared with the model before the folder is there. Raises
    ValueError, one line, where there is no model, the folder is there, a route's environment is
    not, a program does not answer as the model does, or a rounding leaves most products be.
    """
    run, out = Path(run), Path(out)
    check_new(out)
    model, row, data = described(run, allow)
    for route in wanted.to:
        web.runtime() if route == PAGE else environment.interpreter(route)
    found = proof.examples(model, data, wanted.examples)
    with new_folder(out) as draft:
        shutil.copyfile(_file(run), draft / models.NAME)
        shutil.copyfile(Path(__file__).with_name("run.py"), draft / "run.py")
        np.save(draft / "sample_inputs.npy", found.inputs[:SAMPLES])
        np.save(draft / "sample_logits.npy", found.logits[:SAMPLES])
        said = _about(model, row, data, found, wanted)
        for name, make in programs(model, draft, said["input"], wanted, allow).items():
            entry = make() or {}
            if name.startswith("step."):
                inputs, rounds = found.inputs, wanted.rounds
                entry |= step.measured(draft / name, model, inputs, rounds=rounds)
            else:
                entry["batch"] = 1 if name.endswith(".tflite") else "any"
                entry |= proof.measured(draft / name, model, found, rounds=wanted.rounds)
            if "products" not in entry:
                proof.require_parity(name, entry, model)
            said["files"][name] = entry
        if not allow:
            own = proof.measured(draft / models.NAME, model, found, rounds=wanted.rounds)
            said["files"][models.NAME] = own
        if PAGE in wanted.to:
            web.write(draft)
        card.write(said, draft)
    return said


def described(run: Path, allow: tuple[str, ...]) -> tuple[Model, Row, Data]:
    """A run's kept model, its row, and the data of its task."""
    model = models.load(run, allow=allow)
    row = rows.read(run)
    return model, row, task(row.config, run, allow)


def task(config: dict[str, Any], where: Path, allow: tuple[str, ...]) -> Data:
    """The data of a recorded config; raises ValueError where it names what is not allowed."""
    check_allowed(config, where, allow)
    return load(build(config), "", {})


def programs(
    model: Model, folder: Path, signature: dict[str, Any], wanted: Wanted, allow: tuple[str, ...]
) -> dict[str, Callable[[], dict[str, Any] | None]]:
    """What writes each file into a folder, by its name, in the order in which it must be done.

    Of a decoder of text there is its cached step too, ``step`` beside ``model``.
    """
    written = form(model)
    found: dict[str, Callable[[], dict[str, Any] | None]] = {}
    until = (date.today() + timedelta(days=30 * stablehlo.MONTHS)).isoformat()

    def rounded(name: str, quantize: Callable[[Path, Path], dict[str, int]], source: str) -> None:
        def make() -> dict[str, Any]:
            counted = quantize(folder / source, folder / name)
            require_integer(name, counted, wanted.partial)
            return {"products": counted}

        found[name] = make

    def add(stem: str) -> None:
        whole = stem == "model"

        def make_stablehlo() -> dict[str, Any]:
            path = folder / f"{stem}.stablehlo"
            if whole:
                stablehlo.write(written, signature, path)
            else:
                step.write(model, path)
            return {"platforms": list(stablehlo.PLATFORMS), "read_until": until}

        def make_onnx() -> None:
            paths = {"model": folder / models.NAME, "out": folder / f"{stem}.onnx"}
            job: dict[str, Any] = {name: str(path.absolute()) for name, path in paths.items()}
            onnx.convert([{**job, "input": signature if whole else None}], allow)

        def make_litert() -> None:
            program = stablehlo.exported(written, signature, 1) if whole else step.exported(model)
            names = {} if whole else {"inputs": step.STEP_INPUTS, "outputs": step.STEP_OUTPUTS}
            litert.convert(program.mlir_module(), folder / f"{stem}.tflite", **names)

        if "stablehlo" in wanted.to:
            found[f"{stem}.stablehlo"] = make_stablehlo
        if "onnx" in wanted.to:
            found[f"{stem}.onnx"] = make_onnx
            if wanted.int8:
                rounded(f"{stem}.int8.onnx", onnx.quantize, f"{stem}.onnx")
        if "litert" in wanted.to:
            found[f"{stem}.tflite"] = make_litert
            for bits in [8] * wanted.int8 + [4] * wanted.int4:
                quantize = partial(litert.quantize, bits=bits)
                rounded(f"{stem}.int{bits}.tflite", quantize, f"{stem}.tflite")

    add("model")
    if model.inputs.window and getattr(model.network, "causal", False):
        add("step")
    return found


def require_integer(name: str, products: dict[str, int], partial: bool) -> None:
    """Raise ValueError where fewer than nine in ten products with weights take integers."""
    integer, weighted = products["integer"], products["of_weights"]
    if not partial and (not weighted or integer < LEAST_INTEGER * weighted):
        raise ValueError(
            f"{name}: {integer} of {weighted} products with weights take integers, fewer than 90 "
            "%: leave the rounding out, or take it as it is with --partial"
        )


def _about(
    model: Model, row: Row, data: Data, found: proof.Examples, wanted: Wanted
) -> dict[str, Any]:
    """What a card says besides its files."""
    preparation = model.inputs
    return {
        "task": row.task,
        "family": row.family,
        "kind": model.kind,
        "classes": list(model.classes),
        "input": {
            "shape": list(found.inputs.shape[1:]),
            "dtype": str(found.inputs.dtype),
            "tokenizer": preparation.tokenizer,
            "window": preparation.window,
        },
        "output": {"shape": list(found.logits.shape[1:]), "dtype": "float32"},
        "licences": {
            "code": "Apache-2.0",
            "weights": wanted.weights_licence,
            "data": wanted.data_licence or data.licence or NOT_STATED,
        },
        "run": {
            "key": row.key,
            "seed": row.seed,
            "commit": row.commit,
            "versions": row.versions,
            "saved": row.saved,
            "parameters": row.parameters,
            "costs": row.costs,
            "metrics": {k: v for k, v in row.metrics.items() if v == v},
            "config": row.config,
        },
        "examples": {"split": "test", "count": len(found.inputs)},
        "threshold": _threshold(model, data),
        "scores_of_the_model": found.scores(model, found.logits),
        "device": machine.device_name(jax.devices("cpu")[0]),
        "watts_of_a_core": BUSY_CORE.middle_watts,
        "exported": {"on": date.today().isoformat(), "versions": machine.versions()},
        "files": {},
    }


def _threshold(model: Model, data: Data) -> float | None:
    """The confidence that one answer in five of the validation split falls short of."""
    split = data.validation
    if model.kind != "classes" or split.labels.ndim > 1 or not len(split):
        return None
    few = replace(data, test=Split(split.inputs[: proof.EXAMPLES], split.labels[: proof.EXAMPLES]))
    return behind.threshold(proof.examples(model, few).logits, SENT_ON)


def _file(run: Path) -> Path:
    return run / models.NAME if run.is_dir() else run

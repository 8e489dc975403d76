"""What an artefact's programs are measured to be, in a process of their runtime alone."""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from smallnets.deploy import environment
from smallnets.deploy.runtime import SUFFIXES
from smallnets.measure.energy import BUSY_CORE
from smallnets.models import Model
from smallnets.tasks.data import Data
from smallnets.tasks.metrics import scores

BATCHES = (1, 7, 64)
TOLERANCE = 5e-5  # of a float program's logits, against the model's own
EXAMPLES = 1000  # of the test split, that answers are compared and scored on


@dataclass(frozen=True, eq=False)
class Examples:
    """Raw inputs x[n, ...], their prepared labels, and the model's own answers to each alone."""

    inputs: np.ndarray
    labels: np.ndarray
    logits: np.ndarray
    data: Data | None

    def scores(self, model: Model, logits: np.ndarray) -> dict[str, float]:
        """The loss and the other scores of answers in the model's units, as a row has them."""
        found, answers, labels = {}, jnp.asarray(logits), jnp.asarray(self.labels)
        if model.targets is not None:  # scores turn both into units themselves
            mean, scale = (
                np.asarray(each[...]) for each in (model.targets.mean, model.targets.scale)
            )
            answers = jnp.asarray((logits - mean) / scale)
        if logits.ndim == 3 and self.labels.ndim == 2:  # of text, the labels that are given
            given = self.labels >= 0
            answers, labels = jnp.asarray(logits[given]), jnp.asarray(self.labels[given])
        metrics = () if self.data is None else self.data.metrics
        for metric in scores(model.kind, metrics, model.targets):
            found[metric.name] = float(metric(answers, labels))
        if self.data is not None and self.data.test.bytes:
            found["bits_per_byte"] = self.data.test.bits_per_byte(found["loss"])
        return found


def examples(model: Model, data: Data, count: int = EXAMPLES) -> Examples:
    """The first ``count`` examples of the test split, raw, answered one at a time.

    Inputs that the task holds prepared are turned back, to rounding.
    """
    split = data.test
    inputs = split.inputs[:count]
    preparation = data.preparation
    if not data.raw and preparation.mean is not None and preparation.scale is not None:
        mean, scale = (np.asarray(each[...]) for each in (preparation.mean, preparation.scale))
        inputs = inputs * scale + mean
    inputs = np.ascontiguousarray(inputs)
    return Examples(inputs, split.labels[:count], alone(model, inputs), data)


def alone(model: Model, inputs: np.ndarray) -> np.ndarray:
    """The model's answers to inputs[n, ...], each in a call of its own."""
    one_by_one = jax.jit(lambda model, x: jax.lax.map(lambda each: model(each[None])[0], x))
    return np.asarray(one_by_one(model, inputs))


def measured(program: Path, model: Model, found: Examples, *, rounds: int) -> dict[str, Any]:
    """A program's parity, scores, latency and energy, as they stand on a card.

    ``parity`` is the largest difference of a logit from the model's own answer to the example
    alone, ``agreement`` the share of answers whose largest logit is the same one, both for each
    batch size. So a program that answers otherwise in company differs here. Energy is a model: the
    CPU-seconds of a call times a core's power, :data:`smallnets.measure.energy.BUSY_CORE`.
    """
    route = SUFFIXES[program.suffix]
    batches = [1] if route == "litert" else list(BATCHES)
    with tempfile.TemporaryDirectory() as folder:
        inputs, out = Path(folder) / "inputs.npy", Path(folder) / "answers.npz"
        np.save(inputs, found.inputs)
        said = environment.run(
            route, "runtime", [program.absolute(), inputs, out, json.dumps(batches), rounds]
        )
        with np.load(out, allow_pickle=False) as arrays:
            answers = dict(arrays)
    clock = json.loads(said.splitlines()[-1])
    entry: dict[str, Any] = {"parity": {}, "agreement": {}, "scores": {}}
    for batch, logits in answers.items():
        same = logits.argmax(axis=-1) == found.logits.argmax(axis=-1)
        entry["parity"][batch] = float(np.abs(logits - found.logits).max())
        entry["agreement"][batch] = float(same.mean())
        if found.data is not None:
            entry["scores"][batch] = found.scores(model, logits)
    if rounds:
        entry["seconds"] = {"first_answer": clock["first_answer"], "threads": 1}
        entry["seconds"] |= {
            b: {k: t[k] for k in ("lowest", "median")} for b, t in clock["seconds"].items()
        }
        entry["joules"] = {
            b: t["cpu"] * BUSY_CORE.middle_watts for b, t in clock["seconds"].items()
        }
        entry["joules_source"] = "model: CPU-seconds x 1.9 W (0.45 to 4 W); ratios hold better"
    return entry


def tolerance(model: Model) -> float:
    """What a float program's answers may differ by, in the units of the answers."""
    scale = 1.0 if model.targets is None else float(np.abs(model.targets.scale[...]).max())
    return TOLERANCE * max(1.0, scale)


def require_parity(name: str, entry: dict[str, Any], model: Model) -> None:
    """Raise ValueError where a float program's answers are not the model's."""
    for batch, difference in entry["parity"].items():
        if not difference <= tolerance(model):
            raise ValueError(
                f"{name} must answer as the model does, to {tolerance(model):g}, but at batch "
                f"{batch} a logit differs by {difference:.2g}: its converter is wrong for this "
                "network; leave the route out, and please report it"
            )

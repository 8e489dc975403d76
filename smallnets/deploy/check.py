"""Whether a folder is the artefact that its card describes: hashes, then parity, then score."""

import math
from pathlib import Path

import numpy as np

from smallnets import models
from smallnets.deploy import artefact, card, proof, step
from smallnets.deploy.runtime import SUFFIXES

SCORE = {False: 1e-3, True: 1e-2}  # what a score may move by on another processor: float, rounded


def check(folder: str | Path, *, allow: tuple[str, ...] = ()) -> list[str]:
    """A line for each thing that was verified; raises ValueError at the first that is not so.

    Every file's hash comes first, and nothing is read before it. Then the kept model's logits of
    the real inputs, and each program's answers at each batch size against the model's, and its
    scores against the card's. Where the task's data can't be had, the real inputs in the folder
    stand for them, and the scores are said not to be checked.
    """
    folder = Path(folder)
    said = card.read(folder)
    lines = [f"{len(said['files']) + 1} files: every SHA-256 is that of the card"]
    model = models.load(folder, allow=allow)
    inputs = np.load(folder / "sample_inputs.npy", allow_pickle=False)
    logits = np.load(folder / "sample_logits.npy", allow_pickle=False)
    difference = float(np.abs(proof.alone(model, inputs) - logits).max())
    if not difference <= proof.tolerance(model):
        raise ValueError(
            f"{folder / models.NAME} must give the logits that are kept, but differs by "
            f"{difference:.2g}: this version of JAX or smallnets answers otherwise"
        )
    lines.append(f"{models.NAME}: the kept logits, to {difference:.1g}")
    try:
        data = artefact.task(said["run"]["config"], folder, allow)
        found = proof.examples(model, data, said["examples"]["count"])
        scored = True
    except ValueError as error:
        lines.append(f"scores are not checked, since the task's data are not here: {error}")
        found, scored = None, False
    for name, entry in said["files"].items():
        if Path(name).suffix not in SUFFIXES or name == models.NAME:
            continue
        if found is None:
            found = proof.Examples(inputs, np.zeros(len(inputs), np.int32), logits, None)
        if name.startswith("step."):
            lines.append(_step(folder / name, entry, model, inputs))
            continue
        now = proof.measured(folder / name, model, found, rounds=0)
        lines.append(_compared(folder / name, entry, now, model, scored))
    return lines


def _step(path: Path, entry: dict, model: models.Model, inputs: np.ndarray) -> str:
    now = step.measured(path, model, inputs, rounds=0)
    if "products" not in entry:
        proof.require_parity(str(path), now, model)
    if now["same_tokens"] != entry["same_tokens"]:
        raise ValueError(
            f"{path}: {now['same_tokens']:.0%} of its tokens are those of our own decoding, on the "
            f"card {entry['same_tokens']:.0%}: its runtime here answers otherwise"
        )
    share = f"{now['same_tokens']:.0%} of its tokens are the model's own"
    return f"{path.name}: within {now['parity']['1']:.1g} of the model; {share}"


def _compared(path: Path, entry: dict, now: dict, model: models.Model, scored: bool) -> str:
    rounded = "products" in entry
    if not rounded:
        proof.require_parity(str(path), now, model)
    worst = max(now["parity"].values())
    if rounded and worst > 2 * max(entry["parity"].values()) + proof.tolerance(model):
        raise ValueError(
            f"{path}: a logit differs from the model's by {worst:.2g}, on the card by "
            f"{max(entry['parity'].values()):.2g}: its runtime here answers otherwise"
        )
    batches = ", ".join(now["parity"])
    line = f"{path.name}: at batch {batches} within {worst:.1g} of the model"
    if not scored:
        return line
    for batch, recorded in entry["scores"].items():
        for metric, before in recorded.items():
            value = now["scores"][batch][metric]
            if not math.isclose(value, before, rel_tol=SCORE[rounded], abs_tol=SCORE[rounded]):
                raise ValueError(
                    f"{path}: {metric} at batch {batch} is {value:.4f}, on the card {before:.4f}: "
                    "its runtime or the task's data are others here"
                )
    first = now["scores"]["1"]
    return f"{line}; {', '.join(f'{name} {value:.4f}' for name, value in first.items())}"

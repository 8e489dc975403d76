"""The size of a pass that makes a chain's last file as large as is asked, found by shapes alone."""

import json
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
from omegaconf import OmegaConf, open_dict, read_write

from smallnets import models
from smallnets.compress.stage import applied
from smallnets.measure.budget import BUDGETS, format_number
from smallnets.sweep.build import build, load, one_line
from smallnets.sweep.chains import label_of
from smallnets.sweep.jobs import Job, Template
from smallnets.sweep.keys import LENGTH
from smallnets.sweep.labels import Labels
from smallnets.tasks.data import Data

KNOBS = ("ratio", "keep")  # of a pass: shares of what it leaves
STEPS = 10_000  # a share is found to a ten-thousandth


def with_file_budget(
    job: Job, loaded: dict[str, Data], known: dict[str, float], labels: Labels
) -> Job:
    """The job with the share that meets ``budget.file_bytes``, in place of the budget.

    The share is that of the first pass of the chain that has one; the largest is taken whose file
    is within the budget. ``known`` holds those found before, for chains and parents of one shape.
    Raises ValueError where no share meets the budget within its tolerance (any below it will do
    with ``budget.at_most``), for other budgets, and where no pass has a share, or it is set too.
    """
    chain = job.resolved.get("compress")
    budget = job.resolved.get("budget") or {}
    targets = {name for name in BUDGETS if budget.get(name) is not None}
    if not chain or job.parent is None or not targets:
        return job
    if targets != {"file_bytes"}:
        raise ValueError(
            f"a chain is sized by its last file, but {', '.join(sorted(targets))} is set: give "
            "budget.file_bytes alone"
        )
    knobs = [(name, key) for name, node in chain.items() for key in KNOBS if key in node]
    if not knobs:
        raise ValueError(
            f"budget.file_bytes needs a pass with a share, but {', '.join(chain)} have none: add "
            "factorise or units"
        )
    stage, key = knobs[0]
    path = f"compress.{stage}.{key}"
    for word in job.words:
        if word.lstrip("+").startswith(f"{path}="):
            raise ValueError(f"a budget chooses {path}, but it is set too: leave out {word}")
    same = json.dumps(
        [job.parent.shape, job.parent.family, chain, budget, job.resolved["task"]], sort_keys=True
    )
    if same not in known:
        with one_line():
            sizes = _sizes(job, stage, key, loaded, labels)
            known[same] = _largest(sizes, path, budget)
    return _with_share(job, stage, key, known[same])


def _sizes(
    job: Job, stage: str, key: str, loaded: dict[str, Data], labels: Labels
) -> Callable[[float], int]:
    """The bytes of the chain's last file, for a share of one of its passes."""
    assert job.parent is not None
    tree = build(job.resolved)
    data = load(tree, json.dumps(job.resolved["task"], sort_keys=True), loaded)
    parent, nodes = job.parent, tree.keywords["compress"]
    done = [label_of(name, node) for name, node in job.resolved["compress"].items()]
    family = " > ".join([parent.family, *done])
    notes = models.notes_of("0" * LENGTH, "last", family, labels.task(job, tree))

    def at(share: float) -> int:
        network: Any = parent.network
        for name, node in nodes.items():
            if isinstance(node, partial):
                chosen = partial(node, **{key: share}) if name == stage else node
                trainer = partial(tree, compress={name: chosen}, steps=0)()
                network = applied(trainer, data, network)
            elif isinstance(node, Mapping) and node.get("view") is not None:
                view = partial(node["view"], training=False, key=None)
                network = jax.eval_shape(view, network)
        return models.file_bytes(models.kept(network, data), notes)

    return at


def _largest(at: Callable[[float], int], path: str, budget: Mapping[str, Any]) -> float:
    """The largest share whose file is within the budget."""
    target = budget["file_bytes"]
    if isinstance(target, bool) or not isinstance(target, int | float) or not target > 0:
        raise ValueError(
            f"a budget must be a number above 0, but budget.file_bytes is {target!r}: give for "
            "example budget.file_bytes=16_000"
        )
    seen: dict[int, float] = {}

    def size(step: int) -> float:
        if step not in seen:
            try:
                seen[step] = at(step / STEPS)
            except ValueError:  # near 1 a pass of whole units leaves all of them, and says so
                if step == 1:
                    raise
                seen[step] = math.inf
        return seen[step]

    low, high = 1, STEPS - 1
    if size(low) > target:
        raise ValueError(
            f"budget.file_bytes={format_number(target)} lies below the smallest file, "
            f"{size(low):,} bytes at {path}={low / STEPS}: raise it, or add a pass"
        )
    if size(high) <= target:
        low = high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if size(middle) <= target else (low, middle)
    near = abs(size(low) - target) <= budget["tolerance"] * target
    if not near and not budget["at_most"]:
        steps = [low, high][: 1 + math.isfinite(size(high))]
        files = " and ".join(f"{size(each):,} (at {path}={each / STEPS})" for each in steps)
        raise ValueError(
            f"no share meets budget.file_bytes={format_number(target)} within "
            f"{budget['tolerance']:.2%}: the nearest files are {files}: set one of "
            "these, or add budget.at_most=true"
        )
    return low / STEPS


def _with_share(job: Job, stage: str, key: str, share: float) -> Job:
    chain = job.resolved["compress"]
    chain = {**chain, stage: {**chain[stage], key: share}}
    budget = {**job.resolved["budget"], "file_bytes": None}
    config = job.config
    with read_write(config), open_dict(config):
        OmegaConf.update(config, f"compress.{stage}.{key}", share)
        OmegaConf.update(config, "budget.file_bytes", None)
    words = [word for word in job.words if not word.startswith("budget.")]
    resolved = {**job.resolved, "compress": chain, "budget": budget}
    template = Template(config, resolved, job.traced, follows=False)
    return job._replace(words=(*words, f"compress.{stage}.{key}={share}"), template=template)

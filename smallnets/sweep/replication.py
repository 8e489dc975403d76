"""``smallnets reproduce PAPER --fraction 0.1``: a part of a paper's frozen runs, trained again.

The runs are drawn by a seed among those that finished. A run of another ``NUMERICS`` than this
version's is counted, and not trained.
"""

import copy
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.progress import track

from smallnets import NUMERICS, models, rows
from smallnets.files import replacing
from smallnets.paper import frozen
from smallnets.sweep.reproduce import TOLERANCE, reproduce, retrained
from smallnets.sweep.result import origin

REPORT = "reproduction.md"
KINDS = ("bit-equal", "within tolerance", "differs", "of another NUMERICS", "not trained")


def replicate(
    paper: Path,
    fraction: float,
    seed: int = 0,
    *,
    allow: Sequence[str] = (),
    tolerance: float = TOLERANCE,
) -> dict[str, list[tuple[str, str]]]:
    """The verdict on each run of a random ``fraction`` of a paper: its study and key, by verdict.

    At least one run is drawn. What a run starts or learns from is trained again before it. ``not
    trained`` are those whose row can't be trained again here, such as of data that this machine
    lacks. Raises ValueError for a fraction outside (0, 1], and where the frozen rows were changed.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"a fraction of the runs is above 0 and at most 1, got {fraction:g}")
    index = frozen.index(paper)
    runs, said = [], {kind: [] for kind in KINDS}
    for name in index:
        with frozen.thawed(paper, name) as folder:
            runs += [(name, row.key) for row in rows.load(folder) if row.status == "finished"]
    if not runs:
        raise ValueError(f"{paper} holds no frozen run that finished: freeze a study first")
    drawn = sorted(random.Random(seed).sample(sorted(runs), max(1, round(fraction * len(runs)))))
    for name in index:
        keys = [key for study, key in drawn if study == name]
        if index[name].numerics != str(NUMERICS):
            said["of another NUMERICS"] += [(name, key) for key in keys]
            continue
        with frozen.thawed(paper, name) as folder:
            for key in track(keys, name, transient=True):
                said[_verdict(folder / key, allow, tolerance)].append((name, key))
    return said


def _verdict(run: Path, allow: Sequence[str], tolerance: float) -> str:
    try:
        _with_ancestors(run, allow)
        return reproduce(run, allow=allow, tolerance=tolerance, rows_alone=True).verdict
    except ValueError as error:
        print(f"{run.parent.name}/{run.name} can't be trained here: {error}")
        return "not trained"


def _with_ancestors(run: Path, allow: Sequence[str]) -> None:
    """Train again what a thawed run starts and learns from, whose models no paper holds.

    The run's row then names their folders beside it, and not those of the machine that it is of.
    """
    row = rows.read(run)
    config = copy.deepcopy(row.config)
    for branch, word, of in (
        (config, "start", row.parent),
        (config.get("distil") or {}, "teacher", row.teacher),
    ):
        saved = of.rpartition("-")[2]
        if not of or saved == "function":
            continue
        # KEY-last, or of an ensemble KEY-last+KEY-last-ensemble
        places = [run.parent / each.partition("-")[0] for each in of.split("+")]
        for place in places:
            _keep_model(place, allow)
        named = list(map(str, places))
        branch[word] = named if saved == "ensemble" else named[0]
    if config != row.config:
        rows.write(replace(row, config=config), run)


def _keep_model(run: Path, allow: Sequence[str]) -> None:
    if not (run / rows.NAME).exists():
        raise ValueError(f"the run {run.name}, which it needs, is not among the frozen ones")
    if not (run / models.NAME).exists():
        _with_ancestors(run, allow)
        row = rows.read(run)
        _, model = retrained(row, run, allow=allow)
        notes = models.notes_of(row.key, row.saved, row.family, row.task)
        models.save(model, run / models.NAME, notes=notes)


def report(
    paper: Path, fraction: float, seed: int, *, allow: Sequence[str], tolerance: float
) -> bool:
    """Replicate, print the counts, and write the report's skeleton; whether no run differs.

    Raises ValueError, before anything is trained, where the report is there already.
    """
    path = Path(REPORT)
    if path.exists():
        raise ValueError(f"{path} is there already: move it away, it may hold what you wrote")
    found = replicate(paper, fraction, seed, allow=allow, tolerance=tolerance)
    counts = Counter({kind: len(runs) for kind, runs in found.items()})
    total = counts.total()
    print(f"{total} runs: " + ", ".join(f"{counts[kind]} {kind}" for kind in KINDS))
    here, index = origin(), frozen.index(paper)
    lines = [f"| {kind} | {counts[kind]} |" for kind in KINDS]
    differing = [f"- {kind}: {n}/{k}" for kind in KINDS[1:] for n, k in found[kind]]
    devices = sorted({device for study in index.values() for device in study.devices})
    text = SKELETON.format(
        paper=Path(paper).resolve().name,
        fraction=fraction,
        seed=seed,
        total=total,
        table="\n".join(lines),
        differing="\n".join(differing) or "All runs are bit-equal.",
        tolerance=f"{tolerance:g}",
        here=f"{here.device}, jax {here.versions['jax']}, commit {here.commit}",
        there="; ".join(devices),
        studies="\n".join(f"- {n}: `{c}`" for n, s in index.items() for c in s.commands),
    )
    with replacing(path) as draft:
        draft.write_text(text, encoding="utf-8")
    print(f"report: {path}")
    return not counts["differs"]


SKELETON = """# Reproducibility report: {paper}

## Scope

Which claims of the paper are tested here: (to be written)

## Method

A fraction of {fraction:g} of the frozen runs, drawn by seed {seed}, was trained again from its rows
by `smallnets reproduce`. Here: {here}. Recorded on: {there}. The studies:

{studies}

## Results

| of {total} runs | |
| --- | --- |
{table}

Within tolerance: every curve within {tolerance} of its largest value.

{differing}

## What was easy

(to be written)

## What was difficult

(to be written)

## What was said with the authors

(to be written)
"""

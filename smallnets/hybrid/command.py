"""The verb ``cascade``: of kept runs to a kept cascade, its curve as a picture, CSV and JSON."""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl

from smallnets import models, rows
from smallnets.allowed import check_allowed
from smallnets.analysis import panels
from smallnets.files import check_new, new_folder
from smallnets.hybrid.cascade import Hybrid, Point, cascade
from smallnets.measure.energy import BUSY_CORE, modelled
from smallnets.measure.machine import device_name
from smallnets.models import Model
from smallnets.sweep.build import build, load
from smallnets.tasks.data import Data

BATCH, ROUNDS = 1024, 15  # examples of a timed call, and calls of each
TIMED = 9  # points of the curve that are timed
LINES = ("cascade", "random deferral", "oracle")


class Timing(NamedTuple):
    """What one example takes in a call of many: medians of calls taken in turns."""

    milliseconds: float
    joules: float | None


def main(arguments: list[str]) -> None:
    """The verb: prints what the cascade gives and where it is kept."""
    parser = argparse.ArgumentParser(
        "smallnets cascade",
        description="A small model answers where it is sure, and passes on the rest to a larger "
        "one. Confidence and temperatures are chosen on validation examples, at most at a share "
        "of the large one's FLOPs.",
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folders of runs, the small first")
    parser.add_argument(
        "--at-most", type=float, default=0.5, help="share of the last one's mean FLOPs (.5)"
    )
    parser.add_argument("--out", type=Path, help="a new folder (cascades/KEY-KEY)")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap's draws (0)")
    parser.add_argument("--allow", action="append", default=[], help="a package of their configs")
    said = parser.parse_args(arguments)
    folders = [Path(run) for run in said.runs]
    members = [models.load(folder, allow=tuple(said.allow)) for folder in folders]
    kept = [rows.read(folder) for folder in folders]
    out = said.out or Path("cascades") / "-".join(row.key for row in kept)
    check_new(out)
    data = data_of(kept, folders, said.allow)
    hybrid = cascade(members, data, at_most=said.at_most, seed=said.seed)
    points = [*hybrid.curve[:: max(1, len(hybrid.curve) // TIMED)], hybrid.chosen]
    timings, alone = measured(hybrid.model, members, data, points)
    timed = {point.confidence: timing for point, timing in zip(points, timings, strict=True)}
    write(out, hybrid, [str(folder) for folder in folders], timed, alone)
    for line in sentences(hybrid, timed[hybrid.chosen.confidence], alone):
        print(line)
    print(f"kept: {out}")


def data_of(kept: Sequence[rows.Row], folders: Sequence[Path], allow: Sequence[str]) -> Data:
    """The data that all the runs were trained on; raises ValueError where they differ."""
    calls = [json.dumps(row.config.get("task"), sort_keys=True) for row in kept]
    for row, folder, call in zip(kept, folders, calls, strict=True):
        if row.task != kept[0].task or call != calls[0]:
            raise ValueError(
                f"runs are compared on one task, but {folder} is of {row.task}, "
                f"{folders[0]} of {kept[0].task}, or of other options of it: name runs of one task"
            )
        check_allowed(row.config, folder, allow)
    return load(build(kept[0].config), "", {})


def measured(
    model: Model, members: Sequence[Model], data: Data, points: Sequence[Point]
) -> tuple[list[Timing], list[Timing]]:
    """What an example takes at each point and of each member alone, in calls of many examples.

    All are called in turns in one run. Joules are modelled: CPU-seconds times a busy core's power.
    """
    x = model.inputs(data.test.inputs[:BATCH])
    if data.test.inputs.dtype != np.uint8:
        x = jnp.asarray(data.test.inputs[:BATCH])
    answers = _compiled(model.network, lambda network, x, c: network.answers(x, c)[0])
    calls = [partial(answers, x, jnp.float32(point.confidence)) for point in points]
    calls += [
        partial(_compiled(each.network, lambda network, x: network(x)), x) for each in members
    ]
    taken = []
    for _ in range(ROUNDS + 1):
        taken.append([])
        for call in calls:
            wall, cpu = time.perf_counter(), time.process_time()
            jax.block_until_ready(call())
            taken[-1].append((time.perf_counter() - wall, time.process_time() - cpu))
    wall, cpu = np.median(taken[1:], axis=0).T / len(x)
    on_cpu = jax.default_backend() == "cpu"
    found = [
        Timing(1e3 * w, modelled(cpu_seconds=c).joules if on_cpu else None)
        for w, c in zip(wall.tolist(), cpu.tolist(), strict=True)
    ]
    return found[: len(points)], found[len(points) :]


def _compiled(network: Any, call: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """``call`` of a network as a program; it is given arrays alone, since modules take time."""
    leaves, tree = jax.tree.flatten(network)
    return partial(jax.jit(lambda leaves, *x: call(tree.unflatten(leaves), *x)), leaves)


def write(
    out: Path,
    hybrid: Hybrid,
    runs: Sequence[str],
    timed: dict[float, Timing],
    alone: Sequence[Timing],
) -> None:
    """``model.safetensors``, ``cascade.json``, ``curve.csv`` and the picture, into a new folder."""
    record = {name: each for name, each in asdict(hybrid).items() if name != "model"}
    record |= {
        "runs": list(runs),
        "pays": hybrid.pays(),
        "measured": timed[hybrid.chosen.confidence]._asdict(),
        "members_measured": [each._asdict() for each in alone],
        "examples_of_a_call": BATCH,
        "device": device_name(jax.devices()[0]),
        "joules": f"model: CPU-seconds times {BUSY_CORE.middle_watts} W, {BUSY_CORE.source}",
    }
    with new_folder(out) as draft:
        _table(hybrid, timed).write_csv(draft / "curve.csv")
        (draft / "cascade.json").write_text(json.dumps(record, indent=1))
        draw(draft, hybrid)
        models.save(hybrid.model, draft / models.NAME, notes={"cascade": " ".join(runs)})


def _table(hybrid: Hybrid, timed: dict[float, Timing]) -> pl.DataFrame:
    lines = []
    for point in (*hybrid.curve, hybrid.chosen):
        timing = timed.get(point.confidence, Timing(float("nan"), None))
        lines.append(
            {
                "confidence": point.confidence,
                "chosen": point is hybrid.chosen,
                "passed_on": 1 - point.shares[0],
                "flops": point.flops,
                "error": point.error,
                "random": point.random,
                "oracle": point.oracle,
                **timing._asdict(),
            }
        )
    return pl.DataFrame(lines).with_columns(pl.col("milliseconds").fill_nan(None))


def draw(out: Path, hybrid: Hybrid) -> None:
    """``curve.pdf`` and ``curve.png``: test error over mean FLOPs, between chance and oracle."""
    families = list(LINES)
    columns = dict(zip(families, ("error", "random", "oracle"), strict=True))
    tables = {
        family: pl.DataFrame(
            {
                "family": family,
                "x": [point.flops for point in hybrid.curve],
                "y": [getattr(point, column) for point in hybrid.curve],
            }
        )
        for family, column in columns.items()
    }
    every = pl.concat(tables.values())
    chosen = pl.DataFrame(
        {"family": ["cascade"], "x": [hybrid.chosen.flops], "y": [hybrid.chosen.error]}
    )
    alone = pl.DataFrame({"x": hybrid.flops, "y": hybrid.errors})
    ends = pl.concat(
        [table[[0, -1]] for name, table in tables.items() if name != "cascade"] + [chosen]
    )
    view = panels.panel(
        [
            *panels.lines(tables, families, families),
            panels.markers(ends, families),
            panels.layer(alone, {"type": "point", "shape": "diamond", "size": 90, "color": "#444"}),
        ],
        panels.axis(
            "mean FLOPs of an example",
            panels.span([*every["x"], *alone["x"]], kind="linear"),
            kind="linear",
        ),
        panels.axis(
            "test error", panels.span([*every["y"], *alone["y"]], kind="linear"), kind="linear"
        ),
        legend=True,
    )
    caption = (
        "Lines: from nothing passed on to everything, by confidence, by chance, and as would help "
        "most. Diamonds: each member alone. Marker of the cascade: as chosen on validation "
        f"examples. Mean distance from chance {100 * hybrid.area.estimate:.2f} points "
        f"({100 * hybrid.area.low:.2f} to {100 * hybrid.area.high:.2f}; the oracle's "
        f"{100 * hybrid.oracle_area:.2f})."
    )
    panels.save(out, "curve", [view], columns=1, caption=caption, key=panels.key_width(families))


def sentences(hybrid: Hybrid, timing: Timing, alone: Sequence[Timing]) -> list[str]:
    """What to say of a cascade, a line each."""
    chosen, share, area = hybrid.chosen, hybrid.flops_share, hybrid.area
    errors = ", ".join(f"{100 * error:.1f} %" for error in hybrid.errors)
    differences = ", ".join(
        f"{100 * d.estimate:+.1f} ({100 * d.low:+.1f} to {100 * d.high:+.1f})"
        for d in hybrid.differences
    )
    verdict = "better than each member" if hybrid.pays() else "not established to be better"
    said = ", ".join(f"{one:.3f} to {other:.3f}" for one, other in hybrid.calibration)
    lines = [
        f"test error {100 * chosen.error:.1f} % at {share.estimate:.2f} of the last member's FLOPs "
        f"({share.low:.2f} to {share.high:.2f}); the members alone {errors}",
        f"{verdict} at under half of the FLOPs: differences in points {differences}, of a paired "
        "bootstrap over the test examples",
        f"passed on {100 * (1 - chosen.shares[0]):.0f} % below the confidence "
        f"{chosen.confidence:.3g}, chosen on validation examples (error "
        f"{100 * hybrid.validation_error:.1f} %)",
        f"curve: {100 * area.estimate:.2f} points below random deferral ({100 * area.low:.2f} to "
        f"{100 * area.high:.2f}), the oracle {100 * hybrid.oracle_area:.2f}",
        "temperatures "
        + ", ".join(f"{each:.2f}" for each in hybrid.temperatures)
        + f"; calibration error on the test split {said}",
        f"{1e3 * timing.milliseconds:,.3g} us an example in calls of {BATCH}; the members alone "
        + ", ".join(f"{1e3 * each.milliseconds:,.3g}" for each in alone),
    ]
    if timing.joules is not None:
        lines.append(
            f"{1e3 * timing.joules:.3g} mJ an example (model); the members alone "
            + ", ".join(f"{1e3 * (each.joules or 0):.3g}" for each in alone)
        )
    return lines

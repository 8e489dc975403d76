"""``smallnets reproduce RUN``: a recorded run, trained again from its row, and compared.

On the machine and versions that made it the numbers must be equal to the last bit; another
compiler or processor rounds otherwise, and how far that carries is said.
"""

import argparse
import functools
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from omegaconf import OmegaConf

from smallnets import models, rows
from smallnets.allowed import check_allowed
from smallnets.compress.stage import applied
from smallnets.measure import machine
from smallnets.measure.costs import counted_costs
from smallnets.measure.energy import absent
from smallnets.rows import Row
from smallnets.sweep.build import build, check, load
from smallnets.sweep.checkpoint import Checkpoints
from smallnets.sweep.compilations import Compilations, counting_compilations
from smallnets.sweep.jobs import Job, Template, group
from smallnets.sweep.keys import fingerprint, run_keys
from smallnets.sweep.parents import Parents, ancestors, begun
from smallnets.sweep.plan import Program
from smallnets.sweep.portion import Desk, train_program
from smallnets.sweep.result import Result, origin, runs_of
from smallnets.sweep.teachers import teaching
from smallnets.traced import assign, declared
from smallnets.training.mesh import Mesh
from smallnets.training.trainer import splits

TOLERANCE = 0.01


class Comparison(NamedTuple):
    """``verdict``: bit-equal, within tolerance, or differs.

    ``difference`` is the largest of any curve's, |a - b| over the curve's largest |a|, infinite
    where only one of them is a number.
    """

    verdict: str
    difference: float


def reproduce(
    folder: str | Path,
    *,
    allow: Sequence[str] = (),
    tolerance: float = TOLERANCE,
    rows_alone: bool = False,
) -> Comparison:
    """Train the run of a folder again, and compare curves and kept model with what is there.

    With ``rows_alone``, as of a paper's frozen runs, no model is there, and curves are compared.

    Raises ValueError where there is no sound row, where it failed, where its config calls a package
    that ``allow`` does not name, and where its data or the numerics of this version are others.
    """
    folder = Path(folder)
    row = rows.read(folder)
    again, model = retrained(row, folder, allow=allow)
    found = difference(row.curves, again.curves)
    equal = found == 0
    if equal and row.saved != "none" and not rows_alone:
        there = jax.tree.leaves(models.load(folder, allow=tuple(allow)))
        mine = jax.tree.leaves(model)
        equal = all(map(functools.partial(np.array_equal, equal_nan=True), there, mine))
    if equal:
        return Comparison("bit-equal", 0.0)
    return Comparison("within tolerance" if found <= tolerance else "differs", found)


def retrained(row: Row, folder: Path, *, allow: Sequence[str] = ()) -> tuple[Row, Any]:
    """The row and the model of a recorded run, trained again; raises ValueError as above."""
    if row.status == "failed":
        raise ValueError(f"{folder} holds a run that failed ({row.error}): there are no numbers")
    check_allowed(row.config, folder, allow)
    program = recorded(row, folder)
    with counting_compilations(Path(program.trainer.cache).expanduser(), Compilations()):
        return _trained(program, row)


def recorded(row: Row, folder: Path) -> Program:
    """The program of one run, from its row alone; raises ValueError where its key is another."""
    tree = build(row.config)
    data = load(tree, "", {})
    template = Template(OmegaConf.create(), row.config, dict(declared(tree)), follows=False)
    job = Parents().of(Job(0, (), template))
    (runs,) = group([job])
    start = None
    if job.parent is not None:
        start = jax.tree.map(lambda leaf: np.stack([leaf]), job.parent.network)
    trainer = tree()
    network = job.parent and job.parent.network
    if trainer.compress:
        network = applied(trainer, data, network)
    network = check(trainer, data, row.family, network, job.teacher and job.teacher.network)
    exact = tree
    for path, values in runs.values.items():
        exact = assign(exact, path, values[0].item())
    started = job.parent is not None
    (key,) = run_keys(exact, {}, fingerprint(data), [ancestors(job)], started=started)
    if key != row.key:
        raise ValueError(
            f"{folder}: what its row says is the run {key} today, not {row.key}: its data, its "
            "parent or the numerics of this version of smallnets are others"
        )
    costs = counted_costs(network, trainer.batch(data))
    found = Program(
        runs, tree, trainer, data, network, {}, costs, [row.family], row.task, [key], start
    )
    (found,) = teaching([begun(found)], machine.memory())
    return found


def _trained(program: Program, row: Row) -> tuple[Row, Any]:
    """The row and the model of a program's one run, beside as many of its like as it had."""
    outcomes: list[Result | Exception] = []
    members = row.members if row.execution == "vmap" else 1
    program = program.only([0] * members)
    program = replace(program, trainer=replace(program.trainer, mesh=Mesh))  # one device does
    with tempfile.TemporaryDirectory() as nowhere:
        desk = Desk(
            execution="vmap" if row.execution == "vmap" else "map",
            memory_limit=machine.memory() // 2,
            interval=float("inf"),
            publish=lambda portion, outcome: outcomes.append(outcome),
            heard=lambda runs, portion, cut: None,
            say=lambda line: print(line, file=sys.stderr),
            stopping=lambda: False,
            checkpoints=lambda portion: Checkpoints(Path(nowhere), {"keys": portion.keys}, print),
            measure=lambda work: (work(), absent("it was not measured")),
        )
        train_program(program, jax.device_put(splits(program.data)), desk)
    (outcome,) = outcomes
    if isinstance(outcome, Exception):
        raise ValueError(f"it fails now: {outcome}") from outcome
    _, again, model = next(runs_of(program, outcome, row.execution, origin()))
    return again, model


def difference(recorded: dict[str, list[float]], again: dict[str, list[float]]) -> float:
    """The largest difference of any curve; infinite where one has other curves."""
    if recorded.keys() != again.keys():
        return float("inf")
    worst = 0.0
    for name, curve in recorded.items():
        one, other = np.asarray(curve, float), np.asarray(again[name], float)
        if np.array_equal(one, other, equal_nan=True):
            continue
        if one.shape != other.shape or not np.isfinite([one, other]).all():
            return float("inf")
        worst = max(worst, float(np.abs(one - other).max() / max(np.abs(one).max(), 1e-30)))
    return worst


def main(arguments: list[str]) -> None:
    """The verb: prints the verdict; ends with status 1 where the numbers differ."""
    parser = argparse.ArgumentParser("smallnets reproduce", description=__doc__)
    parser.add_argument("run", help="the folder of a run, or of a paper")
    parser.add_argument("--allow", action="append", default=[], help="a package of its config")
    parser.add_argument(
        "--tolerance", type=float, default=TOLERANCE, help="of curves, relative to their largest"
    )
    parser.add_argument("--fraction", type=float, help="of a paper's frozen runs, drawn by --seed")
    parser.add_argument("--seed", type=int, default=0)
    said = parser.parse_args(arguments)
    if said.fraction is not None:
        from smallnets.sweep.replication import report  # which rests on this file

        same = report(
            Path(said.run), said.fraction, said.seed, allow=said.allow, tolerance=said.tolerance
        )
        if not same:
            sys.exit(1)
        return
    found = reproduce(said.run, allow=said.allow, tolerance=said.tolerance)
    row, here = rows.read(Path(said.run)), origin()
    if found.verdict == "bit-equal":
        kept = "" if row.saved == "none" else " and the model"
        print(f"bit-equal: {len(row.curves)} curves{kept} of {said.run}")
        return
    print(
        f"{found.verdict}: curves of {said.run} by up to {found.difference:.2g} of their largest; "
        f"recorded on {row.device} with jax {row.versions.get('jax')}, here {here.device} with "
        f"jax {here.versions['jax']}"
    )
    if found.verdict == "differs":
        sys.exit(1)

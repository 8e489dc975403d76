"""The runs that others start from or learn from: ``start=RUN``, or runs matched by seed."""

import glob
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from smallnets import models, rows
from smallnets.nn import Ensemble
from smallnets.rows import Row
from smallnets.sweep.jobs import Job
from smallnets.sweep.parent import Parent, shape_of
from smallnets.sweep.teachers import described, function_teacher, is_name

PARENT = "parent"  # as a teacher: the run that a job starts from
BROUGHT = ("model", "family", "budget")  # words that a network which is there already refuses


class Parents:
    """The parents of jobs; each run's folder is read once."""

    def __init__(self):
        self._listed: dict[str, list[tuple[Path, Row]]] = {}
        self._read: dict[Path, Parent] = {}

    def of(self, job: Job) -> Job:
        """The job with the run whose kept model it starts from, and its teacher, if it names them.

        Raises ValueError where no run or more than one is there for it, where that run kept no
        model, and where the job also says what the network is.
        """
        said = job.template.resolved
        teacher = (said.get("distil") or {}).get("teacher")
        if teacher is not None and teacher != PARENT:
            job = job._replace(teacher=self._teacher(teacher, job))
        if said["start"] is None:
            if teacher == PARENT:
                raise ValueError(
                    "distil.teacher=parent is the run that a job starts from, but it names none: "
                    "add start=RUN, the folder of a run"
                )
            return job
        start, chain = job.resolved["start"], said.get("compress")
        for word in job.words:
            name = word.lstrip("+~").partition("=")[0].replace("/", ".").partition(".")[0]
            if name in BROUGHT and not (name == "budget" and chain):
                raise ValueError(f"start={start} brings its network: leave out {word}")
        job = job._replace(parent=self._parent("start", start, job))
        return job._replace(teacher=job.parent) if teacher == PARENT else job

    def _parent(self, word: str, start: str, job: Job) -> Parent:
        found, seed = self._list(start), job.resolved["seed"]
        if not (Path(start) / rows.NAME).is_file():  # many runs: the one of this seed
            found = [(folder, row) for folder, row in found if row.seed == seed]
            if len(found) > 1:
                raise ValueError(
                    f"{word}={start} must match one run for each seed, but for seed={seed} there "
                    f"are {found[0][0]}, {found[1][0]}: name one, or a pattern that matches one"
                )
        if not found:
            raise ValueError(
                f"{word}={start} holds no run for seed={seed}: name the folder of a run, or of "
                "runs of the same seeds"
            )
        return self._kept(*found[0], job)

    def _teacher(self, teacher: Any, job: Job) -> Parent:
        """The run that teaches; of a list, all the runs that it names, as one ensemble; or a
        function.
        """
        if isinstance(teacher, str) and is_name(teacher):
            teacher = {"_target_": teacher}
        if isinstance(teacher, Mapping):
            name = Path(f"{teacher}")
            if name not in self._read:
                self._read[name] = function_teacher(teacher, job.resolved["allow"])
            return self._read[name]
        if isinstance(teacher, str):
            return self._parent("distil.teacher", teacher, job)
        name = Path(f"[{','.join(teacher)}]")
        if name not in self._read:
            runs = [self._kept(*run, job) for each in teacher for run in self._list(each)]
            if not runs:
                raise ValueError(f"distil.teacher={name} holds no run: name folders of runs")
            if len({described(each.inputs, each.classes) for each in runs}) > 1:
                raise ValueError(
                    f"distil.teacher={name} holds runs of several tasks: name runs that differ in "
                    "their seeds"
                )
            self._read[name] = runs[0]._replace(
                run="+".join(each.key for each in runs),
                saved="ensemble",
                network=jax.tree.map(np.asarray, Ensemble([each.network for each in runs])),
                shape=f"{len(runs)} of {runs[0].shape}",
            )
        return self._read[name]

    def _kept(self, folder: Path, row: Row, job: Job) -> Parent:
        if folder not in self._read:
            model = models.load(folder, allow=tuple(job.resolved["allow"]))
            network = jax.tree.map(np.asarray, model.network)
            self._read[folder] = Parent(
                run=row.key,
                saved=models.notes(folder / models.NAME)["saved"],
                family=row.family,
                model=row.config["model"],
                network=network,
                shape=shape_of(network),
                folder=str(folder),
                route=row.route,
                inputs=model.inputs,
                classes=model.classes,
            )
        return self._read[folder]

    def _list(self, start: str) -> list[tuple[Path, Row]]:
        if start not in self._listed:
            if (Path(start) / rows.NAME).is_file():
                self._listed[start] = [(Path(start), rows.read(Path(start)))]
            else:
                places = sorted(glob.glob(start))
                self._listed[start] = [run for place in places for run in rows.found(Path(place))]
        return self._listed[start]


def ancestors(job: Job) -> str:
    """The keys of the runs that a job starts from and learns from, as its own key has them."""
    found = job.parent.key if job.parent else ""
    return f"{found} taught by {job.teacher.key}" if job.teacher else found


def begun(program: Any) -> Any:
    """A plan's program with the networks that its runs start from, once their runs are done.

    Raises ValueError where one has left no model.
    """
    jobs = program.group.jobs
    if program.start is not None or jobs[0].parent is None:
        return program
    networks = [_network(job) for job in jobs]
    return replace(program, start=jax.tree.map(lambda *leaves: np.stack(leaves), *networks))


def _network(job: Job) -> Any:
    assert job.parent is not None
    if not job.parent.planned:
        return job.parent.network
    network = models.load(job.parent.folder, allow=tuple(job.resolved["allow"])).network
    return jax.tree.map(np.asarray, network)

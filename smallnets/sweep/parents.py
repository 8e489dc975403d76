"""The runs that others start from or learn from: ``start=RUN``, or runs matched by seed."""

import glob
import math
import sys
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
from smallnets.tasks.data import Data
from smallnets.training import distil
from smallnets.training.trainer import Trainer

BATCH = 256  # examples that a teacher answers at once
LARGEST_ANSWERS = 2**30  # bytes of all of them
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
        if (teacher := said.get("teacher")) is not None:
            job = job._replace(teacher=self._teacher(teacher, job))
        if said["start"] is None:
            return job
        start, chain = job.resolved["start"], said.get("compress")
        for word in job.words:
            name = word.lstrip("+~").partition("=")[0].replace("/", ".").partition(".")[0]
            if name in BROUGHT and not (name == "budget" and chain):
                raise ValueError(f"start={start} brings its network: leave out {word}")
        return job._replace(parent=self._parent("start", start, job))

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

    def _teacher(self, teacher: str | list[str], job: Job) -> Parent:
        """The run that teaches; of a list, all the runs that it names, as one ensemble."""
        if isinstance(teacher, str):
            return self._parent("teacher", teacher, job)
        name = Path(f"[{','.join(teacher)}]")
        if name not in self._read:
            runs = [self._kept(*run, job) for each in teacher for run in self._list(each)]
            if not runs:
                raise ValueError(f"teacher={name} holds no run: name folders of runs")
            self._read[name] = runs[0]._replace(
                run="+".join(each.key for each in runs),
                saved="ensemble",
                network=jax.tree.map(np.asarray, Ensemble([each.network for each in runs])),
                shape=f"{len(runs)} of {runs[0].shape}",
            )
        return self._read[name]

    def _kept(self, folder: Path, row: Row, job: Job) -> Parent:
        if folder not in self._read:
            network = models.load(folder, allow=tuple(job.resolved["allow"])).network
            network = jax.tree.map(np.asarray, network)
            self._read[folder] = Parent(
                run=row.key,
                saved=models.notes(folder / models.NAME)["saved"],
                family=row.family,
                model=row.config["model"],
                network=network,
                shape=shape_of(network),
                folder=str(folder),
                route=row.route,
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
    """A plan's program with the networks that its runs start from, once their runs are done, and
    with the answers that they learn from. Raises ValueError where one has left no model.
    """
    jobs = program.group.jobs
    start, taught = program.start, program.taught
    if start is None and jobs[0].parent is not None:
        networks = [_network(job) for job in jobs]
        start = jax.tree.map(lambda *leaves: np.stack(leaves), *networks)
    if taught is None and jobs[0].teacher is not None:
        data = program.data
        prepare = data.preparation if data.raw else None
        teachers = [job.teacher for job in jobs]
        found = {each.key: answers(each.network, data.train.inputs, prepare) for each in teachers}
        _warn(program, found)
        taught = np.stack([found[each.key] for each in teachers])
    return replace(program, start=start, taught=taught)


def _warn(program: Any, answered: Mapping[str, np.ndarray]) -> None:
    """Say it where distilling can't teach: by a teacher that is never wrong, at temperature 1."""
    objective, labels = program.tree.keywords["objective"], program.data.train.labels
    if objective.func is not distil or program.data.kind != "classes":
        return
    one = objective.keywords.get("temperature")
    temperatures = program.group.values.get("objective.temperature", one)
    wrong = [((each.argmax(axis=-1) != labels) & (labels >= 0)).any() for each in answered.values()]
    if np.any(np.asarray(temperatures) == 1) and not all(wrong):
        print(
            f"smallnets: warning: {program.label}: a teacher that makes no error on the train "
            "split says at objective.temperature=1 hardly more than its labels: raise it, 4 is "
            "usual",
            file=sys.stderr,
        )


def _network(job: Job) -> Any:
    assert job.parent is not None
    if not job.parent.planned:
        return job.parent.network
    network = models.load(job.parent.folder, allow=tuple(job.resolved["allow"])).network
    return jax.tree.map(np.asarray, network)


def check_teacher(trainer: Trainer, data: Data, network: Any) -> None:
    """Raise ValueError where a network can't answer the examples of a task, or has too much to say.

    Its answers to all train examples are kept beside them.
    """
    if trainer.augmentation:
        raise ValueError(
            "a teacher's answers are to the examples as they are, but an augmentation changes "
            "them: leave one of both out"
        )
    batch, labels = trainer.batch(data), trainer.batch_labels(data)
    expected = (*labels.shape[: 1 + (data.kind == "classes")], data.outputs)
    found = jax.eval_shape(lambda network, inputs: network(inputs), network, batch).shape
    if found != expected:
        raise ValueError(
            f"a teacher must answer as the task asks, {expected}, but gives {found}: name a run of "
            "the same task"
        )
    needed = 4 * len(data.train) * math.prod(expected[1:])
    if needed > LARGEST_ANSWERS:
        raise ValueError(
            f"a teacher's answers are kept beside the examples, but would take {needed:,} bytes of "
            f"{LARGEST_ANSWERS:,}: give fewer examples"
        )


def answers(network: Any, inputs: np.ndarray, prepare: Any) -> np.ndarray:
    """A network's answers to all examples, a batch at a time."""
    size = min(BATCH, len(inputs))

    @jax.jit
    def call(network: Any, inputs: jax.Array) -> jax.Array:
        return network(inputs if prepare is None else prepare(inputs))

    starts = [min(start, len(inputs) - size) for start in range(0, len(inputs), size)]
    found: Any = None
    for start in starts:
        part = np.asarray(call(network, inputs[start : start + size]))
        found = np.zeros((len(inputs), *part.shape[1:]), np.float32) if found is None else found
        found[start : start + size] = part
    return found

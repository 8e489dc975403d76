"""The runs that others start from: ``start=RUN``, or runs that are matched by seed."""

import glob
from pathlib import Path
from typing import Any

import jax
import numpy as np

from smallnets import models, rows
from smallnets.rows import Row
from smallnets.sweep.jobs import Job, Parent

BROUGHT = ("model", "family", "budget")  # words that a network which is there already refuses


class Parents:
    """The parents of jobs; each run's folder is read once."""

    def __init__(self):
        self._listed: dict[str, list[tuple[Path, Row]]] = {}
        self._read: dict[Path, Parent] = {}

    def of(self, job: Job) -> Job:
        """The job with the run whose kept model it starts from, if it names one.

        Raises ValueError where no run or more than one is there for it, where that run kept no
        model, and where the job also says what the network is.
        """
        if job.template.resolved["start"] is None:
            return job
        start = job.resolved["start"]
        for word in job.words:
            name = word.lstrip("+~").partition("=")[0].replace("/", ".").partition(".")[0]
            if name in BROUGHT:
                raise ValueError(f"start={start} brings its network: leave out {word}")
        parent = self._parent(start, job.resolved["seed"], tuple(job.resolved["allow"]))
        return job._replace(parent=parent)

    def _parent(self, start: str, seed: Any, allow: tuple[str, ...]) -> Parent:
        found = self._list(start)
        if not (Path(start) / rows.NAME).is_file():  # many runs: the one of this seed
            found = [(folder, row) for folder, row in found if row.seed == seed]
            if len(found) > 1:
                raise ValueError(
                    f"start={start} must match one run for each seed, but for seed={seed} there "
                    f"are {found[0][0]}, {found[1][0]}: name one, or a pattern that matches one"
                )
        if not found:
            raise ValueError(
                f"start={start} holds no run for seed={seed}: name the folder of a run, or of runs "
                "of the same seeds"
            )
        folder, row = found[0]
        if folder not in self._read:
            network = jax.tree.map(np.asarray, models.load(folder, allow=allow).network)
            saved = models.notes(folder / models.NAME)["saved"]
            self._read[folder] = Parent(row, network, _shape(network), saved)
        return self._read[folder]

    def _list(self, start: str) -> list[tuple[Path, Row]]:
        if start not in self._listed:
            if (Path(start) / rows.NAME).is_file():
                self._listed[start] = [(Path(start), rows.read(Path(start)))]
            else:
                places = sorted(glob.glob(start))
                self._listed[start] = [run for place in places for run in rows.found(Path(place))]
        return self._listed[start]


def _shape(network: Any) -> str:
    """What two networks of one program have in common: their structure and their arrays' shapes."""
    shapes = [f"{leaf.shape} {leaf.dtype}" for leaf in jax.tree.leaves(network)]
    return f"{jax.tree.structure(network)} {shapes}"

"""A run's folder: Hydra's files, the model and the row, there at once or not at all.

It is made in ``.drafts`` and renamed onto its place. The file system refuses that where a folder is
there already, so that of several processes with one run the first is the one that counts, and no
lock has to say so.
"""

import copy
import errno
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from hydra.types import HydraContext
from omegaconf import open_dict, read_write

from smallnets import models, rows
from smallnets.files import is_gone, process
from smallnets.models import Model
from smallnets.rows import Row
from smallnets.sweep.jobs import Job

DRAFTS = ".drafts"


_Safe: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class _Dumper(_Safe):
    """Writes YAML by libyaml, in a tenth of the time of OmegaConf's own dumper."""

    def ignore_aliases(self, data: Any) -> bool:
        del data
        return True

    def text(self, data: str) -> yaml.ScalarNode:
        """Text, quoted where OmegaConf would read a number, or true or false, without quotes."""
        plain = data.lower() not in _BOOLEANS
        with suppress(ValueError):
            float(data)
            plain = False
        tag = yaml.resolver.BaseResolver.DEFAULT_SCALAR_TAG
        return self.represent_scalar(tag, data, style=None if plain else "'")


_BOOLEANS = {"y", "n", "yes", "no", "true", "false", "on", "off"}
_Dumper.add_representer(str, _Dumper.text)


def publish(study: Path, job: Job, row: Row, model: Model | None) -> bool:
    """Put the run's folder, named by its key, into the study's; False where one is there already.

    What is there and failed, is damaged, or lacks the model that the row speaks of, is replaced.
    """
    place = study / row.key
    draft = study / DRAFTS / f"{row.key}.{process()}"
    shutil.rmtree(draft, ignore_errors=True)  # of a process of this number that was killed
    draft.mkdir(parents=True)
    try:
        _write_hydras_files(draft, place, job)
        if model is not None:
            said = models.notes_of(row.key, row.saved, row.family, row.task)
            models.save(model, draft / models.NAME, notes=said)
        rows.write(row, draft)
        if _renamed(draft, place):
            return True
        before = draft.with_suffix(".before")
        with suppress(FileNotFoundError):  # another process has just moved it away
            place.rename(before)
        if found_run(before, row.saved) is not None:
            _renamed(before, place)  # another process has just published it
        return _renamed(draft, place)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        shutil.rmtree(draft.with_suffix(".before"), ignore_errors=True)


def found_run(run: Path, save: str) -> Row | None:
    """The row of the run in a folder; None where it, or the asked model, is not.

    A run that failed is none.
    """
    try:
        row = rows.read(run)
        if row.status == "failed":
            return None
        if save != "none" and models.notes(run / models.NAME).get("saved") != save:
            return None
    except ValueError:
        return None
    return row


def failed_run(folder: Path) -> bool:
    """Whether a run's folder holds the row of a job that raised."""
    try:
        return rows.read(folder).status == "failed"
    except ValueError:
        return False


def remove_drafts(study: Path) -> None:
    """Remove what processes of this machine left that were killed while they published."""
    for draft in (study / DRAFTS).glob("*"):
        _, _, of = draft.name.removesuffix(".before").partition(".")
        if is_gone(of):
            shutil.rmtree(draft, ignore_errors=True)
    with suppress(OSError):  # there is none, or another process is publishing
        (study / DRAFTS).rmdir()


def hears(context: HydraContext) -> bool:
    """Whether a callback of Hydra's listens to jobs."""
    heard = ("on_job_start", "on_job_end")
    return any(
        getattr(type(each), name, None) is not getattr(Callback, name)
        for each in context.callbacks.callbacks
        for name in heard
    )


def tell(context: HydraContext, study: Path, job: Job, row: Row, value: float) -> None:
    """Tell Hydra's callbacks of a job that is done, as Hydra's ``run_job`` does.

    It is published by now, so that they find its folder as ``hydra.runtime.output_dir``.
    """
    config = job.config
    with read_write(config.hydra), open_dict(config.hydra):
        config.hydra.sweep.dir = str(study)
        config.hydra.sweep.subdir = row.key
        config.hydra.runtime.output_dir = str((study / row.key).absolute())
    hydra: Any = HydraConfig.instance()
    before = hydra.cfg
    hydra.set_config(config)
    try:
        task = copy.deepcopy(config)
        with read_write(task), open_dict(task):
            del task["hydra"]
        done = JobReturn(
            overrides=list(job.words),
            cfg=task,
            hydra_cfg=hydra.cfg,
            working_dir=os.getcwd(),
            task_name="smallnets",
            status=JobStatus.COMPLETED,
            _return_value=value,
        )
        context.callbacks.on_job_start(config=config, task_function=lambda config: value)
        context.callbacks.on_job_end(config=config, job_return=done)
    finally:
        hydra.cfg = before


def _write_hydras_files(draft: Path, place: Path, job: Job) -> None:
    """``config.yaml``, ``hydra.yaml`` and ``overrides.yaml``, as ``run_job`` writes them."""
    if job.template.config.hydra.output_subdir is None:
        return
    folder = draft / job.template.config.hydra.output_subdir
    folder.mkdir()
    of_hydra, task = map(copy.deepcopy, job.template.written)
    values = {
        **job.of_hydra,
        "sweep.subdir": place.name,
        "runtime.output_dir": str(place.absolute()),
    }
    for tree, changes in ((of_hydra, values), (task, job.values)):
        for path, value in changes.items():
            *outer, name = path.split(".")
            branch = tree
            for step in outer:
                branch = branch[step]
            branch[name] = value
    files = {"config": task, "hydra": {"hydra": of_hydra}, "overrides": list(job.words)}
    for name, content in files.items():
        text = yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")


def _renamed(draft: Path, place: Path) -> bool:
    """Rename a folder, unless one that is not empty is there."""
    try:
        draft.rename(place)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False
    return True

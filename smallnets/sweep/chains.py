"""A chain of passes, ``compress=[factorise,finetune,quantise]``, as runs of one stage each.

Each stage is a run that starts from the one before, so that chains with equal beginnings share
them: a run's key is a digest of its parent's key and of what is done to that.
"""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, open_dict, read_write
from rich.table import Table

from smallnets import models, rows
from smallnets.allowed import locate
from smallnets.rows import Row
from smallnets.sweep.jobs import Job, Template
from smallnets.sweep.parent import Parent, shape_of

SETTINGS = ("steps", "evaluations", "learning_rate", "view")  # of a stage that trains
SIZES = {"ratio", "rank", "keep", "share", "unique", "experts"}  # a model smaller, not another way
SCORES = ("test_error", "test_bits_per_byte", "test_loss", "validation_loss")


def first_stage(job: Job) -> Job:
    """The job of a chain's first stage; a job without a chain as it is.

    Raises ValueError where the chain is empty, names a stage twice, or has no kept model to start
    from, and for settings that training has not.
    """
    words = job.words
    chain = list((job.resolved.get("compress") or {}).items())
    for said in (_listed(word) for word in words if word.lstrip("+~").startswith("compress=")):
        if not said:
            raise ValueError(
                "a chain needs a stage, but compress=[] has none: name one, or leave it out"
            )
        for name in said:
            if said.count(name) > 1:
                raise ValueError(
                    f"a chain names each stage once, but {name} stands there {said.count(name)} "
                    "times: leave one out, or write finetune_again for a second training"
                )
    if not chain:
        return job
    if job.parent is None:
        raise ValueError(
            f"compress=[{','.join(name for name, _ in chain)}] makes a kept model small, but names "
            "none: add start=RUN, the folder of a run"
        )
    if job.resolved["save"] == "none":
        raise ValueError("a chain keeps the model of each stage, but save=none: leave it out")
    return _stage(job._replace(whole=job), chain)


def following(program: Any, folder: Path) -> list[Job]:
    """The jobs of the stages that follow those of a plan's program in their chains."""
    saved = program.trainer.save
    return [
        _next_stage(job, program.network, key, saved, folder)
        for job, key in zip(program.group.jobs, program.keys, strict=True)
        if job.chain
    ]


def _next_stage(job: Job, network: Any, key: str, saved: str, folder: Path) -> Job:
    """The job of the stage after ``job``, whose run will have this key and this network."""
    assert job.parent is not None
    parent = Parent(
        run=key,
        saved=saved,
        family=family(job),
        model=job.resolved["model"],
        network=network,
        shape=shape_of(network),
        route=job.route,
        folder=str(folder / key),
        planned=True,
    )
    following = job._replace(parent=parent, stage=job.stage + 1)
    return _stage(following, list(job.chain))


def family(job: Job) -> str:
    """The label of a run that starts from a parent: that one's, and behind it what was done."""
    assert job.parent is not None
    return f"{job.parent.family} > {job.label}" if job.label else job.parent.family


def _stage(job: Job, chain: list[tuple[str, Any]]) -> Job:
    (name, node), *rest = chain
    parent = job.parent
    assert parent is not None
    plain = {key: value for key, value in job.whole.resolved.items() if key != "compress"}
    plain |= {"start": parent.folder, "model": parent.model}
    if "_target_" in node:
        plain |= {"compress": {name: node}, "steps": 0, "evaluations": 1, "view": None}
        plain |= {"distil": None, "save": "last", "patience": None}
        job = job._replace(teacher=None)
    else:
        plain |= _training(name, node, plain)
        if (teacher := job.whole.teacher) is not None and teacher is job.whole.parent:
            plain["distil"] = {**plain["distil"], "teacher": teacher.folder}
        job = job._replace(teacher=teacher)
    prefix, config = _prefix(job.whole, {later for later, _ in rest})
    said = " ".join([name, *_words(name, node)])
    return job._replace(
        words=prefix,
        template=Template(config, plain, job.traced, follows=False),
        chain=tuple(rest),
        label=label_of(name, node),
        route=" > ".join(filter(None, [parent.route, said])),
    )


def _training(name: str, node: Mapping[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """What a stage that trains sets of the config."""
    for key in node:
        if key not in SETTINGS:
            raise ValueError(
                f"compress.{name} takes {', '.join(SETTINGS)}, but not {key}: set it for all of "
                f"training, as in {key}=..."
            )
    settings = {key: value for key, value in node.items() if key != "learning_rate"}
    if "learning_rate" in node:
        rate = node["learning_rate"]
        settings["optimizer"] = {**config["optimizer"], "learning_rate": rate}
    return settings


def label_of(name: str, node: Mapping[str, Any]) -> str:
    """What a stage adds to its run's family: its name, and what differs from its defaults."""
    words = [word for word in _words(name, node) if word.partition("=")[0] not in SIZES]
    return " ".join([name, *words])


def _words(name: str, node: Mapping[str, Any]) -> list[str]:
    """What differs from the defaults of a pass, or of the view of a training, as ``name=value``."""
    call = node if "_target_" in node else node.get("view")
    if not isinstance(call, Mapping):
        return []
    function = locate(call["_target_"], ("smallnets",), said_by=name, fix="allow=[{}]")
    defaults = {key: each.default for key, each in inspect.signature(function).parameters.items()}
    return [
        f"{key}={value}"
        for key, value in call.items()
        if key not in ("_target_", "_partial_") and defaults.get(key) != value and value is not None
    ]


def _prefix(whole: Job, later: set[str]) -> tuple[tuple[str, ...], DictConfig]:
    """The words that would run a chain up to a stage and no further, and Hydra's config of it."""
    config, words = whole.config, []
    for word in whole.words:
        if word.lstrip("+~").startswith("compress="):
            word = f"compress=[{','.join(each for each in _listed(word) if each not in later)}]"
        elif any(word.lstrip("+~").startswith(f"compress.{name}.") for name in later):
            continue
        words.append(word)
    with read_write(config), open_dict(config):
        for name in later:
            del config.compress[name]
    return tuple(words), config


def _listed(word: str) -> list[str]:
    """The options that ``compress=[a,b]`` or ``compress=a`` names."""
    value = word.partition("=")[2].strip("[]'\" ")
    return [each.strip() for each in value.split(",") if each.strip()]


def summary(ends: list[tuple[Job, Path, Row]]) -> Table | None:
    """What chains saved: bytes on disk and scores of the model they began with and of the last."""
    table = Table("route", "seed", "bytes", "fewer", "score", "before", title_justify="left")
    for job, folder, row in ends:
        if job.whole is None:
            continue
        root = Path(job.whole.parent.folder)
        try:
            before = rows.read(root)
        except ValueError:
            continue
        sizes = [(each / models.NAME).stat().st_size for each in (root, folder)]
        name = next((n for n in SCORES if n in row.metrics and n in before.metrics), None)
        scores = [f"{each.metrics[name]:.4g}" if name else "" for each in (row, before)]
        table.add_row(
            job.route,
            str(row.seed),
            f"{sizes[0]:,} -> {sizes[1]:,}",
            f"{sizes[0] / sizes[1]:.1f}x",
            f"{name} {scores[0]}",
            scores[1],
        )
    return table if table.row_count else None

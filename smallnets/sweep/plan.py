"""A plan: the programs that a sweep needs, each composed, sized and checked, and nothing run."""

import functools
import hashlib
import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from operator import getitem
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from hydra import initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf

from smallnets import models
from smallnets.compress.stage import applied
from smallnets.compress.stage import stages as compressing
from smallnets.measure.budget import Network, solve
from smallnets.measure.costs import AXES, Cost, counted_costs
from smallnets.measure.search import Sizes
from smallnets.sweep import CONF, VERSION_BASE, forget_an_empty_cache
from smallnets.sweep.build import build, check, load, one_line, raised_by_own_code
from smallnets.sweep.chains import family, first_stage, following
from smallnets.sweep.file_budget import with_file_budget
from smallnets.sweep.jobs import (
    Group,
    Job,
    compose,
    composing,
    group,
    isolated_hydra,
    searching,
)
from smallnets.sweep.keys import LENGTH, fingerprint, run_keys
from smallnets.sweep.labels import Labels
from smallnets.sweep.parents import Parents, ancestors
from smallnets.sweep.teachers import Taught, check_teacher, lesson
from smallnets.tasks.data import Data
from smallnets.traced import assign
from smallnets.training.batch import Stages
from smallnets.training.fit import Arrays
from smallnets.training.stream import blank_batches
from smallnets.training.trainer import Trainer

Track = Callable[[str, Iterable[Any], int], Iterable[Any]]  # (stage, items, how many) -> items


@dataclass(frozen=True)
class Program:
    """Runs that one compiled program trains, checked: all that training and their rows need."""

    group: Group
    tree: partial[Trainer]
    trainer: Trainer
    data: Data
    network: Any  # abstract
    sizes: Sizes
    costs: dict[str, float]
    families: list[str]  # the label of each run
    task: str
    keys: list[str]  # of each run
    start: Any = None  # the networks that the runs start from, with a leading axis of runs
    taught: Taught | None = None

    @property
    def label(self) -> str:
        return self.families[0]

    @property
    def parameters(self) -> int:
        return int(self.costs["params"])

    @property
    def work(self) -> float:
        """What training costs, for the progress bar: FLOPs x examples, over all runs.

        Where FLOPs are not counted, two for each parameter.
        """
        trainer, flops = self.trainer, self.costs.get("flops", 2 * self.parameters)
        return len(self.group.jobs) * flops * max(trainer.steps, 1) * trainer.batch_size

    def only(self, places: list[int]) -> "Program":
        """The program of some of these runs."""
        jobs = [self.group.jobs[place] for place in places]
        values = {path: array[places] for path, array in self.group.values.items()}
        return replace(
            self,
            group=Group(jobs, values),
            families=[self.families[place] for place in places],
            keys=[self.keys[place] for place in places],
            start=jax.tree.map(lambda leaf: leaf[np.asarray(places)], self.start),
            taught=self.taught and self.taught._replace(index=self.taught.index[places]),
        )

    @property
    def inputs(self) -> tuple[dict[str, np.ndarray], Any, Any, Any]:
        """What the runs differ in, each leaf with a leading axis; batches that come are blank."""
        blank = blank_batches(self.trainer, self.data, len(self.group.jobs))
        return self.group.values, self.start, self.taught and self.taught.index, blank

    def shared(self, arrays: dict[str, Arrays]) -> tuple[dict[str, Arrays], Any]:
        """What all runs see: the splits on the device, and what they learn from."""
        return arrays, self.taught and self.taught.shared

    def stages(self, inputs: Any, shared: Any, spread: Any = None) -> Stages:
        """Pure functions that train a run, whose inputs may be tracers; ``spread`` is of a mesh."""
        (values, start, index, batches), (arrays, taught) = inputs, shared
        tree, teacher = self.tree, None
        for path, value in values.items():
            tree = assign(tree, path, value)
        trainer = tree()
        if trainer.compress:
            return compressing(trainer, self.data, arrays, start)
        if taught is not None:
            teacher, answers = lesson(taught, index)
            more = {} if answers is None else {"teacher": answers}
            arrays = {**arrays, "train": replace(arrays["train"], more=more)}
        return trainer.stages(self.data, arrays, start, teacher, spread, batches)


class Refused(NamedTuple):
    """A job whose own code, of a package that its config allows, raised before it was compiled."""

    job: Job
    key: str
    error: str


@dataclass(frozen=True)
class Plan:
    """What :func:`smallnets.train` trains: programs, and the folder of the sweep's runs.

    ``refused`` are the jobs that no program could be made of, while others could.
    """

    programs: list[Program]
    folder: Path
    config: DictConfig
    context: HydraContext
    refused: list[Refused]

    @property
    def runs(self) -> int:
        return sum(len(program.group.jobs) for program in self.programs) + len(self.refused)

    def jobs(self) -> Iterator[tuple[Job, str]]:
        """Every job with its key."""
        for program in self.programs:
            yield from zip(program.group.jobs, program.keys, strict=True)
        for each in self.refused:
            yield each.job, each.key

    def __repr__(self) -> str:
        lines = [f"{self.runs} runs in {len(self.programs)} programs, into {self.folder}"]
        for program in self.programs:
            runs = len(program.group.jobs)
            lines.append(f"  {program.label}, {program.parameters:,} parameters: {runs} runs")
        lines += [f"  refused: {each.error}" for each in self.refused]
        return "\n".join(lines)


def plan(*overrides: str, config_dir: str | Path | None = None) -> Plan:
    """The runs of a sweep, as ``smallnets -m`` with these overrides: checked, and nothing is run.

    ``plan("family=low_rank", "model.width=16,32", "seed=range(3)")`` composes every config, finds
    the sizes that meet a budget, loads the data (which prepares what was never loaded before in the
    cache) and traces every network. It compiles nothing and writes no run. ``config_dir`` is a
    folder with YAMLs of one's own, as ``--config-dir`` is. Hydra's own state, of a notebook or of
    another Hydra app, is left as it was. Raises ValueError, one line, for whatever is wrong.
    """
    with one_line(), hydra_of(overrides, config_dir) as (context, config):
        params = OmegaConf.select(config, "hydra.sweeper.params") or {}
        swept = [f"{key}={value}" for key, value in params.items()]
        parser = OverridesParser.create(config_loader=context.config_loader)
        words = parser.parse_overrides([*swept, *config.hydra.overrides.task])
        (jobs,) = BasicSweeper.split_arguments(words, max_batch_size=None)
        return plan_jobs(context, config, jobs)


@contextmanager
def hydra_of(
    overrides: Sequence[str], config_dir: str | Path | None = None
) -> Iterator[tuple[HydraContext, DictConfig]]:
    """Hydra as the command has it: its context, and the config of a sweep with these overrides."""
    forget_an_empty_cache()
    with isolated_hydra(), initialize_config_dir(str(CONF), **VERSION_BASE):
        loader = GlobalHydra.instance().config_loader()
        if config_dir is not None:
            if not Path(config_dir).is_dir():
                raise ValueError(f"config_dir must be a folder of YAMLs, but {config_dir} is none")
            loader = searching(loader, [f"file://{Path(config_dir).absolute()}"])
        with composing(overrides):
            config = loader.load_configuration("config", [*overrides], RunMode.MULTIRUN)
        yield HydraContext(config_loader=loader, callbacks=Callbacks(config)), config


def plan_jobs(
    context: HydraContext,
    config: DictConfig,
    overrides: Sequence[Sequence[str]],
    *,
    numbers: Sequence[int] | None = None,
    loaded: dict[str, Data] | None = None,
    track: Track = lambda stage, items, total: items,
) -> Plan:
    """The plan of the jobs that a Hydra sweeper hands out.

    ``numbers`` are theirs, by default from 0; ``loaded`` is data that other plans loaded, by the
    call of the task.
    """
    numbers = range(len(overrides)) if numbers is None else numbers
    jobs = compose(context.config_loader, config, overrides, numbers)
    parents = Parents()
    known = _of_this_sweep(track("composing", jobs, len(overrides)), config)
    folder = Path(config.hydra.sweep.dir)
    shares: dict[str, float] = {}
    loaded = {} if loaded is None else loaded
    labels = Labels(searching(context.config_loader, config.hydra.searchpath or []))
    jobs = [first_stage(with_file_budget(parents.of(job), loaded, shares, labels)) for job in known]
    if not jobs:
        raise ValueError("a sweep needs at least one run, but an empty list leaves none: fill it")
    fingerprints = functools.cache(fingerprint)
    programs, refused = [], []
    first_error = None
    while jobs:  # those of a chain's next stage follow once what they start from is known
        groups, jobs = group(jobs), []
        for each in track("checking", groups, len(groups)):
            try:
                programs.append(_prepare(each, labels, fingerprints, loaded))
                jobs += following(programs[-1], folder)
            except ValueError as error:
                if not raised_by_own_code(error, each.jobs[0].resolved["allow"]):
                    raise
                first_error = first_error or error
                refused += [Refused(job, refused_key(job), str(error)) for job in each.jobs]
    if not programs and first_error is not None:
        raise first_error
    return Plan(programs, folder, config, context, refused)


def refused_key(job: Job) -> str:
    """What stands for the key of a job whose data or network are not to be had."""
    said = json.dumps(["refused", job.resolved], sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()[:LENGTH]


def _of_this_sweep(jobs: Iterable[Job], config: DictConfig) -> Iterator[Job]:
    """The jobs; raises ValueError where words bring a sweep, which Hydra reads only once."""
    swept = "hydra.sweeper.params"
    checked: set[int] = set()
    for job in jobs:
        of_job = job.template.config
        if id(of_job) not in checked and OmegaConf.select(of_job, swept) != OmegaConf.select(
            config, swept
        ):
            raise ValueError(
                "an experiment brings a sweep of its own, so that one command runs one experiment, "
                f"but {' '.join(job.words)} is a job of several: give each a command"
            )
        checked.add(id(of_job))
        yield job


def _prepare(
    group: Group,
    labels: Labels,
    fingerprints: Callable[[Data], str],
    loaded: dict[str, Data],
) -> Program:
    """Build, size and check without computing; raises ValueError for what is wrong."""
    first = group.jobs[0]
    tree = build(first.resolved)
    data = load(tree, json.dumps(first.resolved["task"], sort_keys=True), loaded)
    task = labels.task(first, tree)
    start, sizes = None, {}
    if first.parent is None:
        label = labels.family(first, tree)
        tree, sizes = _resize(tree, data, label, task, first.words)
    else:
        label = family(first)
        if not first.parent.planned:
            networks = [job.parent.network for job in group.jobs if job.parent]
            start = jax.tree.map(lambda *leaves: np.stack(leaves), *networks)
    trainer = tree()
    network = first.parent and first.parent.network
    with one_line(f"{label}: "):
        if first.teacher is not None:
            check_teacher(trainer, data, first.teacher)
        if trainer.compress:
            network = applied(trainer, data, network)
    network = check(trainer, data, label, network, first.teacher and first.teacher.network)
    with one_line(f"{label}: "):
        trainer.mesh().check_network(network)
    network = seen(trainer, network)
    costs = counted_costs(network, trainer.batch(data))
    if first.parent is None:
        families = list(_families(group, labels, tree))
    else:
        families = list(map(family, group.jobs))
    # Its numbers in 32 bits, as the program has them.
    of, started = list(map(ancestors, group.jobs)), first.parent is not None
    keys = list(run_keys(tree, group.values, fingerprints(data), of, started=started))
    said = models.notes_of(keys[0], trainer.save, families[0], task)
    costs["file_bytes"] = models.file_bytes(models.kept(network, data), said)
    return Program(group, tree, trainer, data, network, sizes, costs, families, task, keys, start)


def seen(trainer: Trainer, network: Any) -> Any:
    """The network that is kept, in the view of its training, its arrays abstract."""
    if trainer.view is None:
        return network
    return jax.eval_shape(partial(trainer.view, training=False, key=None), network)


def _families(group: Group, labels: Labels, tree: partial[Trainer]) -> Iterator[str]:
    """The label of each run; only numbers of its network tell two apart."""
    known: dict[tuple[Any, ...], str] = {}
    paths = [path for path in group.values if path.startswith(("model.", "parametrization."))]
    for job in group.jobs:
        said = job.resolved if paths else {}
        numbers = [functools.reduce(getitem, path.split("."), said) for path in paths]
        if (found := known.get(tuple(numbers))) is None:
            given = tree
            for path, value in zip(paths, numbers, strict=True):
                given = assign(given, path, value)
            found = known[tuple(numbers)] = labels.family(job, given)
        yield found


def _resize(
    tree: partial[Trainer], data: Data, label: str, task: str, overrides: Sequence[str]
) -> tuple[partial[Trainer], Sizes]:
    """``tree`` with the sizes of its model that meet its budget, and these; as it is without one.

    Raises ValueError where no size does, and where one that is chosen was also set by hand.
    """
    trainer = tree()
    budget = trainer.budget()
    if not budget.targets:
        return tree, {}
    known = tree.keywords["model"].keywords
    knobs = [name for name in budget.knobs if _has(tree.keywords["model"], name)]
    if not knobs:
        raise ValueError(
            f"{label}: a budget needs one of {', '.join(budget.knobs)}, but the model has "
            f"{', '.join(known)}: choose a model that has one, or name another size in budget.knobs"
        )
    for name in knobs:
        if any(override.lstrip("+").startswith(f"model.{name}=") for override in overrides):
            raise ValueError(
                f"a budget chooses model.{name}, but it is set too: leave it out, or leave it out "
                f"of budget.knobs={list(budget.knobs)}"
            )

    def network(sizes: Sizes) -> Network:
        return resized(tree, sizes)().network(data)

    def of_file(model: Any, batch: jax.ShapeDtypeStruct) -> Cost:
        del batch
        network = seen(trainer, model)
        said = models.notes_of("0" * LENGTH, trainer.save, label, task)
        return Cost(models.file_bytes(models.kept(network, data), said))

    with one_line(f"{label}: "), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of networks that are only tried; check() says its own
        axes = {**AXES, "file_bytes": of_file}
        sizes = solve(budget, network, trainer.batch(data), knobs=knobs, axes=axes)
    return resized(tree, sizes), sizes


def _has(tree: Any, path: str) -> bool:
    """Whether a tree of calls has a keyword at a dotted path."""
    name, _, rest = path.partition(".")
    if not isinstance(tree, partial) or name not in tree.keywords:
        return False
    return not rest or _has(tree.keywords[name], rest)


def resized(tree: Any, sizes: Sizes) -> Any:
    """A tree of calls, or a config, with sizes of its model."""
    for name, value in sizes.items():
        tree = assign(tree, f"model.{name}", value)
    return tree

"""One config for each job, and which jobs one program trains.

Composing takes Hydra tens of milliseconds, for hundreds of jobs longer than training them. Where
the overrides that differ are plain numbers at traced paths, the first job's config is copied and
the numbers are set: the same config, as a test over random overrides keeps it.
"""

import copy
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import JobRuntime, setup_globals
from hydra.version import VersionBase, setbase
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from smallnets.sweep.build import build
from smallnets.traced import Fraction, Share, declared

_INTEGER = re.compile(r"[+-]?(0|[1-9]\d*)")
_FLOAT = re.compile(r"[+-]?(\d+\.\d*|\d*\.\d+|\d+(\.\d*)?[eE][+-]?\d+)")


class Parent(NamedTuple):
    """A kept run that others start from, or learn from: what they must know of it.

    ``run`` is its key, ``saved`` says which of its models it is: the last and the best are two
    parents. ``shape`` is that of the network in words, ``model`` the config of the network that
    was trained, ``route`` what has been done to it since. Where it is ``planned``, it is a run of
    the same plan: its network is abstract, and will lie in ``folder``.
    """

    run: str
    saved: str
    family: str
    model: Any
    network: Any
    shape: str
    folder: str
    route: str = ""
    planned: bool = False

    @property
    def key(self) -> str:
        return f"{self.run}-{self.saved}"


def shape_of(network: Any) -> str:
    """What two networks of one program have in common: their structure and their arrays' shapes."""
    shapes = [f"{leaf.shape} {leaf.dtype}" for leaf in jax.tree.leaves(network)]
    return f"{jax.tree.structure(network)} {shapes}"


class Job(NamedTuple):
    """One run of a sweep, described.

    ``config`` is what Hydra's ``run_job`` takes, ``resolved`` its plain values without Hydra's own,
    ``traced`` the type of each number that may vary inside a program, by its dotted path;
    ``parent`` the run whose model it starts from, ``teacher`` the one whose answers it learns from.

    Of a chain of passes (:mod:`smallnets.sweep.chains`) each stage is a job, with the number of the
    one that Hydra counts: ``stage`` counts them, ``chain`` are those that follow, ``label`` and
    ``route`` say what this one does and what is done so far, ``root`` is where the chain began.
    """

    number: int
    config: DictConfig
    resolved: dict[str, Any]
    traced: dict[str, type]
    parent: Parent | None = None
    teacher: Parent | None = None
    stage: int = 0
    chain: tuple[tuple[str, Any], ...] = ()
    label: str = ""
    route: str = ""
    root: Path | None = None
    whole: dict[str, Any] = {}  # noqa: RUF012  # the whole chain's, never written to
    full: DictConfig | None = None


class _Template(NamedTuple):
    config: DictConfig
    traced: dict[str, type]


def compose(
    loader: ConfigLoader, master: DictConfig, overrides: Sequence[Sequence[str]], first: int
) -> Iterator[Job]:
    """The jobs of a sweep, numbered from ``first``, in order; each as it is ready."""
    setup_globals()
    templates: dict[tuple[frozenset[str], tuple[str, ...]], _Template] = {}
    for number, job in enumerate(overrides, start=first):
        template = _find(templates, job)
        if template is None:
            with composing(job):
                config = loader.load_sweep_config(master, list(job))
            template = _Template(config, dict(declared(build(resolve(config)))))
            paths = frozenset(template.traced)
            templates[paths, _rest(job, paths)] = template
        config = _with_values(template, job, number)
        yield Job(number, config, _settled(resolve(config), template.traced), template.traced)


@contextmanager
def composing(words: Sequence[str]) -> Iterator[None]:
    """Turn what is an error inside of Hydra into a ValueError that names the words."""
    try:
        yield
    except (AttributeError, TypeError) as error:
        raise ValueError(
            f"{' '.join(words)}: Hydra can't compose these words ({error}): a group takes the name "
            "of one of its options, as in model=residual"
        ) from error


def resolve(config: DictConfig) -> dict[str, Any]:
    """The plain values of a job's config, every reference followed, without Hydra's own node."""
    hydra = HydraConfig.instance()
    before = hydra.cfg
    hydra.set_config(config)  # what ${hydra:...} looks at; makes its hydra node read-only
    try:
        task = OmegaConf.masked_copy(config, [str(name) for name in config if name != "hydra"])
        plain: Any = OmegaConf.to_container(task, resolve=True)
        return plain
    finally:
        hydra.cfg = before


def searching(loader: ConfigLoader, places: Iterable[str]) -> ConfigLoaderImpl:
    """A loader that looks into ``places`` too, such as ``file:///a/folder``, after its own.

    Hydra's ``hydra.searchpath`` serves the composing of one config; a loader that has it lists the
    options of groups too.
    """
    path = copy.deepcopy(loader.get_search_path())
    for place in places:
        path.prepend("command-line", place, anchor=SearchPathQuery(provider="schema"))
    return ConfigLoaderImpl(path)


@contextmanager
def isolated_hydra() -> Iterator[None]:
    """Hydra as in a fresh process; afterwards its state, another app's or none, is as it was."""
    before = dict(Singleton._instances)
    for kind in (GlobalHydra, HydraConfig, JobRuntime, VersionBase):
        Singleton._instances.pop(kind, None)
    try:
        JobRuntime.instance().set("name", "smallnets")
        setbase("1.3")
        yield
    finally:
        Singleton._instances.clear()
        Singleton._instances.update(before)


def _split(override: str) -> tuple[str, str]:
    key, _, value = override.partition("=")
    return key, value


def _is_number(text: str) -> bool:
    return bool(_INTEGER.fullmatch(text) or _FLOAT.fullmatch(text))


def _rest(job: Sequence[str], paths: frozenset[str]) -> tuple[str, ...]:
    """The overrides of a job; of a traced number only that it is there."""
    return tuple(
        key if key in paths and _is_number(value) else override
        for override in job
        for key, value in [_split(override)]
    )


def _find(
    templates: dict[tuple[frozenset[str], tuple[str, ...]], _Template], job: Sequence[str]
) -> _Template | None:
    for paths in {paths for paths, _ in templates}:
        template = templates.get((paths, _rest(job, paths)))
        if template is not None:
            return template
    return None


def _with_values(template: _Template, job: Sequence[str], number: int) -> DictConfig:
    config = copy.deepcopy(template.config)
    task = [each for each in job if not each.lstrip("+~").startswith(("hydra.", "hydra/"))]
    with read_write(config), read_write(config.hydra), open_dict(config):
        for key, value in map(_split, task):
            if key in template.traced and _is_number(value):
                plain = int(value) if _INTEGER.fullmatch(value) else float(value)
                OmegaConf.update(config, key, plain)
        config.hydra.job.id = config.hydra.job.num = number
        config.hydra.overrides.task = task
        names = config.hydra.job.config.override_dirname
        excluded = set(names.exclude_keys)
        kept = sorted(each for each in task if _split(each)[0].lstrip("+~") not in excluded)
        config.hydra.job.override_dirname = names.item_sep.join(kept).replace("=", names.kv_sep)
    return config


class Group(NamedTuple):
    """Jobs that one program trains: ``values[path][i]`` is job i's number at a traced path."""

    jobs: list[Job]
    values: dict[str, np.ndarray]


def group(jobs: Iterable[Job]) -> list[Group]:
    """The groups, in the order of their first jobs.

    A share of 0 leaves its part out of the network, and so is no number that varies.
    A value that is derived from a traced number without being one parts jobs: that is safe.
    Raises ValueError where a traced number is no number.
    """
    groups: dict[str, tuple[list[Job], list[dict[str, Any]]]] = {}
    for job in jobs:
        rest = copy.deepcopy(job.resolved)
        numbers = {
            path: _number(path, _take(rest, path), kind)
            for path, kind in job.traced.items()
            if _has(rest, path) and not _is_left_out(rest, path, kind)
        }
        members = groups.setdefault(_same(rest, numbers, job), ([], []))
        members[0].append(job)
        members[1].append(numbers)
    return [
        Group(jobs, {path: np.stack([each[path] for each in numbers]) for path in numbers[0]})
        for jobs, numbers in groups.values()
    ]


def _same(rest: dict[str, Any], numbers: dict[str, Any], job: Job) -> str:
    """What two jobs of one program have in common; folders of parents are not of it."""
    rest = {name: value for name, value in rest.items() if name not in ("start", "teacher")}
    return json.dumps([rest, list(numbers), job.stage, _shapes(job)], sort_keys=True)


def _shapes(job: Job) -> list[str | None]:
    return [each and each.shape for each in (job.parent, job.teacher)]


def _has(config: Any, path: str) -> bool:
    name, _, rest = path.partition(".")
    if not isinstance(config, dict) or name not in config:
        return False
    return _has(config[name], rest) if rest else True


def _within(config: dict[str, Any], path: str) -> tuple[dict[str, Any], str]:
    """What holds the value at a dotted path, and its name there."""
    *outer, name = path.split(".")
    for step in outer:
        config = config[step]
    return config, name


def _take(config: dict[str, Any], path: str) -> Any:
    """The value at a dotted path, taken out of the config."""
    branch, name = _within(config, path)
    return branch.pop(name)


def _is_left_out(config: dict[str, Any], path: str, kind: type) -> bool:
    branch, name = _within(config, path)
    return kind is Share and not isinstance(branch[name], bool) and branch[name] == 0


def _settled(config: dict[str, Any], traced: dict[str, type]) -> dict[str, Any]:
    """The config with each share of 0 as 0.0, so that 0 and 0.0 are one run."""
    for path, kind in traced.items():
        if _has(config, path) and _is_left_out(config, path, kind):
            branch, name = _within(config, path)
            branch[name] = 0.0
    return config


def _number(path: str, value: Any, kind: type) -> np.ndarray:
    """``value`` as a 32-bit number of the declared kind."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole and not (kind is not int and isinstance(value, float)):
        wanted = "a whole number" if kind is int else "a number"
        raise ValueError(f"{path} must be {wanted}, but is {value!r}: give one")
    if issubclass(kind, Fraction) and not 0 <= value < 1:
        raise ValueError(f"{path} must lie in [0, 1), but is {value}: it is a share")
    if kind is not int and not abs(value) <= float(np.finfo(np.float32).max):
        raise ValueError(f"{path} must be a finite 32-bit number, but is {value}: choose one")
    if value < 0:
        raise ValueError(f"{path} must not be below 0, but is {value}: choose 0 or more")
    if kind is not int and 0 < value < float(np.finfo(np.float32).tiny):
        raise ValueError(
            f"{path} must be 0 or from 1.2e-38 on, which 32 bits tell from 0, but is {value}: "
            "choose one"
        )
    if kind is int and value >= 2**32:
        raise ValueError(f"{path} must lie between 0 and 2^32 - 1, but is {value}")
    return np.asarray(value, np.uint32 if kind is int else np.float32)

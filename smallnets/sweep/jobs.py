"""One config for each job, and which jobs one program trains.

Composing takes Hydra tens of milliseconds, for hundreds of jobs longer than training them. Where
the overrides that differ are plain numbers at traced paths, the first job's config is copied and
the numbers are set: the same config, as a test over random overrides keeps it.
"""

import copy
import functools
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from operator import getitem
from typing import Any, NamedTuple

import numpy as np
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import JobRuntime, setup_globals
from hydra.version import _UNSPECIFIED_, VersionBase, setbase
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from smallnets.sweep import VERSION_BASE
from smallnets.sweep.build import build
from smallnets.sweep.parent import Parent
from smallnets.traced import Fraction, Share, declared

_INTEGER = re.compile(r"[+-]?(0|[1-9]\d*)")
_REFERENCE = re.compile(r"\$\{([^{}]*)")  # up to its end, or to a reference inside it
_OF_NO_JOB = ("oc.env", "hydra:runtime.choices")  # computed without looking at a job's numbers
_FLOAT = re.compile(r"[+-]?(\d+\.\d*|\d*\.\d+|\d+(\.\d*)?[eE][+-]?\d+)")


@dataclass(frozen=True)
class Template:
    """What jobs have in common that differ in plain numbers at traced paths.

    ``config`` is the first one's, as Hydra composes it, ``resolved`` its plain values without
    Hydra's own node, ``traced`` the type of each number that may vary inside a program, by its
    dotted path. ``follows`` is whether another value may be derived from one of these numbers.
    """

    config: DictConfig
    resolved: dict[str, Any]
    traced: dict[str, type]
    follows: bool

    @property
    def choices(self) -> Any:
        return self.config.hydra.runtime.choices

    @functools.cached_property
    def written(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The plain values as they were written, references included: Hydra's own, the others."""
        plain: Any = OmegaConf.to_container(self.config, resolve=False, enum_to_str=True)
        return plain.pop("hydra"), plain


class Job(NamedTuple):
    """One run of a sweep, described by its ``words``; ``parent`` is the run that it starts from,
    ``teacher`` the one whose answers it learns from.

    Of a chain of passes (:mod:`smallnets.sweep.chains`) each stage is a job, with the number of the
    ``whole``: ``stage`` counts them, ``chain`` are those that follow, ``label`` and ``route`` say
    what this one does and what is done so far.

    What else is known of it is made when it is asked for, since a sweep has more jobs than there
    is room for configs.
    """

    number: int
    words: tuple[str, ...]
    template: Template
    parent: Parent | None = None
    teacher: Parent | None = None
    stage: int = 0
    chain: tuple[tuple[str, Any], ...] = ()
    label: str = ""
    route: str = ""
    whole: Any = None

    @property
    def traced(self) -> dict[str, type]:
        return self.template.traced

    @property
    def choices(self) -> Any:
        """The option that was chosen of each group."""
        return self.template.choices

    @property
    def values(self) -> dict[str, int | float]:
        """The plain numbers that its words set at traced paths."""
        found = {}
        if self.whole is not None:  # a stage's config has them already
            return found
        for key, value in map(_split, self.words):
            if key in self.traced and is_number(value):
                found[key] = int(value) if _INTEGER.fullmatch(value) else float(value)
        return found

    @property
    def resolved(self) -> dict[str, Any]:
        """The plain values, every reference followed, without Hydra's own node."""
        if self.template.follows:
            plain = resolve(self.config)
        else:
            plain = copy.deepcopy(self.template.resolved)
            for path, value in self.values.items():
                branch, name = _within(plain, path)
                branch[name] = value
        if self.parent is not None:
            plain["model"] = self.parent.model
        return _settled(plain, self.traced)

    @property
    def config(self) -> DictConfig:
        """The config, as Hydra composes it."""
        config = copy.deepcopy(self.template.config)
        with read_write(config), read_write(config.hydra), open_dict(config):
            for path, value in self.values.items():
                OmegaConf.update(config, path, value)
            for path, value in self.of_hydra.items():
                OmegaConf.update(config.hydra, path, value)
        return config

    @property
    def of_hydra(self) -> dict[str, Any]:
        """What Hydra's own node says of this job and of no other."""
        names = self.template.config.hydra.job.config.override_dirname
        excluded = set(names.exclude_keys)
        kept = sorted(each for each in self.words if _split(each)[0].lstrip("+~") not in excluded)
        return {
            "job.id": str(self.number),
            "job.num": self.number,
            "job.override_dirname": names.item_sep.join(kept).replace("=", names.kv_sep),
            "overrides.task": list(self.words),
        }


def compose(
    loader: ConfigLoader,
    master: DictConfig,
    overrides: Sequence[Sequence[str]],
    numbers: Iterable[int],
) -> Iterator[Job]:
    """The jobs of a sweep, with their numbers, in order; each as it is ready."""
    setup_globals()
    templates: dict[tuple[frozenset[str], tuple[str, ...]], Template] = {}
    for number, job in zip(numbers, overrides, strict=True):
        template = _find(templates, job)
        if template is None:
            with composing(job):
                config = loader.load_sweep_config(master, list(job))
            resolved = resolve(config)
            traced = dict(declared(build(resolved)))
            template = Template(config, resolved, traced, _follows(config, traced))
            paths = frozenset(template.traced)
            templates[paths, _rest(job, paths)] = template
        task = [each for each in job if not each.lstrip("+~").startswith(("hydra.", "hydra/"))]
        yield Job(number, tuple(task), template)


def _follows(config: DictConfig, traced: Iterable[str]) -> bool:
    """Whether a value of a config may follow a number at a traced path; rather once too often.

    A reference is to a name or to a branch that holds it; whatever else is computed may look
    anywhere.
    """
    paths = [path.split(".") for path in traced]
    plain: Any = OmegaConf.to_container(config, resolve=False)
    plain.pop("hydra")
    for text in _texts(plain):
        for inner in _REFERENCE.findall(text):
            if inner.startswith(_OF_NO_JOB):
                continue
            steps = re.split(r"[.\[\]]+", inner)
            if ":" in inner or not steps[0]:  # computed, or relative
                return True
            if any(path[: len(steps)] == steps[: len(path)] for path in paths):
                return True
    return False


def _texts(plain: Any) -> Iterator[str]:
    if isinstance(plain, str):
        yield plain
    elif isinstance(plain, dict | list):
        for each in plain.values() if isinstance(plain, dict) else plain:
            yield from _texts(each)


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
        setbase(VERSION_BASE.get("version_base", _UNSPECIFIED_))
        yield
    finally:
        Singleton._instances.clear()
        Singleton._instances.update(before)


def _split(override: str) -> tuple[str, str]:
    key, _, value = override.partition("=")
    return key, value


def is_number(text: str) -> bool:
    return bool(_INTEGER.fullmatch(text) or _FLOAT.fullmatch(text))


def _rest(job: Sequence[str], paths: frozenset[str]) -> tuple[str, ...]:
    """The overrides of a job; of a traced number only that it is there."""
    return tuple(
        key if key in paths and is_number(value) else override
        for override in job
        for key, value in [_split(override)]
    )


def _find(
    templates: dict[tuple[frozenset[str], tuple[str, ...]], Template], job: Sequence[str]
) -> Template | None:
    for paths in {paths for paths, _ in templates}:
        template = templates.get((paths, _rest(job, paths)))
        if template is not None:
            return template
    return None


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
    rests: dict[Any, str] = {}  # what jobs have in common whose words differ in numbers alone
    for job in jobs:
        numbers = _numbers(job)
        known = (id(job.template), tuple(numbers), job.parent and job.parent.shape)
        if job.template.follows or job.parent or known not in rests:
            rests[known] = _same(job, numbers)
        members = groups.setdefault(rests[known], ([], []))
        members[0].append(job)
        members[1].append(numbers)
    return [
        Group(jobs, {path: np.stack([each[path] for each in numbers]) for path in numbers[0]})
        for jobs, numbers in groups.values()
    ]


def _numbers(job: Job) -> dict[str, np.ndarray]:
    """A job's number at each traced path, but for shares of 0."""
    plain = job.resolved if job.template.follows or job.parent else job.template.resolved
    said = {} if job.template.follows else job.values
    found = {}
    for path, kind in job.traced.items():
        if path in said or _has(plain, path):
            steps = path.split(".")
            value = said[path] if path in said else functools.reduce(getitem, steps, plain)
            if not _is_left_out(value, kind):
                found[path] = _number(path, value, kind)
    return found


def _same(job: Job, numbers: Iterable[str]) -> str:
    """What two jobs of one program have in common."""
    rest = job.resolved
    for path in numbers:
        branch, name = _within(rest, path)
        del branch[name]
    rest.pop("start", None)  # a folder, of which what counts is the shapes; so of a teacher
    (rest.get("distil") or {}).pop("teacher", None)
    shapes = [each and each.shape for each in (job.parent, job.teacher)]
    return json.dumps([rest, list(numbers), job.stage, shapes], sort_keys=True)


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


def _is_left_out(value: Any, kind: type) -> bool:
    return kind is Share and not isinstance(value, bool) and value == 0


def _settled(config: dict[str, Any], traced: dict[str, type]) -> dict[str, Any]:
    """The config with each share of 0 as 0.0, so that 0 and 0.0 are one run."""
    for path, kind in traced.items():
        if kind is Share and _has(config, path):
            branch, name = _within(config, path)
            if _is_left_out(branch[name], kind):
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

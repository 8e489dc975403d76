"""One config for each job, composed once for all jobs that differ only in varying numbers.

Composing takes Hydra tens of milliseconds, for hundreds of jobs longer than training them. Where
the overrides that differ are plain numbers at varying paths, the first job's config is copied and
the numbers are set: the same config, as a test over random overrides keeps it.
"""

import copy
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import setup_globals
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from smallnets.launch.build import build
from smallnets.varying import declared

_INTEGER = re.compile(r"[+-]?(0|[1-9]\d*)")
_FLOAT = re.compile(r"[+-]?(\d+\.\d*|\d*\.\d+|\d+(\.\d*)?[eE][+-]?\d+)")


class Job(NamedTuple):
    """One job of a multirun.

    ``config`` is what Hydra's ``run_job`` takes, ``resolved`` its plain values without Hydra's own,
    ``varying`` the type of each number that may vary inside a program, by its dotted path.
    """

    number: int
    config: DictConfig
    resolved: dict[str, Any]
    varying: dict[str, type]


class _Template(NamedTuple):
    config: DictConfig
    varying: dict[str, type]


def compose(
    context: HydraContext, master: DictConfig, overrides: Sequence[Sequence[str]], first: int
) -> Iterator[Job]:
    """The jobs of a multirun, numbered from ``first``, in order; each as it is ready."""
    setup_globals()
    templates: dict[tuple[frozenset[str], tuple[str, ...]], _Template] = {}
    for number, job in enumerate(overrides, start=first):
        template = _find(templates, job)
        if template is None:
            config = context.config_loader.load_sweep_config(master, list(job))
            template = _Template(config, dict(declared(build(resolve(config)))))
            paths = frozenset(template.varying)
            templates[paths, _rest(job, paths)] = template
        config = _with_values(template, job, number)
        yield Job(number, config, resolve(config), template.varying)


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


def _split(override: str) -> tuple[str, str]:
    key, _, value = override.partition("=")
    return key, value


def _is_number(text: str) -> bool:
    return bool(_INTEGER.fullmatch(text) or _FLOAT.fullmatch(text))


def _rest(job: Sequence[str], paths: frozenset[str]) -> tuple[str, ...]:
    """The overrides of a job; of a varying number only that it is there."""
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
            if key in template.varying and _is_number(value):
                plain = int(value) if _INTEGER.fullmatch(value) else float(value)
                OmegaConf.update(config, key, plain)
        config.hydra.job.id = config.hydra.job.num = number
        config.hydra.overrides.task = task
        names = config.hydra.job.config.override_dirname
        excluded = set(names.exclude_keys)
        kept = sorted(each for each in task if _split(each)[0].lstrip("+~") not in excluded)
        config.hydra.job.override_dirname = names.item_sep.join(kept).replace("=", names.kv_sep)
    return config

"""What runs are called: a family, which is one curve of a study, and a task.

A label comes from the calls that build the network, defaults included and sizes left out, not from
how they were written: ``family=mixture`` and ``+model/mixture=top_k`` make the same calls and are
one curve. It says the network and the family that are nearest, and every value that differs from
theirs, so that two networks with one label make the same calls.
"""

import contextlib
import itertools
import os
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.default_element import ConfigDefault
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import OmegaConf

from smallnets.allowed import check_targets
from smallnets.sweep.build import CHECKED
from smallnets.sweep.jobs import Job, resolve
from smallnets.traced import calls, public_name
from smallnets.training.trainer import Trainer

SIZES = {"width", "hidden", "features", "widths"}  # a network larger, not another one
PLAIN = "dense"  # the family that every network has
ABSENT = object()


class Labels:
    """The labels of jobs, by what the configs of ``loader`` offer; each is composed once."""

    def __init__(self, loader: ConfigLoaderImpl):
        self._loader = loader
        self._composed: dict[tuple[str, ...], partial[Trainer]] = {}

    def family(self, job: Job, tree: partial[Trainer]) -> str:
        """``NETWORK FAMILY``, and after them what differs, as ``path=value``.

        Where the chosen network and family are not what the job's tree makes, all families of all
        networks of its class are compared, and the first of the nearest is taken.
        """
        knobs = tree.keywords["budget"]().knobs
        sizes = {*SIZES, *(path.rpartition(".")[2] for path in knobs)}
        choices = job.choices

        def network(model: str, family: str) -> dict[str, Any]:
            return _network(self._tree(model, family, choices.task, tree), sizes)

        def named(model: str) -> str:
            """The model whose YAML this one's starts from, where sizes alone are said anew."""
            parent = self._parent(model)
            same = parent and network(parent, PLAIN) == network(model, PLAIN)
            return named(parent) if parent and same else model

        said = _network(tree, sizes)
        nearest = named(choices.model), choices.family
        changed = _differences(said, network(*nearest))
        if changed:
            of_its_class = []  # composing all families of the others takes long
            for model in self._loader.get_group_options("model"):
                if not self._may_be(model, said["model"]):
                    continue
                with contextlib.suppress(ValueError):  # of a package that is not allowed here
                    if network(model, PLAIN)["model"] is said["model"] and named(model) == model:
                        of_its_class.append(model)
            families = self._loader.get_group_options("family")
            for model, family in itertools.product(of_its_class, families):
                with contextlib.suppress(ValueError):
                    other = _differences(said, network(model, family))
                    if len(other) < len(changed):
                        nearest, changed = (model, family), other
        return " ".join([*nearest, *changed])

    def task(self, job: Job, tree: partial[Trainer]) -> str:
        """``TASK``, and after it what differs from its config, as ``path=value``.

        Of a path on this machine the last name is said, and the last two of a version; what is
        scored besides makes no other task.
        """
        choices = job.choices
        own = self._tree(choices.model, choices.family, choices.task, tree)
        said, own = (_leaves(each.keywords["task"], "") for each in (tree, own))
        return " ".join([choices.task, *_differences(said, own, leave_out=("cache", "metrics"))])

    def _may_be(self, model: str, said: Any) -> bool:
        """Whether the YAML of a model names a class of that name, or none, as its parent's may."""
        found = self._loader.repository.load_config(f"model/{model}")
        target = OmegaConf.select(found.config, "_target_", default="") if found else ""
        return not target or target.rpartition(".")[2] == public_name(said).rpartition(".")[2]

    def _parent(self, model: str) -> str | None:
        """The model that the defaults of a model's YAML name, or None.

        What else they name, as a schema, is none that a command could choose.
        """
        found = self._loader.repository.load_config(f"model/{model}")
        for default in (found and found.defaults_list) or ():
            if isinstance(default, ConfigDefault) and default.path:
                name = default.path.removeprefix("/model/")
                if name in self._loader.get_group_options("model"):
                    return name
        return None

    def _tree(self, model: str, family: str, task: str, tree: partial[Trainer]) -> partial[Trainer]:
        """The calls of a config with these choices; what it leaves to be given is None.

        It allows what ``tree`` does. Raises ValueError where it names code that is not allowed.
        """
        allowed = f"allow=[{','.join(tree.keywords['allow'])}]"
        choices = (f"model={model}", f"family={family}", f"task={task}", allowed)
        if choices not in self._composed:
            config = self._loader.load_configuration("config", [*choices], RunMode.RUN)
            resolved = OmegaConf.create(resolve(config))
            for key in OmegaConf.missing_keys(resolved):
                OmegaConf.update(resolved, key, None)
            plain: Any = OmegaConf.to_container(resolved)
            check_targets(plain, plain["allow"])
            self._composed[choices] = instantiate(resolved, _convert_="all", **CHECKED)
        return self._composed[choices]


def _network(tree: partial[Trainer], sizes: set[str]) -> dict[str, Any]:
    """What belongs to a curve: the network's calls without sizes, and the parametrization."""
    found = {}
    for name in ("model", "parametrization"):
        for path, value in _leaves(tree.keywords[name], name).items():
            if path.rpartition(".")[2] not in sizes:
                found[path] = value
            elif isinstance(value, list | tuple):
                found[f"{path}.count"] = len(value)
    return found


def _leaves(tree: Any, path: str) -> dict[str, Any]:
    return dict(calls(tree, path))


def _differences(
    said: dict[str, Any], own: dict[str, Any], leave_out: Sequence[str] = ()
) -> list[str]:
    return [
        f"{path.removeprefix('model.')}={_format(value)}"
        for path, value in sorted(said.items())
        if path not in leave_out and not _equal(own.get(path, ABSENT), value)
    ]


def _equal(one: Any, other: Any) -> bool:
    return one is other or (type(one) is type(other) and one == other)


def _format(value: Any) -> str:
    """A value without a space: a class of ours by its name, a path by its end."""
    if callable(value):
        name = public_name(value)
        return name.rpartition(".")[2] if name.startswith("smallnets.") else name
    if isinstance(value, str) and os.sep in value:
        *_, parent, name = ["", *value.rstrip(os.sep).split(os.sep)]
        return f"{parent}/{name}" if name.replace(".", "").isdigit() else name
    if isinstance(value, np.generic):
        value = value.item()
    return str(value).replace(" ", "")

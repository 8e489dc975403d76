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
from hydra.core.config_loader import ConfigLoader
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import OmegaConf

from smallnets.allowed import check_targets
from smallnets.sweep.jobs import Job, resolve
from smallnets.traced import calls, public_name
from smallnets.training.trainer import Trainer

SIZES = {"width", "hidden", "features", "widths"}  # a network larger, not another one
PLAIN = "dense"  # the family that every network has
ABSENT = object()


class Labels:
    """The labels of jobs, by what the configs of ``loader`` offer; each is composed once."""

    def __init__(self, loader: ConfigLoader):
        self._loader = loader
        self._composed: dict[tuple[str, ...], partial[Trainer]] = {}

    def family(self, job: Job, tree: partial[Trainer]) -> str:
        """``NETWORK FAMILY``, and after them what differs, as ``path=value``.

        Where the chosen network and family are not what the job's tree makes, all families of all
        networks of its class are compared, and the first of the nearest is taken.
        """
        sizes, allow = {*SIZES, *tree.keywords["budget"]().knobs}, _allowing(tree)

        def network(model: str, family: str) -> dict[str, Any]:
            return _network(self._tree(f"model={model}", f"family={family}", allow), sizes)

        said = _network(tree, sizes)
        choices = job.config.hydra.runtime.choices
        nearest = choices.model, choices.family
        changed = _differences(said, network(*nearest))
        if changed:
            of_its_class = []  # composing all families of the others takes long
            for model in self._loader.get_group_options("model"):
                with contextlib.suppress(ValueError):  # of a package that is not allowed here
                    if network(model, PLAIN)["model"] is said["model"]:
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
        chosen = job.config.hydra.runtime.choices.task
        said = _leaves(tree.keywords["task"], "")
        own = _leaves(self._tree(f"task={chosen}", _allowing(tree)).keywords["task"], "")
        return " ".join([chosen, *_differences(said, own, leave_out=("cache", "metrics"))])

    def _tree(self, *choices: str) -> partial[Trainer]:
        """The calls of a config with these choices; what it leaves to be given is None.

        Raises ValueError where they name code that is not allowed.
        """
        if choices not in self._composed:
            config = self._loader.load_configuration("config", [*choices], RunMode.RUN)
            resolved = OmegaConf.create(resolve(config))
            for key in OmegaConf.missing_keys(resolved):
                OmegaConf.update(resolved, key, None)
            plain: Any = OmegaConf.to_container(resolved)
            check_targets(plain, plain["allow"])
            self._composed[choices] = instantiate(resolved, _convert_="all")
        return self._composed[choices]


def _allowing(tree: partial[Trainer]) -> str:
    """The word by which a config allows what the tree's does."""
    return f"allow=[{','.join(tree.keywords['allow'])}]"


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

"""From the words of a command line to trained runs: jobs, their plan, and its execution.

Only what the command itself needs is here, so that its help loads nothing heavy.
"""

import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

_HERE = Path(__file__).parents[1]
CONF = next(path for path in (_HERE / "conf", _HERE.parent / "conf") if path.is_dir())


# Hydra 1.3 is told whose behaviour is meant; 1.4 has only one, and warns of being told.
VERSION_BASE: dict[str, Any] = (
    {"version_base": "1.3"} if version("hydra-core").startswith("1.3") else {}
)


class FailedRunsError(Exception):
    """Some runs of a sweep failed; ``runs`` are the others, which are finished and stay."""

    def __init__(self, message: str, runs: list[Any]):
        super().__init__(message)
        self.runs = runs


class StoppedError(Exception):
    """A sweep was asked to end, and has left checkpoints of what was under way."""


def data_name(task: str, source: str | None) -> str:
    """What a study's folder says of its data: ``arrays-digits`` of task arrays, data/digits.npz.

    A source that is called as its task is not said twice.
    """
    name = Path(source or task).stem
    return task if name.replace("-", "_") == task else f"{task}-{name}"


# OmegaConf 2.4 calls it otherwise, by the name of another function of 2.3.
_OMEGACONF: Any = OmegaConf
_register = _OMEGACONF.register_new_resolver if VERSION_BASE else _OMEGACONF.register_resolver
_register("smallnets.data_name", data_name, replace=True)


def with_hint(said: str) -> str:
    """A message of Hydra's about a family that was named as a model, with what names it now."""
    for path in (CONF / "family").glob("*.yaml"):
        family = path.stem
        for old, network in ((family, ""), (f"transformer_{family}", "model=transformer ")):
            if f"Could not find 'model/{old}'" in said:
                return (
                    f"model lists networks, and {family} is a family of any of them: write "
                    f"{network}family={family} in place of model={old}"
                )
    return said


def forget_an_empty_cache() -> None:
    """Take an empty XDG_CACHE_HOME out of the environment: by its specification it is not set."""
    if os.environ.get("XDG_CACHE_HOME") == "":
        del os.environ["XDG_CACHE_HOME"]

"""From a job's config to the objects that it describes; what is wrong with them is one line."""

import difflib
import inspect
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from hydra.utils import instantiate
from omegaconf import OmegaConf

from smallnets.allowed import check_targets
from smallnets.sweep import with_hint
from smallnets.tasks.data import Data
from smallnets.training.trainer import Trainer


def build(config: dict[str, Any]) -> partial[Trainer]:
    """The tree of partials that a resolved config stands for; its root builds a :class:`Trainer`.

    Raises ValueError where a value is missing, or a target is of no package that the config allows,
    does not exist or does not take what it is given.
    """
    with one_line():
        plain = OmegaConf.create(config)
        for key in sorted(OmegaConf.missing_keys(plain)):
            raise ValueError(f"{key} must be given: add {key}=... to the command")
        check_targets(config, config.get("allow", ()))
        tree = instantiate(plain, _convert_="all")
        for path, node in _partials(tree):
            _check_keywords(path, node)
    return tree


def load(tree: partial[Trainer]) -> tuple[Trainer, Data]:
    """The trainer and its data; raises ValueError for what is wrong with either."""
    with one_line():
        trainer = tree()
        trainer.budget()  # refuses what is no budget
        return trainer, trainer.task()


def check(trainer: Trainer, data: Data, label: str, start: Any = None) -> Any:
    """The trainer's network with abstract arrays; raises ValueError where it can't be built.

    What its parts warn of is printed here, one line each, and nowhere else.
    """
    with one_line(f"{label}: "), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        network = trainer.check(data, start)
    for message in dict.fromkeys(str(warning.message) for warning in caught):
        print(f"smallnets: warning: {label}: {message}", file=sys.stderr)
    return network


@contextmanager
def one_line(prefix: str = "") -> Iterator[None]:
    """Turn whatever goes wrong in what the user configured into a ValueError of one line.

    The code that raises may be the user's own: HYDRA_FULL_ERROR=1 shows where.
    """
    try:
        yield
    except Exception as error:
        kind = "" if isinstance(error, (ValueError, OSError)) or _of_hydra(error) else type(error)
        name = f"{kind.__name__}: " if kind else ""
        raise ValueError(with_hint(" ".join(f"{prefix}{name}{error}".split()))) from error


def _of_hydra(error: Exception) -> bool:
    return type(error).__module__.split(".")[0] in ("hydra", "omegaconf")


def _partials(tree: Any, path: str = "") -> Iterator[tuple[str, partial[Any]]]:
    if isinstance(tree, partial):
        yield path, tree
        tree = tree.keywords
    if isinstance(tree, Mapping):
        for name, branch in tree.items():
            yield from _partials(branch, f"{path}.{name}" if path else name)


def _check_keywords(path: str, node: partial[Any]) -> None:
    target = node.func.__init__ if inspect.isclass(node.func) else node.func
    parameters = inspect.signature(target).parameters.values()
    if any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters):
        return
    known = [each.name for each in parameters if each.name != "self"]
    for name in node.keywords:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}" if close else f"it takes {', '.join(known)}"
            raise ValueError(
                f"{path or 'the config'}: {node.func.__qualname__} takes no '{name}': {hint}"
            )

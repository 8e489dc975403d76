"""From a job's config to the objects that it describes, and every check before anything runs."""

import difflib
import inspect
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf import OmegaConf

from smallnets.launch.usage import UsageError
from smallnets.tasks.data import Data
from smallnets.train.run import Run


def build(config: dict[str, Any]) -> partial[Run]:
    """The tree of partials that a resolved config stands for; its root builds a :class:`Run`.

    Raises UsageError where a target does not exist or does not take what it is given.
    """
    try:
        tree = instantiate(OmegaConf.create(config), _convert_="all")
    except HydraException as error:
        raise UsageError(error) from error
    for path, node in _partials(tree):
        _check_keywords(path, node)
    return tree


def load(run: partial[Run]) -> tuple[Run, Data]:
    """The run and its data; raises UsageError for what is wrong with either."""
    try:
        built = run()
        return built, built.task()
    except (ValueError, TypeError, OSError) as error:
        raise UsageError(error) from error


def check(run: Run, data: Data, name: str) -> Any:
    """The run's network with abstract arrays; raises UsageError where it can't be built."""
    try:
        return run.check(data)
    except (ValueError, TypeError) as error:
        raise UsageError(f"{name}: {error}") from error


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
    known = [each.name for each in parameters if each.kind is inspect.Parameter.KEYWORD_ONLY]
    for name in node.keywords:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}" if close else f"it takes {', '.join(known)}"
            raise UsageError(
                f"{path or 'the config'}: {node.func.__qualname__} takes no '{name}': {hint}"
            )

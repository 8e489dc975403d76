"""From a job's config to the objects that it describes, and every check before anything runs."""

import difflib
import inspect
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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

    Raises UsageError where a value is missing, or a target does not exist or does not take what
    it is given.
    """
    with usage():
        plain = OmegaConf.create(config)
        for key in sorted(OmegaConf.missing_keys(plain)):
            raise UsageError(f"{key} must be given: add {key}=... to the command")
        tree = instantiate(plain, _convert_="all")
        for path, node in _partials(tree):
            _check_keywords(path, node)
    return tree


def load(run: partial[Run]) -> tuple[Run, Data]:
    """The run and its data; raises UsageError for what is wrong with either."""
    with usage():
        built = run()
        built.budget()  # refuses what is no budget
        return built, built.task()


def check(run: Run, data: Data, name: str) -> Any:
    """The run's network with abstract arrays; raises UsageError where it can't be built.

    What its parts warn of is said here, one line each, and nowhere else.
    """
    with usage(f"{name}: "), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        network = run.check(data)
    for said in dict.fromkeys(str(warning.message) for warning in caught):
        print(f"smallnets: warning: {name}: {said}", file=sys.stderr)
    return network


@contextmanager
def usage(prefix: str = "") -> Iterator[None]:
    """Whatever goes wrong in what the user configured is one line to him: the code may be his.

    HYDRA_FULL_ERROR=1 shows where.
    """
    try:
        yield
    except UsageError:
        raise
    except (ValueError, OSError, HydraException) as error:
        raise UsageError(f"{prefix}{error}") from error
    except Exception as error:
        raise UsageError(f"{prefix}{type(error).__name__}: {error}") from error


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
            raise UsageError(
                f"{path or 'the config'}: {node.func.__qualname__} takes no '{name}': {hint}"
            )

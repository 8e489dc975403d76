"""From a job's config to the objects that it describes; what is wrong with them is one line."""

import difflib
import inspect
import math
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import hydra.utils
import jax
import numpy as np
from hydra.utils import instantiate
from omegaconf import OmegaConf

from smallnets.allowed import check_targets
from smallnets.sweep import with_hint
from smallnets.tasks.data import Data
from smallnets.traced import annotations, public_name
from smallnets.training.trainer import Trainer

# Hydra 1.4 wants to know what a config may call; allowed.py has looked, more strictly, and before.
_UNCHECKED = getattr(hydra.utils, "UNSAFE_DISABLE_EXECUTION_CHECKS", None)
CHECKED: dict[str, Any] = {} if _UNCHECKED is None else {"_execution_whitelist_": _UNCHECKED}
LARGEST = 2**31 - 1  # of whole numbers: counts and sizes have 32 bits in a program
ROOT = ("_target_", "_partial_", "allow")  # what every config has and no signature asks for
LISTS = (list, Sequence)
ARRAYS = (jax.Array, np.ndarray, np.number, np.bool_, complex)  # a config has a number for each
KINDS: dict[Any, str] = {
    int: f"a whole number up to {LARGEST}",
    float: "a finite number",
    bool: "true or false",
    str: "text",
    NoneType: "null",
    Callable: "a node with a _target_",
}


def build(config: dict[str, Any]) -> partial[Trainer]:
    """The tree of partials that a resolved config stands for; its root builds a :class:`Trainer`.

    Raises ValueError where a value is missing or not of the type that the signature annotates, and
    where a target is of no package that the config allows, does not exist or does not take what it
    is given.
    """
    with one_line():
        plain = OmegaConf.create(config)
        for key in sorted(OmegaConf.missing_keys(plain)):
            raise ValueError(f"{key} must be given: add {key}=... to the command")
        for key in ROOT:
            if key not in config:
                raise ValueError(f"{key} must stand in the config: leave ~{key} out")
        _check_partials(config)
        check_targets(config, config.get("allow", ()))
        tree = instantiate(plain, _convert_="all", **CHECKED)
        if not isinstance(tree, partial):
            raise ValueError(
                f"_target_: {config['_target_']} with _partial_: {config['_partial_']} would be "
                "called now, and not by the run: leave _partial_: true as it is"
            )
        for path, node in _partials(tree):
            _check_keywords(path, node)
            _check_values(path, node)
    return tree


def load(tree: partial[Trainer], call: str, loaded: dict[str, Data]) -> Data:
    """The data of a trainer; raises ValueError for what is wrong with either.

    ``loaded`` holds what was loaded before, by the task's ``call``, and takes up what was not: so
    the programs of a plan that make one call share one ``Data``, in memory and on the device.
    """
    with one_line():
        trainer = tree()
        trainer.budget()  # refuses what is no budget
        if call not in loaded:
            data: object = trainer.task()
            if not isinstance(data, Data):
                raise ValueError(
                    f"task: {public_name(tree.keywords['task'].func)} must return a smallnets."
                    f"tasks.Data, but returns a {type(data).__name__}: make one of its arrays"
                )
            loaded[call] = data
        return loaded[call]


def check(trainer: Trainer, data: Data, label: str, start: Any = None, teacher: Any = None) -> Any:
    """The trainer's network with abstract arrays; raises ValueError where it can't be built.

    What its parts warn of is printed here, one line each, and nowhere else.
    """
    with one_line(f"{label}: "), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        network = trainer.check(data, start, teacher)
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
        ours = isinstance(error, (ValueError, OSError))
        kind = "" if ours or _of_hydra(error) else type(error)
        name = f"{kind.__name__}: " if kind else ""
        if isinstance(error, TypeError) and "missing" in str(error) and "required" in str(error):
            name = "a value must be given that was left out: "
        raise ValueError(with_hint(" ".join(f"{prefix}{name}{error}".split()))) from error


def raised_by_own_code(error: BaseException | None, packages: Sequence[str]) -> bool:
    """Whether an error came through code of ``packages``, those that a config allows."""
    while error is not None:
        for frame, _ in traceback.walk_tb(error.__traceback__):
            if str(frame.f_globals.get("__name__")).partition(".")[0] in packages:
                return True
        error = error.__cause__
    return False


def _check_partials(config: Mapping[str, Any]) -> None:
    """Raise ValueError where a part of the trainer would be called now, and not by the trainer."""
    for name, part in config.items():
        called = isinstance(part, Mapping) and "_target_" in part
        if called and part.get("_partial_") is not True:
            raise ValueError(
                f"{name}: beside _target_: {part['_target_']} must stand _partial_: true, since "
                f"{name} is called later: add that line to the YAML that {name}=... chooses"
            )


def _of_hydra(error: Exception) -> bool:
    of = type(error).__module__.split(".")[0]
    return of in ("hydra", "omegaconf") or str(error).startswith("Instantiation: ")


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


def _check_values(path: str, node: partial[Any]) -> None:
    """Raise ValueError for a plain value of another type than the signature annotates.

    Numbers that may vary inside a program differ from job to job: ``jobs.group`` checks those.
    """
    hints = annotations(node.func)
    for name, value in node.keywords.items():
        hint = hints.get(name, Any)
        if not _fits(value, hint):
            wanted = " or ".join(KINDS[kind] for kind in _kinds(hint))
            several = "a list, each item " if get_origin(hint) in LISTS else ""
            dot = f"{path}.{name}" if path else name
            raise ValueError(f"{dot} must be {several}{wanted}, but is {value!r}: give one")


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is of an annotated type: of plain types, lists of them and callables."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return True
    if origin in (Union, UnionType):
        if jax.Array in parts:
            parts = [part for part in parts if part is not bool]  # an array's true is no number
        return any(_fits(value, part) for part in parts)
    if origin in LISTS:
        return isinstance(value, list) and all(_fits(each, parts[0]) for each in value)
    if Callable in (origin, hint):
        return callable(value)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LARGEST
    if hint is float or hint in ARRAYS:
        return type(value) in (int, float) and math.isfinite(value)
    return isinstance(value, hint) if hint in KINDS else True


def _kinds(hint: Any) -> list[Any]:
    """The plain types within an annotation."""
    for kind in (hint, get_origin(hint)):
        if kind in KINDS:
            return [kind]
    return [kind for part in get_args(hint) for kind in _kinds(part)]

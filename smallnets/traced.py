"""Which numbers may vary inside one compiled program.

A number that leaves every array shape as it is can be an input of the program, so that runs which
differ only there are trained together. Who owns the number says so where it is declared::

    def gradient_transformation(*, learning_rate: Traced, weight_decay: Traced): ...

and nobody keeps a list of names. They are rates, decays, weights and seeds: numbers from 0.
Maps, losses and optimisers are built by ``functools.partial`` trees (Hydra's ``_partial_: true``),
in which :func:`assign` puts a value at a dotted path.
"""

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Annotated, Any, get_args

_MARK = "may vary inside a program"
Traced = Annotated[float, _MARK]
TracedInt = Annotated[int, _MARK]


class Fraction(float):
    """The kind of a :data:`TracedFraction`: in [0, 1)."""


class Share(Fraction):
    """The kind of a :data:`TracedShare`: in [0, 1), and 0 leaves out what it is a share of.

    So 0 is a constant of a program, and another value may vary.
    """


TracedFraction = Annotated[float, _MARK, Fraction]
TracedShare = Annotated[float, _MARK, Share]


def declared(tree: Any, path: str = "") -> Iterator[tuple[str, type]]:
    """Dotted path and type (such as ``float`` or ``Share``) of every traced number of a tree.

    ``tree`` is a partial or a mapping of them; a number counts also where the partial leaves it at
    its default.
    """
    dot = f"{path}." if path else ""
    if isinstance(tree, partial):
        for name, kind in _marked(tree.func).items():
            yield f"{dot}{name}", kind
        tree = tree.keywords
    if isinstance(tree, Mapping):
        for name, branch in tree.items():
            yield from declared(branch, f"{dot}{name}")


def assign(tree: Any, path: str, value: Any) -> Any:
    """``tree`` with ``value`` (a number or a tracer) at the dotted ``path``; the input is kept."""
    name, _, rest = path.partition(".")
    if isinstance(tree, partial):
        keywords = tree.keywords
        child = assign(keywords[name], rest, value) if rest else value
        return partial(tree.func, *tree.args, **{**keywords, name: child})
    return {**tree, name: assign(tree[name], rest, value) if rest else value}


def annotations(function: Callable[..., Any]) -> dict[str, Any]:
    """What a signature annotates its arguments with, by their names."""
    target = function.__init__ if inspect.isclass(function) else function
    return inspect.get_annotations(target, eval_str=True)  # names within Optax's are nowhere


def _marked(function: Callable[..., Any]) -> dict[str, type]:
    return {
        name: next(
            (kind for kind in (Share, Fraction) if kind in part.__metadata__), part.__origin__
        )
        for name, hint in annotations(function).items()
        for part in (hint, *get_args(hint))  # a number, or such a number or None
        if _MARK in getattr(part, "__metadata__", ())
    }


def calls(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted path and value of everything that a tree of partials says, its defaults included.

    A callable stands for itself at its own path, and its arguments below it: those that a partial
    gives, and those that have a default in the signature. So two trees that make the same calls
    give the same pairs, however they were written.
    """
    if isinstance(tree, partial) or (callable(tree) and not isinstance(tree, Mapping)):
        function, given = (tree.func, tree.keywords) if isinstance(tree, partial) else (tree, {})
        yield path, function
        defaults = {
            name: parameter.default
            for name, parameter in inspect.signature(function).parameters.items()
            if parameter.default is not inspect.Parameter.empty
        }
        tree = {**defaults, **given}
    if not isinstance(tree, Mapping):
        yield path, tree
        return
    for name, branch in tree.items():
        yield from calls(branch, f"{path}.{name}" if path else name)


def public_name(function: Any) -> str:
    """Where a class or function is imported from, by the shortest path that leads to it.

    The path that it was defined at, ``optax._src.alias.adamw``, may be private and move.
    """
    path, name = function.__module__.split("."), function.__qualname__
    for length in range(1, len(path)):
        module = ".".join(path[:length])
        if getattr(sys.modules.get(module), name, None) is function:
            return f"{module}.{name}"
    return f"{function.__module__}.{name}"

"""What a config, or the file of a model, may have imported: one list, asked before any import.

Importing a package runs its code, and a call may do anything. So names in files are looked up here,
and what stands in no package of the list gives one line. It keeps a config from another hand from
reaching past the packages that you trust; these themselves are not fenced in.
"""

import importlib
from collections.abc import Mapping, Sequence
from functools import partial
from types import ModuleType
from typing import Any

OURS = ("smallnets", "optax")


def locate(name: str, allow: Sequence[str], *, said_by: str, fix: str) -> Any:
    """The class or function of a dotted name, imported from ``OURS`` and ``allow`` alone.

    Nothing is imported unless the name begins with such a package, and what the name leads to must
    be defined in one too: ``smallnets.cli.os.system`` is not. ``said_by`` is what holds the name,
    ``fix`` how a package is allowed there, with ``{}`` for the package. Raises ValueError, one
    line, for what is not allowed, not there, or can't be imported.
    """

    def require(module: str) -> None:
        if not any(module == each or module.startswith(f"{each}.") for each in (*OURS, *allow)):
            where = "" if module == name else f", which is defined in {module}"
            package = module.partition(".")[0]
            raise ValueError(
                f"{said_by} names {name}{where}, but only {', '.join((*OURS, *allow))} are "
                f"imported: if you trust it, allow its package, as in {fix.format(package)}"
            )

    require(name)
    first, *rest = name.split(".")
    try:
        found: Any = importlib.import_module(first)
        for number, part in enumerate(rest):
            if isinstance(found, ModuleType) and not hasattr(found, part):
                importlib.import_module(".".join([first, *rest[: number + 1]]))
            found = getattr(found, part)
            require(_module(found))
    except (ImportError, AttributeError) as error:
        why = " ".join(str(error).split())
        raise ValueError(
            f"{said_by} names {name}, which is not there ({why}): install its package, or correct "
            "the name"
        ) from error
    return found


def _module(found: Any) -> str:
    """Where something is defined."""
    while isinstance(found, partial):
        found = found.func
    if isinstance(found, ModuleType):
        return found.__name__
    return str(getattr(found, "__module__", None))


def check_targets(config: Any, allow: Any) -> None:
    """Raise ValueError for the first ``_target_`` of a config that is not allowed or not there.

    ``allow`` is the config's own list of packages, as in ``allow=[mypackage]``.
    """
    if not isinstance(allow, list | tuple) or not all(isinstance(each, str) for each in allow):
        raise ValueError(
            f"allow must list the names of packages, but is {allow!r}: write allow=[mypackage]"
        )
    _check(config, tuple(allow), "")


def check_allowed(config: Mapping[str, Any], where: Any, allow: Sequence[str]) -> None:
    """Raise ValueError where a recorded config calls packages that ``allow`` does not name.

    A config of a command names its own; one that was read, of ``where``, may be another's.
    """
    if unnamed := sorted({*config.get("allow", ())} - {*allow}):
        raise ValueError(
            f"{where}: its config calls {', '.join(unnamed)}, whose code would be run: add "
            f"{' '.join(f'--allow {name}' for name in unnamed)} if you trust it"
        )


def _check(node: Any, allow: tuple[str, ...], path: str) -> None:
    if isinstance(node, list | tuple):
        node = dict(enumerate(node))
    if not isinstance(node, dict):
        return
    for key, value in node.items():
        here = f"{path}.{key}".lstrip(".")
        if key == "_target_" and isinstance(value, str):
            locate(value, allow, said_by=here, fix=f"allow=[{','.join((*allow, '{}'))}]")
        _check(value, allow, here)

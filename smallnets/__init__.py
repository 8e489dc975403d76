"""How small can the model be, and what does it really cost?"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smallnets import analysis, nn, tasks, testing, training
    from smallnets.decoding import generate, stream
    from smallnets.models import load
    from smallnets.sweep.execute import train
    from smallnets.sweep.plan import plan

__version__ = "0.1.0"
NUMERICS = 2  # raised when a run's numbers change: then runs of before are trained anew

_PUBLIC = {  # imported when they are first asked for, so that this module loads nothing heavy
    "plan": ("smallnets.sweep.plan", "plan"),
    "train": ("smallnets.sweep.execute", "train"),
    "load": ("smallnets.models", "load"),
    "generate": ("smallnets.decoding", "generate"),
    "stream": ("smallnets.decoding", "stream"),
    "analysis": ("smallnets.analysis", None),
    "nn": ("smallnets.nn", None),
    "testing": ("smallnets.testing", None),
    "tasks": ("smallnets.tasks", None),
    "training": ("smallnets.training", None),
}
__all__ = [
    "NUMERICS",
    "analysis",
    "generate",
    "load",
    "nn",
    "plan",
    "stream",
    "tasks",
    "testing",
    "train",
    "training",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'smallnets' has no attribute {name!r}")
    module, attribute = _PUBLIC[name]
    found = importlib.import_module(module)
    return getattr(found, attribute) if attribute else found

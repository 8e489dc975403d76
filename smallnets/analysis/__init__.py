"""From rows to claims: scaling laws, their intervals, and the report. Never loads JAX.

``read`` reads runs from a folder or a file, ``analyse`` fits a polars or pandas table of runs,
``write`` writes the report of it::

    study = smallnets.analysis.analyse(table, size="params", score="loss", family="arch")
    smallnets.analysis.write(study, "report")
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smallnets.analysis.report import write
    from smallnets.analysis.study import analyse
    from smallnets.analysis.table import read

_PUBLIC = {"analyse": "study", "read": "table", "write": "report"}  # imported when asked for
__all__ = ["analyse", "read", "write"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'smallnets.analysis' has no attribute {name!r}")
    return getattr(importlib.import_module(f"smallnets.analysis.{_PUBLIC[name]}"), name)

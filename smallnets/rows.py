"""The row: one frozen record of plain numbers for each run, kept as one JSON file.

A file is written beside its name and renamed onto it, so that a reader never meets half a row
and many processes may write into one folder, on a network disk too.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from smallnets.files import replacing

NAME = "row.json"


@dataclass(frozen=True, kw_only=True)
class Row:
    """What one training run was and what it gave.

    ``metrics`` holds the numbers at the last step (``validation_error``, ``test_loss``, ...) and,
    under ``best_...``, those at the step with the lowest validation loss. ``curves`` holds the same
    metrics at every evaluation, beside ``step``. Errors are shares of wrong answers, losses nats;
    of text there is ``<split>_bits_per_byte`` too. A run whose training loss left the finite
    numbers, or that ended with any metric outside them, has ``status`` ``"diverged"`` and NaN
    metrics from there on. ``seconds`` is the run's share of its
    program's wall time, ``compile_seconds`` the whole program's; other programs may have run beside
    it, so neither is a cost to compare by. ``costs`` is what the network costs by every axis that
    is counted: ``params`` and ``active_params``, ``flops`` of the products of a forward pass per
    example, ``bytes``. So networks of one budget can be compared by the others. Sizes that a budget
    chose stand in ``config``. ``energy`` is what training took, without compiling: ``joules``,
    their ``source`` (``"meter"``, ``"model"``, or None where there is no number), what they
    ``cover``, and a model's ``low_joules`` and ``high_joules``. ``key`` is a digest of what
    determined the numbers, and the name of the run's folder; ``parent`` is the key of the run that
    it started from and which of its models, ``KEY-last`` or ``KEY-best``; ``saved`` says which
    model lies beside the row: the ``last``, the ``best``, or ``none``.
    """

    family: str
    task: str
    seed: int
    parameters: int
    status: str
    metrics: dict[str, float]
    curves: dict[str, list[float]]
    seconds: float
    compile_seconds: float
    execution: str
    members: int
    device: str
    commit: str
    versions: dict[str, str] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    costs: dict[str, float] = field(default_factory=dict)
    energy: dict[str, Any] = field(default_factory=dict)
    key: str = ""
    parent: str = ""
    saved: str = "none"


def write(row: Row, folder: Path) -> Path:
    """Write ``row`` as ``folder/row.json`` in one step; return the path."""
    path = Path(folder) / NAME
    with replacing(path) as draft:
        draft.write_text(json.dumps(_without_nan(asdict(row)), indent=1, allow_nan=False))
    return path


def load(folder: Path) -> Iterator[Row]:
    """Every row below ``folder``, in the order of their paths."""
    return (read(path.parent) for path in sorted(Path(folder).rglob(NAME)))


def read(folder: Path) -> Row:
    """The row of one run; raises OSError, ValueError, TypeError or KeyError where it is none."""
    stored = json.loads((Path(folder) / NAME).read_text())
    stored["metrics"] = _with_nan(stored["metrics"])
    stored["curves"] = _with_nan(stored["curves"])
    return Row(**stored)


def _without_nan(value: Any) -> Any:
    """JSON has no NaN and no infinity: null stands for both."""
    if isinstance(value, dict):
        return {name: _without_nan(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_without_nan(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _with_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _with_nan(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_with_nan(each) for each in value]
    return math.nan if value is None else value

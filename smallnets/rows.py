"""The row: one frozen record of plain numbers for each run, kept as one JSON file.

A file is written beside its name and renamed onto it, so that a reader never meets half a row
and many processes may write into one folder, on a network disk too.
"""

import json
import math
import warnings
from collections.abc import Collection, Iterator
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_origin

from smallnets.files import replacing

NAME = "row.json"
JOBS = "jobs.jsonl"  # beside the runs: a line for each job that a sweep was to train
NUMBERS = ("metrics", "curves", "costs")  # fields whose null stands for a NaN


@dataclass(frozen=True, kw_only=True)
class Row:
    """What one training run was and what it gave.

    ``metrics`` holds the numbers at the last step (``validation_error``, ``test_loss``, ...) and,
    under ``best_...``, those at the step with the lowest validation loss. ``curves`` holds the same
    metrics at every evaluation, beside ``step``. Errors are shares of wrong answers, losses nats;
    of text there is ``<split>_bits_per_byte`` too. A run whose training loss left the finite
    numbers, or that ended with any loss outside them, has ``status`` ``"diverged"`` and NaN metrics
    from there on. ``seconds`` is the run's share of its program's wall time, ``compile_seconds``
    the whole program's; other programs may have run beside it, so neither is a cost to compare by.
    ``costs`` is what the network costs by every axis that is counted: ``params`` and
    ``active_params``, ``flops`` of the products of a forward pass per example, ``bytes``. So
    networks of one budget can be compared by the others. Sizes that a budget
    chose stand in ``config``. ``energy`` is what training took, without compiling: ``joules``,
    their ``source`` (``"meter"``, ``"model"``, or None where there is no number), what they
    ``cover``, and a model's ``low_joules`` and ``high_joules``. ``key`` is a digest of what
    determined the numbers, and the name of the run's folder; ``parent`` is the key of the run that
    it started from and which of its models, ``KEY-last`` or ``KEY-best``; ``saved`` says which
    model lies beside the row: the ``last``, the ``best``, or ``none``. ``perfect`` is the best
    value of each metric of which more is better, such as 1 of an AUC, without the split's name;
    ``versions`` name, besides packages, the ``numerics`` of :mod:`smallnets`: rows that differ in
    it don't compare bit by bit. ``dropless`` is true where experts had a capacity in training, and
    none where it was scored. ``route`` is what was done to a trained model on the way to this one,
    stage by stage, and ``teacher`` the key of the run whose answers it learned from; then ``costs``
    has ``teacher_flops``, what this run's share of asking it took, and ``energy`` holds that too. A
    pass takes
    no steps: of its run's curves there is one point, no training loss, and in ``costs`` the bytes
    of the model's file, ``file_bytes``, and the milliseconds of a call, ``latency_ms``, taken in
    turns with those of its parent, ``parent_latency_ms``.
    A run that raised has status ``"failed"``, ``error``, one line, and no numbers.
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
    perfect: dict[str, float] = field(default_factory=dict)
    dropless: bool = False
    error: str = ""
    route: str = ""
    teacher: str = ""


def write(row: Row, folder: Path) -> Path:
    """Write ``row`` as ``folder/row.json`` in one step; return the path."""
    path = Path(folder) / NAME
    with replacing(path) as draft:
        draft.write_text(to_json(row, indent=1))
    return path


def to_json(row: Row, *, without: Collection[str] = (), indent: int | None = None) -> str:
    """The row as JSON, ``without`` some of its fields."""
    said = {name: value for name, value in asdict(row).items() if name not in without}
    return json.dumps(_without_nan(said), indent=indent, allow_nan=False)


class DamagedRow(UserWarning):
    """Rows of a folder are damaged, and passed over."""


def load(folder: Path) -> Iterator[Row]:
    """Every sound row below ``folder`` of a run that did not fail, in the order of their paths.

    Damaged ones are passed over: a :class:`DamagedRow` warning counts them, and names the first
    with what is wrong with it.
    """
    return (row for _, row in found(folder))


def found(folder: Path) -> list[tuple[Path, Row]]:
    """The runs' folders and rows as :func:`load` has them."""
    paths = sorted(Path(folder).rglob(NAME))
    sound, damaged = [], []
    for path in paths:
        try:
            row = read(path.parent)
            if row.status != "failed":
                sound.append((path.parent, row))
        except ValueError as error:
            damaged.append(str(error))
    if damaged:
        warnings.warn(
            f"{len(damaged)} of {len(paths)} rows are damaged and passed over; {damaged[0]}",
            DamagedRow,
            stacklevel=2,
        )
    return sound


class Missing(NamedTuple):
    """A job that was planned and has no numbers: its words, its key and, if it failed, why."""

    words: list[str]
    key: str
    error: str


def missing(folder: Path) -> list[Missing]:
    """The jobs of a study's plan, ``jobs.jsonl``, whose rows are not there or say that they failed.

    Of jobs with equal words the last counts. Empty where no plan is there. Raises ValueError where
    it is damaged.
    """
    planned = {tuple(line["words"]): line["key"] for line in jobs(folder)}
    found = []
    for words, key in planned.items():
        try:
            row = read(Path(folder) / key)
        except ValueError:
            found.append(Missing(list(words), key, ""))
        else:
            if row.status == "failed":
                found.append(Missing(list(words), key, row.error))
    return found


def jobs(folder: Path) -> list[dict[str, Any]]:
    """The lines of a study's plan, each with the ``number``, ``key`` and ``words`` of a job."""
    path = Path(folder) / JOBS
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        _ = [(line["number"], line["key"], line["words"]) for line in lines]
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError):
        raise ValueError(
            f"{path} is damaged, so that what was planned is not known: remove it, and run the "
            "sweep again"
        ) from None
    return lines


def read(folder: Path) -> Row:
    """The row of one run. A field that it does not know, of a later version, is left out.

    Raises ValueError, one line that names the file, where there is none or it is damaged: no JSON,
    a field missing or of another type, or a metric that is called like a field.
    """
    path = Path(folder) / NAME
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(f"{path} can't be read: {error.strerror}") from None
    except ValueError:
        raise ValueError(f"{path} is damaged: it is no JSON") from None
    return from_json(text, path)


def from_json(text: str, path: Path, **others: Any) -> Row:
    """The row in a text of the file ``path``, with ``others`` as fields that the text leaves out.

    Raises ValueError as :func:`read`.
    """
    try:
        stored = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError(f"{path} is damaged: it is no JSON") from None
    if not isinstance(stored, dict):
        raise ValueError(f"{path} is damaged: it holds {type(stored).__name__}, not fields")
    stored |= others
    values = {}
    for each in fields(Row):
        if each.name in stored:
            value = stored[each.name]
            values[each.name] = value = _with_nan(value) if each.name in NUMBERS else value
            if not _fits(value, each.type):
                raise ValueError(f"{path} is damaged: its {each.name} is of another type")
        elif each.default is MISSING and each.default_factory is MISSING:
            raise ValueError(f"{path} is damaged: it has no {each.name}")
    if taken := sorted(values["metrics"].keys() & {each.name for each in fields(Row)}):
        raise ValueError(f"{path} is damaged: a metric is called like a field, {taken[0]}")
    return Row(**values)


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value from a file is of a field's type."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin is dict:
        return isinstance(value, dict) and all(_fits(each, parts[1]) for each in value.values())
    if origin is list:
        return isinstance(value, list) and all(_fits(each, parts[0]) for each in value)
    if kind is int:
        return type(value) is int and abs(value) < 2**63
    if kind is float:
        return type(value) is float or (type(value) is int and abs(value) < 2**63)
    return kind is Any or isinstance(value, kind)


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

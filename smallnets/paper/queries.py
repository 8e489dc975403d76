"""``queries.toml``: what a paper asks of its rows, by name.

Each ``[number.NAME]``, ``[table.NAME]`` and ``[figure.NAME]`` is a query in SQL, in parts::

    [analysis.parameters]                  # a table to ask: what the analysis found in a study
    rows = "mnist1d"                       # a frozen study; further keys are those of analyse()

    [number.low-rank-fewer]                # \\result{low-rank-fewer} in main.tex
    from = "parameters.comparisons"        # a table
    where = "family = 'low_rank'"          # which lines; of a number exactly one, after select
    select = "times_fewer, low, high"      # columns, or sums such as "avg(test_error) AS error"
    text = "{times_fewer:.2g} ({low:.2g} to {high:.2g})"    # Python's formats, in plain characters

    [paired.routes]                        # a table to ask: differences by seed, in claims.tex too
    from = "mnist1d.rows"
    group = "route"                        # what names a group of runs with a seed each
    reference = "finetune"                 # the group that each is held against
    score = "test_error"
    select = "avg(steps) AS steps"         # what else to tell of each group

Tables to ask are ``STUDY.rows``, ``ledger`` and, of an analysis, ``NAME.runs`` (those that its
curves rest on), ``NAME.chosen`` (the settings that were chosen) and what ``analysis.json`` holds:
``families``, ``curves``, ``laws``, ``comparisons``, ``multipliers``, ``budgets``, ``pareto``,
``notes`` and ``answer``, its sentences; of a pairing ``NAME.pairs``, with the columns of
:func:`smallnets.analysis.paired.paired`.
"""

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

from smallnets.paper import QUERIES


@dataclass(frozen=True, kw_only=True)
class Query:
    """Lines of a table: ``SELECT select FROM source WHERE where GROUP BY group ORDER BY order``."""

    name: str
    source: str
    where: str = ""
    select: str = ""
    group: str = ""
    order: str = ""


@dataclass(frozen=True, kw_only=True)
class Number(Query):
    """One line of a query as ``text``; without one, its one value to three digits."""

    text: str = ""


@dataclass(frozen=True, kw_only=True)
class Paired:
    """The ``score`` of each ``group`` less that of the group ``reference``, of the same ``seed``.

    ``select`` tells more of each group.
    """

    name: str
    source: str
    group: str
    reference: str
    score: str
    seed: str = "seed"
    where: str = ""
    select: str = ""


@dataclass(frozen=True, kw_only=True)
class Table(Query):
    """Lines of a query; a column is its title, what is selected, and Python's format of a cell."""

    columns: list[list[str]]
    caption: str


@dataclass(frozen=True, kw_only=True)
class Figure(Query):
    """A figure of an analysis's report, named by ``picture``, or ``y`` over ``x`` of a query.

    In the second kind there is a line for each ``family`` and a panel for each ``panel``.
    """

    source: str = ""
    analysis: str = ""
    picture: str = ""
    caption: str = ""
    x: str = ""
    y: str = ""
    family: str = "''"
    panel: str = "''"
    x_title: str = ""
    y_title: str = ""
    x_scale: str = "log"
    y_scale: str = "linear"


@dataclass(frozen=True, kw_only=True)
class Data:
    """Where the examples of a task come from, and on what terms."""

    name: str
    title: str
    version: str
    source: str
    licence: str


@dataclass(frozen=True, kw_only=True)
class Queries:
    """The whole file. ``analyses`` are keyword arguments of ``analyse``, beside ``rows``.

    ``typed`` lists files of names and equations, in which digits may stand; ``checklist`` has an
    answer for each question, "yes" or "no: why".
    """

    analyses: dict[str, dict[str, Any]]
    pairs: list[Paired]
    numbers: list[Number]
    tables: list[Table]
    figures: list[Figure]
    data: dict[str, Data]
    checklist: dict[str, str]
    typed: list[str] = field(default_factory=list)


def read(paper: Path) -> Queries:
    """The queries of a paper; raises ValueError, one line, for what is none of the above."""
    path = Path(paper) / QUERIES
    try:
        stored = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(
            f"{path} can't be read ({error.strerror}): smallnets paper init FOLDER SWEEP writes one"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: {error}") from None
    known = ("analysis", "paired", "number", "table", "figure", "data", "checklist", "typed")
    if unknown := sorted(stored.keys() - {*known}):
        raise ValueError(f"{path}: there is no [{unknown[0]}], only {', '.join(known)}")
    sections = {name: stored.get(name, {}) for name in known[:-1]}
    for name, section in sections.items():
        flat = name == "checklist"
        if not isinstance(section, dict) or not all(
            isinstance(each, str if flat else dict) for each in section.values()
        ):
            raise ValueError(f"{path}: [{name}] holds {'answers' if flat else 'named tables'}")
    for name, options in sections["analysis"].items():
        if not isinstance(options.get("rows"), str):
            raise ValueError(f"{path}: [analysis.{name}] names a frozen study: rows = ...")

    def listed(kind: str, make: Callable[..., Any]) -> list[Any]:
        return [_made(path, kind, name, made, make) for name, made in sections[kind].items()]

    return Queries(
        analyses=sections["analysis"],
        pairs=listed("paired", Paired),
        numbers=listed("number", Number),
        tables=listed("table", Table),
        figures=listed("figure", Figure),
        data={each.name: each for each in listed("data", Data)},
        checklist=sections["checklist"],
        typed=[str(each) for each in stored.get("typed", [])],
    )


def _made(
    path: Path, kind: str, name: str, stored: Mapping[str, Any], make: Callable[..., Any]
) -> Any:
    """A named entry; what is missing, unknown or of another type is one line."""
    where = f"{path}: [{kind}.{name}]"
    if not re.fullmatch(r"[\w.-]+", name):
        raise ValueError(f"{where}: a name is letters, digits, _, . and -")
    values = {"source" if key == "from" else key: value for key, value in stored.items()}
    if kind != "data" and "source" in stored:
        raise ValueError(f"{where}: the table is named by from, not source")
    known = {each.name: each for each in fields(make) if each.name != "name"}  # type: ignore[arg-type]
    said = ["from" if each == "source" and kind != "data" else each for each in known]
    if unknown := sorted(values.keys() - known.keys()):
        raise ValueError(f"{where} has no {unknown[0]}, only {', '.join(said)}")
    for each, key in zip(known.values(), said, strict=True):
        if each.name not in values and each.default is MISSING:
            raise ValueError(f"{where} has no {key}: say what it is")
    for key, value in values.items():
        if key == "columns":
            sound = isinstance(value, list) and all(
                isinstance(cell, list) and len(cell) == 3 and all(isinstance(c, str) for c in cell)
                for cell in value
            )
            if not sound or not value:
                raise ValueError(f'{where}: a column is ["title", "what is selected", "format"]')
        elif not isinstance(value, str):
            raise ValueError(f"{where}: {key} is text, got {value!r}")
    return make(name=name, **values)

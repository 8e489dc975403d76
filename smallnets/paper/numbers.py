"""The numbers of a paper: ``numbers.tex`` for its text, ``numbers.json`` for its reader.

``numbers.json`` gives of each number its text, its values at full precision, its query, and the
rows that it rests on by key and commit; ``provenance.tex`` prints the same, and each number of the
text links to its line there.
"""

import json
from dataclasses import dataclass
from typing import Any

from smallnets.paper.latex import HEADER, breakable, escaped
from smallnets.paper.queries import Number
from smallnets.paper.sources import Sources

RESULT = r"""\makeatletter
\DeclareRobustCommand{\result}[1]{\@ifundefined{result@#1}%
  {\PackageError{smallnets}{queries.toml has no number #1}{}}%
  {\hyperlink{number.#1}{\csname result@#1\endcsname}}}
"""


COLUMNS = "".join(
    rf">{{\raggedright\arraybackslash}}p{{{share}\linewidth}}" for share in (0.16, 0.21, 0.37, 0.18)
)
CAPTION = (
    "Every number of the text, the query that gives it, the runs that it rests on, and the commit "
    "of the code that trained them. numbers.json beside the text names each run by its key."
)


@dataclass(frozen=True, kw_only=True)
class Value:
    """A number as it is printed, with what it is and what it rests on."""

    number: Number
    text: str
    values: dict[str, Any]
    provenance: dict[str, Any]


def evaluate(sources: Sources, numbers: list[Number]) -> list[Value]:
    """Ask every number; raises ValueError, one line, for the first that can't be told."""
    return [_evaluated(sources, number) for number in numbers]


def _evaluated(sources: Sources, number: Number) -> Value:
    found = sources.answer(number, number.select or "count(*) AS runs")
    where = f"query {number.name}"
    if len(found) > 1:
        raise ValueError(
            f"{where} finds {len(found)} lines in {number.source}: a number is one, so narrow its "
            "where, or select avg(...)"
        )
    line = found.row(0, named=True)
    if empty := [key for key, value in line.items() if value is None or value != value]:
        raise ValueError(f"{where} finds no {empty[0]} in {number.source}: the rows don't give it")
    text = number.text or "{" + next(iter(line)) + ":.3g}"
    try:
        said = text.format(**line)
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        raise ValueError(f"{where}: {', '.join(line)} don't fit {text!r} ({error})") from None
    return Value(number=number, text=said, values=line, provenance=sources.provenance(number))


def as_tex(values: list[Value]) -> str:
    r"""``\result{NAME}`` for each number; an unknown name is an error of LaTeX."""
    lines = [rf"\@namedef{{result@{each.number.name}}}{{{escaped(each.text)}}}" for each in values]
    return HEADER + RESULT + "\n".join([*lines, r"\makeatother", ""])


def as_json(values: list[Value]) -> str:
    """Every number with its values, query and rows."""
    found = {
        each.number.name: {
            "text": each.text,
            "values": each.values,
            "query": _query(each.number),
            **each.provenance,
        }
        for each in values
    }
    return json.dumps(found, indent=1, default=str, ensure_ascii=False) + "\n"


def provenance(values: list[Value]) -> str:
    """A table of every number, where it comes from, and of which rows."""
    lines = [
        rf"\hypertarget{{number.{each.number.name}}}{{{breakable(each.number.name)}}} & "
        rf"{escaped(each.text)} & {breakable(_sql(each.number))} & {_rows(each)} \\"
        for each in values
    ]
    head = r"number & value & query & runs, commit \\ \midrule"
    return (
        f"{HEADER}\\begingroup\\footnotesize\\raggedright\n"
        rf"\begin{{longtable}}{{@{{}}{COLUMNS}@{{}}}}"
        f"\n\\caption{{{CAPTION}}}\n\\label{{tab:provenance}}\\\\\n"
        f"{head} \\endfirsthead\n{head} \\endhead\n"
        + "\n".join(lines)
        + "\n\\end{longtable}\n\\endgroup\n"
    )


def _query(number: Number) -> dict[str, str]:
    parts = {"select": number.select or "count(*) AS runs", "from": number.source}
    rest = {"where": number.where, "group": number.group, "order": number.order}
    return parts | {key: value for key, value in rest.items() if value}


def _sql(number: Number) -> str:
    words = {"group": "group by", "order": "order by"}
    return " ".join(f"{words.get(key, key)} {value}" for key, value in _query(number).items())


def _rows(value: Value) -> str:
    keys = value.provenance["keys"]
    count = keys if isinstance(keys, str) else f"{len(keys):,}"
    studies = ", ".join(value.provenance["studies"])
    return breakable(f"{count} of {studies}; {', '.join(value.provenance['commits'])}")

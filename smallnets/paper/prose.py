r"""The text of a paper: what it shows, and that no number in it is typed.

A digit may stand in references (``\cite``, ``\ref``, ``\label``, ``\input``, ``\url``), in a date
written 2026-11-30, in ``\result{NAME}``, which prints a number of the rows, and in the files that
``typed`` of ``queries.toml`` lists, of names and equations. Anywhere else, mathematics included, it
is refused: it would be a result that no row gives.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from smallnets.paper import GENERATED, MAIN
from smallnets.paper.queries import Queries

REFERENCES = (
    "result|cite|citep|citet|citealp|ref|autoref|pageref|eqref|label|input|bibliography|url|"
    "hypertarget|includegraphics|bibliographystyle"
)
TAKEN = re.compile(rf"\\(?:{REFERENCES})\*?(?:\[[^\]]*\])*\{{[^}}]*\}}")
DATE = re.compile(r"\b\d{4}-\d{2}-\d{2}\b")
COMMENT = re.compile(r"(?<!\\)%.*")
FORMAT = re.compile(r"\{[^}]*\}")


def refuse_digits(paper: Path, queries: Queries) -> None:
    """Raise ValueError, one line, for the first digit that is typed where a result would stand."""
    for path in sorted(Path(paper).glob("*.tex")):
        if path.name in queries.typed:
            continue
        for place, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if found := digits(line):
                raise ValueError(
                    f"line {place} of {path} has a number typed by hand, {found!r}: ask the rows "
                    f"for it by \\result{{...}}, or put a name or an equation into a file that "
                    "typed lists"
                )
    texts = [(f"number {each.name}", FORMAT.sub("", each.text)) for each in queries.numbers]
    texts += [(f"caption of {each.name}", each.caption) for each in queries.tables]
    texts += [(f"caption of {each.name}", each.caption) for each in queries.figures]
    texts += [(f"column of {each.name}", c[0]) for each in queries.tables for c in each.columns]
    for where, text in texts:
        if found := digits(text):
            raise ValueError(
                f"queries.toml, {where} has a number typed by hand, {found!r}: let the query "
                "select it, or say it without"
            )


def digits(line: str) -> str:
    """The first number typed in a line of LaTeX, with what stands beside it; empty if none."""
    left = DATE.sub("", TAKEN.sub("", COMMENT.sub("", line)))
    found = re.search(r"\S*\d\S*", left)
    return found[0] if found else ""


def labels(paper: Path, made: Mapping[str, str]) -> set[str]:
    """The labels of the text and of the files that it takes in; ``made`` are the generated ones."""
    texts = {path.stem: path.read_text(encoding="utf-8") for path in Path(paper).glob("*.tex")}
    texts |= {f"{GENERATED}/{Path(name).stem}": text for name, text in made.items()}
    found, seen, waiting = set(), set(), [MAIN.removesuffix(".tex")]
    while waiting:
        name = waiting.pop().removesuffix(".tex")
        if name in seen or name not in texts:
            continue
        seen.add(name)
        text = _uncommented(texts[name])
        found |= {*re.findall(r"\\label\{([^}]*)\}", text)}
        waiting += re.findall(r"\\input\{([^}]*)\}", text)
    return found


def results(paper: Path) -> set[str]:
    r"""The names of the numbers that the text prints by ``\result``."""
    texts = [_uncommented(path.read_text(encoding="utf-8")) for path in Path(paper).glob("*.tex")]
    return {name for text in texts for name in re.findall(r"\\result\{([^}]*)\}", text)}


def _uncommented(text: str) -> str:
    return "\n".join(COMMENT.sub("", line) for line in text.splitlines())

"""Plain text and lines of a table as LaTeX."""

from collections.abc import Sequence
from typing import Any

HEADER = "% Written by smallnets paper build: not to be changed by hand.\n"
SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "\N{MULTIPLICATION SIGN}": r"$\times$",
    "\N{PLUS-MINUS SIGN}": r"$\pm$",
    "\N{MINUS SIGN}": r"$-$",
    "\N{MIDDLE DOT}": r"$\cdot$",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


def escaped(text: str) -> str:
    """Plain text as LaTeX prints it."""
    return "".join(SPECIAL.get(character, character) for character in text)


def breakable(text: str) -> str:
    """Code as LaTeX prints it, which may be broken after a mark that is no letter."""
    return "".join(
        escaped(character) + (r"\allowbreak{}" if character in "=,._/'" else "")
        for character in text
    )


def tabular(titles: Sequence[str], lines: Sequence[Sequence[str]], numeric: Sequence[bool]) -> str:
    """A table with rules above, below and under its titles; numbers to the right."""
    places = "".join("r" if right else "l" for right in numeric)
    rows = [" & ".join(line) + r" \\" for line in [titles, *lines]]
    rows.insert(1, r"\midrule")
    return "\n".join(
        [rf"\begin{{tabular}}{{{places}}}", r"\toprule", *rows, r"\bottomrule", r"\end{tabular}"]
    )


def floating(kind: str, name: str, body: str, caption: str, *, commands: Sequence[str] = ()) -> str:
    """A ``table`` or ``figure`` with its label; its source says the commands that make its rows."""
    label = {"table": "tab", "figure": "fig"}[kind]
    made = "".join(f"% rows: {command}\n" for command in commands)
    top = f"\\caption{{{caption}}}\n\\label{{{label}:{name}}}\n"
    parts = f"{top}{body}\n" if kind == "table" else f"{body}\n{top}"
    return f"{HEADER}{made}\\begin{{{kind}}}[tbp]\n\\centering\\small\n{parts}\\end{{{kind}}}\n"


def cell(value: Any, form: str) -> str:
    """A value by Python's format; what is not known is a dash."""
    if value is None or value != value:
        return "--"
    return escaped(format(value, form))

"""``checklist.tex``: a reviewer's questions, answered from rows, each answer with its evidence.

The questions are our own paraphrase of those of the NeurIPS paper checklist of 2026 that rows can
answer. ``[checklist]`` of ``queries.toml`` holds the authors' answers: "yes" needs evidence, or the
paper is not built; "no: why" stands as it is.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

from smallnets.paper.latex import HEADER, escaped
from smallnets.paper.queries import Data
from smallnets.paper.sources import Sources
from smallnets.paper.statements import hours, seeds_of, since, tasks, tried


class Evidence(NamedTuple):
    """What rows say to a question; ``lacks`` says why it can't be answered with yes."""

    said: str
    lacks: str = ""


class Question(NamedTuple):
    """A question, the label of where the paper shows its evidence, and what gives it."""

    text: str
    label: str
    evidence: Callable[[Sources, dict[str, Data]], Evidence]


def _claims(sources: Sources, data: dict[str, Data]) -> Evidence:
    count = sum(len(each.record["comparisons"]) for each in sources.analyses.values())
    return Evidence(
        f"Every number of the text is asked of frozen rows; {count} comparisons are listed with "
        "their intervals.",
        "" if sources.analyses else "there is no analysis",
    )


def _limitations(sources: Sources, data: dict[str, Data]) -> Evidence:
    count = sum(len(each.record["notes"]) for each in sources.analyses.values())
    return Evidence(
        f"{count} warnings of the analyses are printed as they are.",
        "" if sources.analyses else "there is no analysis",
    )


def _reproduce(sources: Sources, data: dict[str, Data]) -> Evidence:
    unknown = [name for name, each in sources.studies.items() if not each.commands]
    commits = sorted({commit for each in sources.studies.values() for commit in each.commits})
    return Evidence(
        f"Clean commits {', '.join(commits)}; each study's exact command; seeds in every row; "
        "smallnets reproduce trains a part again.",
        f"the command of {', '.join(unknown)} is in no ledger" if unknown else "",
    )


def _access(sources: Sources, data: dict[str, Data]) -> Evidence:
    count = sum(sum(each.status.values()) for each in sources.studies.values())
    return Evidence(f"{count:,} rows, the code and its locked versions are in the artefact.")


def _settings(sources: Sources, data: dict[str, Data]) -> Evidence:
    settings = {k for n in sources.studies for k, _ in tried(sources.tables[f"{n}.rows"].table)}
    total: dict[str, int] = {}
    for each in sources.studies.values():
        for status, count in each.status.items():
            total[status] = total.get(status, 0) + count
    runs = ", ".join(f"{count:,} {status}" for status, count in sorted(total.items()))
    edges = sum(
        len(each.study.selection.at_edge)
        for each in sources.analyses.values()
        if each.study.selection
    )
    return Evidence(
        f"All values tried of {len(settings)} settings, and what was chosen; runs: {runs}; "
        f"{edges} choices at an edge of what was tried."
    )


def _bars(sources: Sources, data: dict[str, Data]) -> Evidence:
    seeds = {name: seeds_of(each) for name, each in sources.analyses.items()}
    said = ", ".join(f"{name} {count}" for name, count in seeds.items())
    single = [name for name, count in seeds.items() if count == "1"]
    return Evidence(
        f"Intervals are over training seeds (seeds a size: {said}) and sizes; each caption names "
        "level and method.",
        f"{', '.join(single)} has one seed" if single else "" if seeds else "there is no analysis",
    )


def _compute(sources: Sources, data: dict[str, Data]) -> Evidence:
    devices = sorted({device for each in sources.studies.values() for device in each.devices})
    if not since(sources):
        return Evidence("", "there is no ledger of sweeps")
    runs = sum(sum(each.status.values()) for each in sources.studies.values())
    shown = sum(each.seconds for each in sources.studies.values())
    return Evidence(
        f"On {'; '.join(devices)}: {shown / max(runs, 1):.1f} seconds a run, {shown / 3600:.2f} "
        f"hours for what is shown and {hours(sources):.2f} for the whole project, failed and "
        f"preliminary sweeps included, since {since(sources)}."
    )


def _data(sources: Sources, data: dict[str, Data]) -> Evidence:
    unknown = [task for task in tasks(sources) if task not in data or not data[task].licence]
    said = "; ".join(
        f"{data[t].title} {data[t].version}, {data[t].licence}" for t in tasks(sources) if t in data
    )
    return Evidence(
        f"{said}.", f"[data.{unknown[0]}] of queries.toml gives no licence" if unknown else ""
    )


QUESTIONS = {
    "claims": Question("Do the claims match what was measured?", "tab:claims", _claims),
    "limitations": Question("Are the limits of the work said?", "lim:warnings", _limitations),
    "reproducibility": Question(
        "Is there all that one needs to obtain the results again?", "tab:studies", _reproduce
    ),
    "access": Question("Can code and data be had?", "tab:provenance", _access),
    "settings": Question(
        "Are all settings said: what was tried, how often, and how it was chosen?",
        "tab:settings",
        _settings,
    ),
    "error-bars": Question(
        "Do results have error bars, and is it said what they are?", "tab:claims", _bars
    ),
    "compute": Question(
        "What did it take: by run, in total, and with what failed or was only tried?",
        "par:ledger",
        _compute,
    ),
    "data": Question("Are data named with version and licence?", "tab:data", _data),
}


def answers(sources: Sources, data: dict[str, Data]) -> dict[str, str]:
    """What can be answered today: "yes" where there is evidence, else "no" and why."""
    found = {name: each.evidence(sources, data) for name, each in QUESTIONS.items()}
    return {name: f"no: {each.lacks}" if each.lacks else "yes" for name, each in found.items()}


def as_tex(sources: Sources, data: dict[str, Data], said: dict[str, str], shown: set[str]) -> str:
    """The checklist; ``shown`` are the labels of what the paper shows.

    Raises ValueError for a question without an answer, an answer that is neither yes nor "no: why",
    and a yes without evidence or whose evidence the paper does not show.
    """
    if unknown := sorted(said.keys() - QUESTIONS.keys()):
        raise ValueError(f"[checklist] has no {unknown[0]}, only {', '.join(QUESTIONS)}")
    lines = []
    for name, question in QUESTIONS.items():
        answer = said.get(name, "")
        if answer != "yes" and not re.match(r"no: \S", answer):
            raise ValueError(
                f'[checklist] {name}: "{question.text}" is answered by "yes" or "no: why", got '
                f"{answer!r}"
            )
        text = escaped(answer.removeprefix("no: "))
        if answer == "yes":
            found = question.evidence(sources, data)
            if found.lacks:
                raise ValueError(
                    f"[checklist] {name} says yes without evidence: {found.lacks}: give it, or "
                    'answer "no: why"'
                )
            if question.label not in shown:
                raise ValueError(
                    f"[checklist] {name} says yes, but its evidence, {question.label}, is not "
                    "in the paper: \\input its file of generated/ in main.tex"
                )
            text = f"{escaped(found.said)} See \\autoref{{{question.label}}}."
            text = text.replace(r"\autoref{lim:warnings}", r"page~\pageref{lim:warnings}")
            text = text.replace(r"\autoref{par:ledger}", r"page~\pageref{par:ledger}")
        word = "Yes" if answer == "yes" else "No"
        lines.append(rf"\item \textbf{{{escaped(question.text)}}} {word}. {text}")
    head = (
        "Paraphrased from those questions of the NeurIPS paper checklist of 2026 that rows can "
        "answer; the others are the authors'."
    )
    body = "\n".join(lines)
    return f"{HEADER}{head}\n\\begin{{enumerate}}\n{body}\n\\end{{enumerate}}\n"

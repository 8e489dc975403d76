"""The verb ``analyse``: fit scaling laws to runs and write the report."""

import sys
from argparse import ArgumentDefaultsHelpFormatter, ArgumentParser
from pathlib import Path
from typing import NoReturn

import numpy as np
from rich.console import Console
from rich.table import Table

from smallnets.analysis import report, tables
from smallnets.analysis.answer import answer, best_run, further
from smallnets.analysis.compare import Claims, Comparison, claims
from smallnets.analysis.figures import emphasised
from smallnets.analysis.laws import BY_NAME
from smallnets.analysis.planning import design, question
from smallnets.analysis.study import Study, analyse
from smallnets.analysis.table import as_number, digest, incomplete, read

LAWS = {"best": None, "none": ()} | {name: (law,) for name, law in BY_NAME.items()}
PAIRS, REFUSED = 15, 5
FAMILIES = 20  # of more, those in the figures' colours are printed alone
PIPED = 10_000  # characters a line, where nobody reads on a terminal


class Words(ArgumentParser):
    """A parser to which a wrong word is a mistake like any other: one line."""

    def error(self, message: str) -> NoReturn:
        """Raise what is wrong with the words."""
        raise ValueError(f"{message}; {self.prog} --help lists what there is")


def main(words: list[str]) -> None:
    """The verb; raises ValueError or OSError, one line, where the data can't be analysed."""
    parser = Words(
        prog="smallnets analyse",
        description="Fit scaling laws to runs, print them with intervals, write a report.",
        formatter_class=ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("path", type=Path, help="a folder of rows, or a file of a line a run")
    parser.add_argument("--size", default="parameters", help="column of sizes")
    parser.add_argument("--score", default="test_error", help="column of scores, lower is better")
    parser.add_argument("--family", default="family", help="column of families")
    parser.add_argument("--seed", default="seed", help="column of seeds")
    parser.add_argument("--task", help="which task, where there are several")
    parser.add_argument("--where", help='a condition that runs fulfil, as "params > 1e6" (SQL)')
    parser.add_argument("--cost", help="another axis than the size, such as milliseconds")
    parser.add_argument(
        "--setting",
        action="append",
        help="column of a swept setting; several are chosen jointly for each family and size, "
        "with --law none each is a point of its own "
        "(default: columns config.* that vary among runs of one family, size and seed)",
    )
    parser.add_argument(
        "--validation", default="validation_error", help="column that the setting is chosen by"
    )
    parser.add_argument(
        "--delta", type=float, default=float("inf"), help="threshold of Huber's loss; 0: absolute"
    )
    parser.add_argument("--level", type=float, default=0.95, help="level of the intervals")
    _options(parser)
    parser.add_argument("--reference", help="family that the others are compared with")
    parser.add_argument(
        "--partial", action="store_true", help="analyse a sweep that is not complete"
    )
    parser.add_argument("--out", type=Path, help="folder of the report (default: beside the data)")
    given = parser.parse_args(words)
    questions, pins = [question(text) for text in given.next], _pins(given.pin)
    table = read(given.path, partial=given.partial)
    left = incomplete(given.path, table) if given.path.is_dir() else ""
    study = analyse(
        table,
        size=given.size,
        score=given.score,
        family=given.family,
        seed=given.seed,
        task=given.task,
        where=given.where,
        cost=given.cost,
        setting=given.setting or (),
        validation=given.validation,
        delta=given.delta,
        level=given.level,
        data=given.data,
        weights=given.weights,
        higher_is_better=given.higher_is_better or given.perfect is not None,
        perfect=given.perfect,
        chance=given.chance,
        test_examples=given.test_examples,
        grow=given.grow,
        laws=LAWS[given.law],
        pins=pins,
        predict=[_numbers(text) for text in given.predict],
        held=given.holdout,
        notes=[f"Not complete: {left}. What is said below may change."] if left else (),
    )
    compared = claims(study, reference=given.reference, at=given.at)
    plans = [design(study, asked, seed=0) for asked in questions]
    out = given.out or _beside(given.path)
    written = report.write(study, out, compared=compared, source=digest(given.path))
    # Labels may hold brackets and colons. What is piped is not wrapped; where whoever reads has
    # enough, as ``| head`` has, rich ends without a word.
    width = None if sys.stdout.isatty() else PIPED
    console = Console(markup=False, emoji=False, highlight=False, width=width)
    show(study, compared, console)
    for plan in plans:
        console.print(str(plan), soft_wrap=True)
    console.print(f"report: {written}", soft_wrap=True)


def show(study: Study, compared: Claims, console: Console) -> None:
    """Print the answer, the laws with their intervals and warnings, and every note."""
    for sentence in answer(study, compared):
        console.print(sentence)
    best = best_run(study)
    if best is not None:
        console.print(best.sentence)
        if best.command:
            console.print(f"  {best.command}", soft_wrap=True)
    console.print()
    shown = emphasised(study, compared)
    lines = tables.law_lines(study, shown, only=len(study.curves) > FAMILIES)
    table = Table(*lines.columns, box=None, header_style="bold", pad_edge=False)
    for line in lines.iter_rows():
        table.add_row(*(str(value) for value in line))
    console.print(table)
    if len(study.curves) > FAMILIES:
        console.print("... the laws of the other families are in laws.csv")
    for sentence in (*further(study), *pairs(study, compared, shown)):
        console.print(sentence, soft_wrap=True)
    refused, rest = compared.refused[:REFUSED], len(compared.refused) - REFUSED
    more = [f"{rest} other families have none either: see multipliers.csv"] * (rest > 0)
    for note in [*tables.all_notes(study), *refused, *more]:
        console.print(f"- {note}")


def _options(parser: ArgumentParser) -> None:
    """The options of laws and scores."""
    parser.add_argument("--data", default="", help="column of data seen: a law in size and data")
    parser.add_argument("--weights", default="", help="column of the weight of each run")
    parser.add_argument("--law", choices=LAWS, default="best", help="fit this one alone")
    parser.add_argument(
        "--pin", action="append", default=[], metavar="E=1.69", help="hold a parameter of the law"
    )
    parser.add_argument(
        "--predict",
        action="append",
        default=[],
        metavar="SIZE[,DATA]",
        help="predict the score at this size, however large",
    )
    parser.add_argument("--at", type=float, help="score, as printed, to compare families at")
    parser.add_argument(
        "--holdout", type=int, default=1, help="largest sizes that the hold-out leaves out"
    )
    parser.add_argument(
        "--next",
        action="append",
        default=[],
        metavar="'A vs B at loss 2.5 by 1.5'",
        help="say which runs would show this difference",
    )
    parser.add_argument("--higher-is-better", action="store_true", help="as of an accuracy")
    parser.add_argument("--perfect", type=float, help="perfect score, where higher is better")
    parser.add_argument("--chance", type=float, help="score of guessing, as the runs have it")
    parser.add_argument("--test-examples", type=int, help="examples that the score is measured on")
    parser.add_argument("--grow", default="", help="word of the families' labels that is a size")


def _pins(texts: list[str]) -> dict[str, float]:
    found: dict[str, float] = {}
    for text in texts:
        name, _, value = (each.strip() for each in text.partition("="))
        number = as_number(value)
        if number is None or not name:
            raise ValueError(f"--pin takes a parameter and a number, as E=1.69, got {text!r}")
        if name in found:
            raise ValueError(f"{name} is pinned twice: leave one --pin out")
        found[name] = number
    return found


def _numbers(text: str) -> tuple[float, ...]:
    found = [as_number(each.strip()) for each in text.split(",")]
    if None in found:
        raise ValueError(f"--predict takes a size, as 1e9 or 70B,2e10, got {text!r}")
    return tuple(each for each in found if each is not None)


def pairs(study: Study, compared: Claims, shown: list[str]) -> list[str]:
    """Families against each other at one score, a sentence a pair; of many, those ``shown``."""
    found = compared.comparisons
    if len(found) > PAIRS:
        found = [pair for pair in found if {pair.family, pair.other} <= {*shown}]
    said = [comparison(pair, study) for pair in found]
    rest = len(compared.comparisons) - len(found)
    return said + [f"... {rest} other pairs are in multipliers.csv"] * (rest > 0)


def comparison(pair: Comparison, study: Study) -> str:
    """One pair in words: what leads, what stands beside, what the runs at hand could show."""
    size, score = study.columns.size, study.columns.score
    if pair.refusal:
        return f"{pair.family} against {pair.other}: {pair.refusal}"
    value, low, high, _ = pair.answer
    law = f"by the laws {pair.value:.3g} ({pair.low:.3g} to {pair.high:.3g})"
    beside = pair.interpolated
    means = f"by interpolation {beside.value:.3g} ({beside.low:.3g} to {beside.high:.3g})"
    if pair.leads == "law":
        other = f"by interpolation nothing: {beside.reason}" if beside.reason else means
    else:
        other = f"by the laws nothing: {pair.reason}" if pair.reason else law
    text = (
        f"{pair.family} needs {value:.3g} times fewer {size} than {pair.other} at {score} "
        f"{pair.score:.4g}: {study.level:.0%} interval {low:.3g} to {high:.3g}, p = "
        f"{pair.p_adjusted:.2g} (Holm), {'by the laws' if pair.leads == 'law' else means[:16]}; "
        f"{other}"
    )
    if pair.p_adjusted > 1 - study.level and np.isfinite(pair.detectable):
        text += (
            f". Not established: as many runs show {pair.detectable:.3g} in four of five studies"
        )
    return text


def _beside(path: Path) -> Path:
    """The folder of rows itself, or for ``runs.csv.gz`` the folder ``runs-report`` beside it."""
    return path if path.is_dir() else path.with_name(f"{path.name.split('.')[0]}-report")

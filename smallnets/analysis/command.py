"""The verb ``analyse``: fit scaling laws to runs and write the report."""

import sys
from argparse import ArgumentDefaultsHelpFormatter, ArgumentParser
from pathlib import Path

from rich.console import Console
from rich.table import Table

from smallnets.analysis import report, tables
from smallnets.analysis.answer import answer, best_run
from smallnets.analysis.claims import Claims, claims
from smallnets.analysis.columns import SETTING
from smallnets.analysis.figures import emphasised
from smallnets.analysis.study import Study, analyse
from smallnets.analysis.table import digest, read

FAMILIES = 20  # of more, those in the figures' colours are printed alone
PIPED = 10_000  # characters a line, where nobody reads on a terminal


def main(words: list[str]) -> None:
    """The verb; raises ValueError or OSError, one line, where the data can't be analysed."""
    parser = ArgumentParser(
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
        default=SETTING,
        help="column of a swept setting, chosen for each family and size",
    )
    parser.add_argument(
        "--validation", default="validation_error", help="column that the setting is chosen by"
    )
    parser.add_argument(
        "--delta", type=float, default=float("inf"), help="threshold of Huber's loss; 0: absolute"
    )
    parser.add_argument("--level", type=float, default=0.95, help="level of the intervals")
    parser.add_argument("--reference", help="family that the others are compared with")
    parser.add_argument("--out", type=Path, help="folder of the report (default: beside the data)")
    given = parser.parse_args(words)
    study = analyse(
        read(given.path),
        size=given.size,
        score=given.score,
        family=given.family,
        seed=given.seed,
        task=given.task,
        where=given.where,
        cost=given.cost,
        setting=given.setting,
        validation=given.validation,
        delta=given.delta,
        level=given.level,
    )
    compared = claims(study, reference=given.reference)
    out = given.out or _beside(given.path)
    written = report.write(study, out, compared=compared, source=digest(given.path))
    # Labels may hold brackets and colons. What is piped is not wrapped; where whoever reads has
    # enough, as ``| head`` has, rich ends without a word.
    width = None if sys.stdout.isatty() else PIPED
    console = Console(markup=False, emoji=False, highlight=False, width=width)
    show(study, compared, console)
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
    for note in [*tables.all_notes(study), *compared.refused]:
        console.print(f"- {note}")


def _beside(path: Path) -> Path:
    """The folder of rows itself, or for ``runs.csv.gz`` the folder ``runs-report`` beside it."""
    return path if path.is_dir() else path.with_name(f"{path.name.split('.')[0]}-report")

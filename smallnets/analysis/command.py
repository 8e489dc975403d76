"""The verb ``analyse``: fit scaling laws to runs and write the report."""

from argparse import ArgumentDefaultsHelpFormatter, ArgumentParser
from pathlib import Path

from rich.console import Console
from rich.table import Table

from smallnets.analysis import report, tables
from smallnets.analysis.claims import claims
from smallnets.analysis.study import Study, analyse
from smallnets.analysis.table import read


def main(words: list[str]) -> None:
    """The verb; raises ValueError or OSError, one line, where the data can't be analysed."""
    parser = ArgumentParser(
        prog="smallnets analyse",
        description="Fit scaling laws to runs, print them with intervals, write a report.",
        formatter_class=ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("path", type=Path, help="a folder of rows, a .csv or a .parquet file")
    parser.add_argument("--size", default="parameters", help="column of sizes")
    parser.add_argument("--score", default="test_error", help="column of scores, lower is better")
    parser.add_argument("--family", default="family", help="column of families")
    parser.add_argument("--seed", default="seed", help="column of seeds")
    parser.add_argument("--task", help="which task, where there are several")
    parser.add_argument("--cost", help="another axis than the size, such as milliseconds")
    parser.add_argument(
        "--setting",
        default="config.optimizer.learning_rate",
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
        cost=given.cost,
        setting=given.setting,
        validation=given.validation,
        delta=given.delta,
        level=given.level,
    )
    compared = claims(study, reference=given.reference)
    show(study)
    written = report.write(study, compared, given.out or _beside(given.path))
    print(f"report: {written}")


def show(study: Study) -> None:
    """Print the laws with their intervals, then every note."""
    console = Console(markup=False, emoji=False)  # labels and paths may hold brackets and colons
    lines = tables.law_lines(study).drop("other laws", "hold-out", strict=False)
    table = Table(*lines.columns, box=None, header_style="bold", pad_edge=False)
    for line in lines.iter_rows():
        table.add_row(*(str(value) for value in line))
    console.print(table)
    for note in tables.all_notes(study):
        console.print(f"- {note}", highlight=False)


def _beside(path: Path) -> Path:
    return path if path.is_dir() else path.with_name(f"{path.stem}-report")

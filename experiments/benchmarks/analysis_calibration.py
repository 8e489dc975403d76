"""Does what the analysis prints hold as often as it says? Simulated studies, known truth.

    python experiments/benchmarks/analysis_calibration.py [studies a cell] [folder of parts]

Writes smallnets/analysis/CALIBRATION.md. The seeds are those of the cells' names, fixed before any
was drawn. All cells are gone through a hundred studies at a time, whose counts are kept in the
folder of parts, so that what was interrupted goes on.
"""

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

import smallnets.analysis
from smallnets.analysis.planning import ENOUGH
from smallnets.analysis.simulation import (
    BENT_CELLS,
    CELLS,
    COVERAGES,
    PILOT_CELLS,
    RATES,
    UNSEEN_CELLS,
    Cell,
    Counts,
    simulate,
    simulate_plans,
)
from smallnets.files import replacing

AT_ONCE, MOST = 100, 100
PILOTS = 5  # with each hundred studies
COUNTED = "shape questioned"  # said once a study
TARGET = Path(smallnets.analysis.__file__).with_name("CALIBRATION.md")
TEXT = """\
# Calibration

Made by `python experiments/benchmarks/analysis_calibration.py`: simulated studies, nominal 95 %. \
Each study has three families, two of them copies of one; it goes through `analyse` and \
`compared` as from the command, which don't know the law, and what is printed is counted \
(`smallnets/analysis/simulation.py`). Two decades of sizes, seeds scattering by .02 of the log \
score. The simulation's seeds are those of the cells' names; the table says how many studies each \
cell had.
"""
RULE = """\
A power law is never printed over a law with asymptote that has an interval, whatever AICc says: \
`python experiments/benchmarks/which_law.py` shows what it would cost (150 studies a cell, other \
seeds). Printed as AICc chooses, the exponent's interval held the truth in .00 of studies of 6 \
single-run sizes and in .35 of 5 x 3 with an error of sizes of .03 (E .3, alpha .5), its \
prediction at ten times the largest size in .00 and .51; that of the law with asymptote in .95 and \
.96, and .95 and .98. Over all 24 cells the latter held .91 to .97 for the exponent, .92 to .99 \
for E and the predictions. The price: where there is no asymptote, the multiplier's interval is \
1.3 to 1.7 times as wide."""

BENT_TEXT = """\
S-shaped, in two regimes, and with a plateau; the third family is the first at 1.5 times the \
size. *Multiplier* is what leads, by interpolation where the shape is questioned; predictions \
rest on the wrong law and should not be used, however wide they are."""

UNSEEN_TEXT = """\
Those above served to choose the curves about which the noise of a mean is judged; these were \
drawn up after that. How fine the grids of those curves are was settled with both in view. \
Between 6 sizes a sharp bend is passed by, and what interpolation errs by there no interval \
knows."""

PILOT_TEXT = """\
Pilots are asked by `--next` whether the first family needs less than the third, whose falling \
part is 1.1 times as large. The design proposed and the pilot's own are each carried out once on \
the truth; shown is the share whose printed interval lies above 1. Where power .8 was stated, a \
design was chosen for it."""

UNKNOWN = """\
Not simulated through the whole path: robust objectives and weights (their intervals hold their \
estimate, and the example of the tests the truth; how often is not known), laws in two variables \
(of their test of shape `adequacy.py` says what was measured), parameters of a broken law, \
families of unequal noise or designs, errors of sizes that families share (they question the \
shape, though they cancel in a multiplier), settings chosen on the same runs."""


def main() -> None:
    studies = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    parts = Path(sys.argv[2]) if len(sys.argv) > 2 else Path("multirun/calibration")
    parts.mkdir(exist_ok=True, parents=True)
    for part in range(studies // AT_ONCE):
        for cell in (*CELLS, *BENT_CELLS, *UNSEEN_CELLS):
            count(cell, part, parts)
        for cell in PILOT_CELLS:
            carry_out(cell, part, parts)
        write(parts)


def write(parts: Path) -> None:
    """Write CALIBRATION.md of what is done."""
    text = [TEXT.rstrip()]
    text += ["## Where the law is right", RULE, table(CELLS, parts)]
    text += ["## Where every law is wrong", BENT_TEXT, table(BENT_CELLS, parts)]
    text += ["## Other bends", UNSEEN_TEXT, table(UNSEEN_CELLS, parts)]
    text += ["## The next runs", PILOT_TEXT, pilots_table(parts)]
    text += ["## What is not known", UNKNOWN]
    TARGET.write_text("\n\n".join(text) + "\n")
    print(f"written: {TARGET}", flush=True)


def kept(cell: Cell, part: int, parts: Path) -> Path:
    """The file of a part of a cell."""
    return parts / f"{cell} {part}.json".replace(" ", "_")


def count(cell: Cell, part: int, parts: Path) -> None:
    """Count a part of a cell, unless that was done."""
    path = kept(cell, part, parts)
    if path.exists():
        return
    began = time.process_time()
    counts = simulate(cell, AT_ONCE, part=part)
    with replacing(path) as draft:
        draft.write_text(json.dumps(asdict(counts)))
    said = ", ".join(f"{name} {counts.share(name):.2f}" for name in (*COVERAGES, *RATES))
    print(f"{cell}, part {part} ({time.process_time() - began:.0f} s): {said}", flush=True)


def carry_out(cell: Cell, part: int, parts: Path) -> None:
    """Let pilots of a cell plan, and carry their designs out, unless that was done."""
    path = parts / f"pilots of {cell} {part}.json".replace(" ", "_")
    if not path.exists():
        found = simulate_plans(cell, PILOTS, part=part)
        with replacing(path) as draft:
            draft.write_text(json.dumps(found))
        print(f"pilots of {cell}, part {part}: {found}", flush=True)


def pilots_table(parts: Path) -> str:
    """A line a cell, then all of them: stated power and how often the difference was shown."""
    lines = [
        "| pilots | designs | power stated | shown | of .8 or more | power stated | shown |",
        "|" + " --- |" * 7,
    ]
    pooled: list[tuple[float, bool]] = []
    for cell in PILOT_CELLS:
        found: list[tuple[float, bool]] = []
        for part in range(MOST):
            if (path := parts / f"pilots of {cell} {part}.json".replace(" ", "_")).exists():
                found += json.loads(path.read_text())
        lines.append(plans_line(str(cell), found))
        pooled += found
    return "\n".join([*lines, plans_line("all", pooled)])


def plans_line(title: str, found: list[tuple[float, bool]]) -> str:
    """Of designs: how many, their mean stated power, and the share that showed the difference."""
    cells = []
    for designs in (found, [each for each in found if each[0] >= ENOUGH]):
        means = [sum(column) / len(designs) for column in zip(*designs, strict=True)]
        cells += [str(len(designs)), *(f"{mean:.2f}" for mean in means or ())]
        cells += [""] * (2 - len(means))
    return f"| {title} | {' | '.join(cells)} |"


def table(cells: tuple[Cell, ...], parts: Path) -> str:
    """A line a cell, then all of them pooled."""
    names = (*COVERAGES, "interpolation refused", *RATES)
    found, pooled = {}, Counts()
    for cell in cells:
        found[str(cell)] = counts = Counts()
        for part in range(MOST):
            if (path := kept(cell, part, parts)).exists():
                counts.join(Counts(**json.loads(path.read_text())))
        pooled.join(counts)
    lines = [f"| study | studies | {' | '.join(names)} |", "|" + " --- |" * (len(names) + 2)]
    for title, counts in {**found, "all": pooled}.items():
        values = (counts.share(name) for name in names)
        shown = ("" if value != value else f"{value:.3f}" for value in values)
        lines.append(f"| {title} | {counts.said.get(COUNTED, 0)} | {' | '.join(shown)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()

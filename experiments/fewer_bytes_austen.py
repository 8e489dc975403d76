"""A decoder of text in a fifth and in a tenth of its bytes: how many bits a byte does it take?

    python experiments/fewer_bytes_austen.py [FOLDER] [WORDS]

Decoders of Austen's novels by the byte, width 128 and depth 4 (820,352 parameters), three seeds,
1,000 steps of 1,024 bytes. In codes alone (int4 with a scale for 32, 16 or 8 weights) they are held
against themselves, and "holds" ends at .02 bits a byte. In a file of a tenth of the bytes, hidden
units removed or in three values, and trained on in a code for half the steps again, they are held
against the large ones that were trained on for as many, and "holds" ends at .05; "equal FLOPs" are
as many steps as cost what those cost. Of two rates that with the lowest validation loss on another
seed is taken (equal FLOPs take that of equal steps).
"""

import sys
from pathlib import Path

import numpy as np
from fewer_bytes import RATE, against, trained
from rich.console import Console
from rich.table import Table

from smallnets import models
from smallnets.sweep.execute import Run

ALL, SEEDS, TUNING, RATES = "range(4)", "range(3)", "3", ("1e-3", "3e-3")
DATA = ["task=austen", "batch_size=8", "evaluations=1"]
BEGIN = ["model=transformer", "model.width=128", "model.depth=4", "steps=1000", f"{RATE}=3e-3"]
CODES = {
    "int8": ["compress=quantise", "compress.quantise.code=int8", "compress.quantise.group=0"],
    "int4": ["compress=quantise"],
    "int4-16": ["compress=quantise", "compress.quantise.group=16"],
    "int4-8": ["compress=quantise", "compress.quantise.group=8"],
    "ternary": ["compress=quantise", "compress.quantise.code=ternary"],
}
AWARE = "compress.quantisation_aware.view"
TRAINED = {
    "ternary": ["compress=[quantisation_aware]", f"{AWARE}.code=ternary", f"{AWARE}.group=0"],
    "units, int4": ["compress=[units,quantisation_aware]", "budget.at_most=true"],
}


def bits(runs: list[Run], name: str = "test_bits_per_byte") -> np.ndarray:
    return np.array([run.row.metrics[name] for run in runs])


def size(runs: list[Run]) -> int:
    return (runs[0].folder / models.NAME).stat().st_size


def by_rule(place: Path, words: list[str]) -> str:
    """The rate that the validation loss of another seed chooses."""
    tried = trained(place, [*words, f"{RATE}={','.join(RATES)}", f"seed={TUNING}"])
    return RATES[int(np.nan_to_num(bits(tried, "validation_loss"), nan=np.inf).argmin())]


def study(folder: Path, words: list[str]) -> Table:
    """What files of fewer bytes come to, against the large decoders."""
    table = Table("route", "rate", "steps", "bytes", "fewer", "bits a byte", "difference")
    large = trained(folder / "large", [*DATA, *BEGIN, *words, f"seed={ALL}"])[:-1]

    def add(name: str, rate: str, steps: int, runs: list[Run], said: str = "") -> None:
        found, now = bits(runs), size(runs)
        numbers = [rate, f"{steps:,}", f"{now:,}", f"{size(large) / now:.1f}"]
        table.add_row(name, *numbers, f"{found.mean():.3f} ± {found.std(ddof=1):.3f}", said)

    steps = large[0].row.config["steps"]
    add("large", "", steps, large)
    begun = [*DATA, *(word for word in words if not word.startswith("model"))]
    begun.append(f"start={folder}/large")
    for name, route in CODES.items():
        runs = trained(folder / f"code_{name}", [*begun, *route, f"seed={SEEDS}"])
        add(name, "", 0, runs, against(bits(runs), bits(large), 0.02))
    begun += [f"steps={steps // 2}"]
    place, reference = folder / "trained_on", [*begun, "compress=[finetune]"]
    rate = by_rule(place, reference)
    on = trained(place, [*reference, f"{RATE}={rate}", f"seed={SEEDS}"])
    add("large, trained on", rate, steps // 2, on)
    for name, route in TRAINED.items():
        chain, place, now = [*begun, *route], folder / name.replace(", ", "_"), steps // 2
        if "budget.at_most=true" in route:
            chain.append(f"budget.file_bytes={size(large) // 10}")
        rate = by_rule(place, chain)
        for said in (name, f"{name}, equal FLOPs"):
            runs = trained(place, [*chain, f"steps={now}", f"{RATE}={rate}", f"seed={SEEDS}"])
            add(said, rate, now, runs, against(bits(runs), bits(on), 0.05))
            times = on[0].row.costs["flops"] / runs[0].row.costs["flops"]
            if (now := 2 * round(times * steps / 4)) == steps // 2:
                break
    return table


if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "multirun/fewer_bytes-austen")
    Console(width=140).print(study(folder, sys.argv[2:]))

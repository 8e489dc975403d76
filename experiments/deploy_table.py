"""What does each family cost where it is deployed?

    python experiments/deploy_table.py [FOLDER] [WORDS]        about 15 minutes on two cores

Trains six families into FOLDER, but for the runs that are there, exports each by ONNX and LiteRT,
float and int8, and prints what the artefacts' cards measured on this machine, in this one run:
bytes, milliseconds of one answer on one thread (the lowest of 200 calls, JAX's beside it), seconds
from nothing imported to the first answer, millijoules of an answer (a model: CPU-seconds times 1.9
W), and how many answers by ONNX must be given before the training is paid for by what each saves
against the dense network in JAX. It needs make deploy.
"""

import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

import smallnets
from smallnets.deploy import card
from smallnets.deploy.artefact import Wanted, export

FAMILIES = {
    "dense": ["family=dense"],
    "low_rank": ["family=low_rank"],
    "monarch": ["family=monarch"],
    "shared": ["family=shared"],
    "mixture": ["family=mixture"],
    "attention": ["model=encoder", "model.depth=2"],
}
WIDTH = ["model.width=64", "model.depth=4"]
FILES = ("model.safetensors", "model.onnx", "model.int8.onnx", "model.tflite", "model.int8.tflite")
NAMES = ("JAX", "ONNX", "ONNX int8", "LiteRT", "LiteRT int8")

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "multirun/deploy_table")
cards = {}
for family, words in FAMILIES.items():
    plan = smallnets.plan(*WIDTH, *words, *sys.argv[2:], f"hydra.sweep.dir={folder / family}")
    (run,) = smallnets.train(plan)
    out = folder / f"{family}-{run.row.key}"
    if not out.exists():
        export(run.folder, out, Wanted(to=("onnx", "litert"), int8=True, partial=True))
    cards[family] = (run.row, card.read(out))


def table(title: str, value) -> Table:
    drawn = Table(title=title)
    for column in ("family", *NAMES):
        drawn.add_column(column, justify="left" if column == "family" else "right")
    for family, (_, found) in cards.items():
        drawn.add_row(family, *(value(found["files"][name]) for name in FILES))
    return drawn


console = Console()
console.print(table("bytes", lambda each: f"{each['bytes']:,}"))
console.print(table("test error", lambda each: f"{each['scores']['1']['error']:.3f}"))
console.print(table("ms of one answer", lambda each: f"{1e3 * each['seconds']['1']['lowest']:.3f}"))
console.print(table("s to the first answer", lambda each: f"{each['seconds']['first_answer']:.2f}"))
console.print(table("mJ of one answer (model)", lambda each: f"{1e3 * each['joules']['1']:.3f}"))

dense = cards["dense"][1]["files"]["model.safetensors"]["joules"]["1"]
for family, (row, found) in cards.items():
    saved = dense - found["files"]["model.onnx"]["joules"]["1"]
    spent = row.energy.get("joules")
    paid = "never" if saved <= 0 or spent is None else f"after {spent / saved:,.0f} answers"
    console.print(f"{family}: {found['run']['parameters']:,} parameters; paid {paid}")

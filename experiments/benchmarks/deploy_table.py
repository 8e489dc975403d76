"""What does each family cost where it is deployed, at the score where the families are compared?

    python experiments/benchmarks/deploy_table.py [FOLDER] [WORDS]

Of six families on MNIST-1D and six on text, in this order, but for what is there in FOLDER:

1. A study of sizes, learning rates and seeds; the rate is chosen for each family and size on the
   validation split. MNIST-1D is the default study, and of convolutional networks the same rule.
2. The score of the comparison: the geometric middle of the mean test scores that all six reached.
   Of each family the smallest size of the study counts whose mean reaches it.
3. Of its seeds the one of the median validation score is exported by every route, float and int8.
4. All programs are measured in turns, each turn of each program in a process of its own, so that
   whatever else the machine does meets them alike; the lowest of the turns counts.

Prints a table for each task, as Markdown, and writes it to FOLDER/TASK/table.md. Milliseconds are
of one answer on one thread, called from Python; JAX is a jitted call of the kept model. Cold start
is from an interpreter that has numpy to the first answer. Joules are a model, CPU-seconds times 1.9
W. An answer is paid for by what ONNX saves of the joules of the dense network called by JAX: that
many pay for the training of the one network, and of all that was searched for it. It needs make
deploy. WORDS are of every sweep, as steps=2 to try it.
"""

import json
import os
import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import polars as pl

import smallnets
from smallnets.analysis.select import best_rate
from smallnets.deploy import card, environment
from smallnets.deploy.artefact import LEAST_INTEGER, Wanted, export
from smallnets.deploy.runtime import SUFFIXES
from smallnets.measure import machine
from smallnets.measure.energy import BUSY_CORE

RESIDUAL = {
    "dense": ["family=dense"],
    "low-rank": ["family=low_rank"],
    "Monarch": ["family=monarch"],
    "shared": ["family=shared"],
    "mixture": ["family=mixture"],
}
CONVOLUTIONAL = [  # from 150 parameters on, with which they are where the others are
    "family=dense",
    "model=convolutional",
    "budget.params=150,300,600,1_200",
    "budget.at_most=true",
]
FILES = {
    "JAX": "model.safetensors",
    "jax.export": "model.stablehlo",
    "ONNX": "model.onnx",
    "int8": "model.int8.onnx",
    "LiteRT": "model.tflite",
    "its int8": "model.int8.tflite",
}
TURNS, CALLS = 6, 200


@dataclass(frozen=True)
class Task:
    """What is trained on a task: the words of all, those of each family, and what is compared."""

    words: list[str]
    families: dict[str, list[str]]
    score: str
    examples: int  # of the test split, that programs answer


TASKS = {
    "MNIST-1D": Task(
        words=["+experiment=mnist1d"],
        families=RESIDUAL | {"convolutional": CONVOLUTIONAL},
        score="error",
        examples=1000,
    ),
    "text": Task(
        words=[
            "+experiment=austen",
            "steps=150",
            "budget.params=6_000,10_000,18_000,32_000",
            "budget.at_most=true",
            "optimizer.learning_rate=1e-2,3e-2",
            "seed=range(2)",
        ],
        families=RESIDUAL | {"Kronecker": ["family=dense", "model/linear=kronecker"]},
        score="bits_per_byte",
        examples=100,
    ),
}


def trained(folder: Path, *words: str) -> list[Any]:
    """The runs of a sweep, those that are there as they are; of equal words the last one holds."""
    last = {word.partition("=")[0]: word for word in (*words, *sys.argv[2:])}
    return smallnets.train(smallnets.plan(*last.values(), f"hydra.sweep.dir={folder}"))


def line(family: str, run: Any, score: str) -> dict[str, Any]:
    row = run.row
    return {
        "family": family,
        "parameters": row.parameters,
        "rate": row.config["optimizer"]["learning_rate"],
        "validation": row.metrics[f"validation_{'loss' if score == 'bits_per_byte' else score}"],
        "test": row.metrics[f"test_{score}"],
        "joules": row.energy["joules"],
        "run": str(run.folder),
    }


def compared(runs: pl.DataFrame) -> tuple[float, dict[str, pl.DataFrame]]:
    """The score of the comparison, and of each family the runs of the size that reaches it."""
    chosen = best_rate(runs, setting="rate", score="validation").runs
    means = chosen.group_by("family", "parameters").agg(pl.col("test").log().mean().exp())
    ends = means.group_by("family").agg(low=pl.min("test"), high=pl.max("test"))
    low, high = ends["low"].to_numpy().max(), ends["high"].to_numpy().min()
    if not low < high:
        sys.exit(f"no score lies between {low:.3f} and {high:.3f}: widen the sizes")
    score = (low * high) ** 0.5
    smallest = means.filter(pl.col("test") <= score).group_by("family").agg(pl.min("parameters"))
    at_score = chosen.join(smallest, on=["family", "parameters"]).sort("validation")
    return score, {name: part for (name,), part in at_score.group_by("family")}


def artefacts(name: str, task: Task, folder: Path) -> list[dict[str, Any]]:
    """Of each family the artefact, its parameters, and the joules of training and of the search."""
    kept = folder / "artefacts.json"
    if kept.exists():
        return json.loads(kept.read_text())
    lines, found = [], []
    for family, words in task.families.items():
        runs = trained(folder / "study", *task.words, *words)
        lines += [line(family, run, task.score) for run in runs]
    table = pl.DataFrame(lines)
    score, at_score = compared(table)
    print(f"{name}: compared at {score:.4f}", flush=True)
    for family in task.families:
        run = at_score[family].row(len(at_score[family]) // 2, named=True)  # the median seed
        out = folder / f"{family}-{Path(run['run']).name}"
        print(f"{family}: {run}", flush=True)
        if not out.exists():
            wanted = Wanted(int8=True, partial=True, rounds=0, examples=task.examples)
            export(run["run"], out, wanted)
        searched = table.filter(family=family)["joules"].sum()
        one = {"family": family, "artefact": str(out), "parameters": run["parameters"]}
        found.append({**one, "trained": run["joules"], "searched": searched})
    kept.write_text(json.dumps(found))
    return found


def clocks(folders: list[Path]) -> dict[tuple[Path, str], dict[str, float]]:
    """Of each program of each artefact the lowest times of the turns, in seconds."""
    found: dict[tuple[Path, str], dict[str, float]] = defaultdict(dict)
    with tempfile.TemporaryDirectory() as scratch:
        for _ in range(TURNS):
            for folder in folders:
                for name in FILES.values():
                    program = (folder / name).absolute()
                    inputs = folder / "sample_inputs.npy"
                    words = [program, inputs, Path(scratch) / "answers.npz", "[1]", CALLS]
                    said = environment.run(SUFFIXES[program.suffix], "runtime", words)
                    clock = json.loads(said.splitlines()[-1])
                    now = {**clock["seconds"]["1"], "first": clock["first_answer"]}
                    best = found[folder, name]
                    found[folder, name] = {k: min(v, best.get(k, v)) for k, v in now.items()}
    return found


def answers(joules: float, saved: float) -> str:
    return "never" if saved <= 0 else f"{joules / saved:,.0f}"


def table(name: str, task: Task, folder: Path) -> list[str]:
    """A task's table as Markdown."""
    found = artefacts(name, task, folder)
    before = os.getloadavg()[0]
    times = clocks([Path(each["artefact"]) for each in found])
    joules = {place: BUSY_CORE.middle_watts * each["cpu"] for place, each in times.items()}
    dense = next(Path(each["artefact"]) for each in found if each["family"] == "dense")
    written = [name for name in FILES.values() if name not in (FILES["JAX"], FILES["jax.export"])]
    scored = [FILES["JAX"], *written]
    titles = {file: name for name, file in FILES.items()}
    head = [
        "family",
        "parameters",
        f"test {task.score.replace('_', ' ')}",
        "kB",
        "ms of an answer",
        "cold start, s",
        "mJ of an answer",
        "answers until paid: training, search",
    ]
    lines = [
        f"**{name}.** Scores are of {', '.join(titles[each] for each in scored)}; bytes of "
        f"{', '.join(titles[each] for each in written)}; times and joules of {', '.join(FILES)}.",
        "",
        f"| {' | '.join(head)} |",
        "| --- |" + " ---: |" * (len(head) - 1),
    ]
    for each in found:
        out = Path(each["artefact"])
        files = card.read(out)["files"]
        clock = {n: times[out, n] for n in FILES.values()}
        saved = joules[dense, FILES["JAX"]] - joules[out, FILES["ONNX"]]
        cells = [
            each["family"],
            f"{each['parameters']:,}",
            spelled(files, {n: f"{files[n]['scores']['1'][task.score]:.3f}" for n in scored}),
            spelled(files, {n: f"{files[n]['bytes'] / 1e3:.1f}" for n in written}),
            spelled(files, {n: f"{1e3 * clock[n]['lowest']:.3f}" for n in clock}),
            spelled(files, {n: f"{clock[n]['first']:.2f}" for n in clock}),
            spelled(files, {n: f"{1e3 * joules[out, n]:.3f}" for n in clock}),
            f"{answers(each['trained'], saved)}, {answers(each['searched'], saved)}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        f"{machine.device_name(jax.devices()[0])}; load average {before:.1f} before the clocks, "
        f"{os.getloadavg()[0]:.1f} after. In brackets: int8 of which most products stay float.",
        "",
    ]
    return lines


def spelled(files: dict[str, Any], values: dict[str, str]) -> str:
    """Values of a cell, in brackets where fewer than nine in ten products take integers."""

    def partly(name: str) -> bool:
        counted = files[name].get("products", {"integer": 1, "of_weights": 1})
        return counted["integer"] < LEAST_INTEGER * counted["of_weights"]

    return " / ".join(f"({said})" if partly(name) else said for name, said in values.items())


folder = Path(sys.argv[1] if len(sys.argv) > 1 else "multirun/deploy_table")
for name, task in TASKS.items():
    text = "\n".join(table(name, task, folder / name))
    (folder / name / "table.md").write_text(text)
    print(text, flush=True)

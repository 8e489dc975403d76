"""Do a million rows from forty processes, ten of them killed, arrive, and what does reading them take?

    python experiments/benchmarks/many_runs.py --runs 1000000        about 15 minutes on two cores

The rows are drawn, not trained: five families at twenty sizes with five rates, 500 runs a program.
Forty processes write them as ``smallnets work`` does; ten are killed by SIGKILL while they do, and
five more take up what is missing. Then ``smallnets collect`` and ``smallnets analyse`` are run, each
as a process of its own: printed are their times over that of reading one Parquet of all runs, and
their largest memory.
"""

import argparse
import hashlib
import json
import multiprocessing
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from smallnets import NUMERICS
from smallnets.analysis import compact
from smallnets.rows import Row
from smallnets.sweep.program_files import ProgramFiles

PER_PROGRAM, FAMILIES, SIZES, WORKERS, KILLED = 500, 5, 20, 40, 10
RATES = [3e-4, 1e-3, 3e-3, 1e-2, 3e-2]


def keys_of(program: int) -> list[str]:
    return [
        hashlib.sha256(f"{program} {run}".encode()).hexdigest()[:16] for run in range(PER_PROGRAM)
    ]


def row(program: int, run: int, key: str) -> Row:
    """A run of a power law with noise; its seed and rate follow from its place."""
    family, size = program % FAMILIES, program // FAMILIES % SIZES
    draw = np.random.default_rng([program, run])
    parameters, rate = int(1000 * 1.5**size), RATES[run % len(RATES)]
    error = 0.05 + (1 + family) * parameters**-0.4 * (1 + abs(np.log10(rate / 3e-3)) / 5)
    curves = {
        name: (error * draw.lognormal(0, 0.03) * (1 + 1 / np.arange(1, 11))).tolist()
        for name in ("train_loss", "validation_loss", "validation_error", "test_loss", "test_error")
    }
    seed = program // (FAMILIES * SIZES) * PER_PROGRAM // len(RATES) + run // len(RATES)
    config = {"seed": seed, "steps": 1000, "batch_size": 64, "save": "none"}
    config["optimizer"] = {"_target_": "optax.adamw", "learning_rate": rate, "betas": [0.9, 0.99]}
    config["model"] = {"_target_": "smallnets.nn.Residual", "width": 10 + size, "depth": 2}
    return Row(
        family=f"residual family{family}",
        task="drawn",
        seed=seed,
        parameters=parameters,
        status="finished",
        metrics={name: curve[-1] for name, curve in curves.items()},
        curves={"step": [100.0 * place for place in range(1, 11)], **curves},
        seconds=1.0,
        compile_seconds=1.0,
        execution="map",
        members=PER_PROGRAM,
        device="none",
        commit="none",
        versions={"jax": "0.10.2"},
        config=config,
        costs={"params": parameters, "flops": 2.0 * parameters, "bytes": 4.0 * parameters},
        energy={"joules": 1.0, "source": "model"},
        key=key,
    )


def work(folder: Path, programs: int, index: int, count: int) -> None:
    for program in range(index, programs, count):
        keys = keys_of(program)
        files = ProgramFiles(folder, [keys])
        for run, key in enumerate(keys):
            if files.found(key) is None:
                files.add(row(program, run, key))


def write_plan(folder: Path, programs: int) -> None:
    """A plan as ``smallnets plan`` writes it."""
    lines = [
        json.dumps(
            {"label": "drawn", "parameters": 0, "save": "none", "keys": keys_of(each), "jobs": []}
        )
        for each in range(programs)
    ]
    body = "".join(f"{line}\n" for line in lines)
    said = {"smallnets_plan": 1, "numerics": NUMERICS, "words": [], "config_dir": None}
    said |= {"programs": programs, "runs": programs * PER_PROGRAM, "folders": False}
    said["sha256"] = hashlib.sha256(body.encode()).hexdigest()
    (folder / "plan-drawn.jsonl").write_text(f"{json.dumps(said)}\n{body}")


def timed(*words: str) -> tuple[float, float]:
    """The seconds that a command took, and its largest memory in GB."""
    started = time.perf_counter()
    command = [sys.executable, "-c", MEASURED, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return time.perf_counter() - started, float(done.stderr.split()[-1])


MEASURED = """
import resource, sys
try:
    if sys.argv[1] == "read":
        import polars
        polars.read_parquet(sys.argv[2])
    else:
        from smallnets.cli import main
        main()
finally:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, file=sys.stderr)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1_000_000)
    programs = parser.parse_args().runs // PER_PROGRAM
    spawn, draw = multiprocessing.get_context("spawn"), random.Random(0)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_plan(folder, programs)
        started = time.perf_counter()
        workers = [
            spawn.Process(target=work, args=(folder, programs, index, WORKERS))
            for index in range(WORKERS)
        ]
        for each in workers:
            each.start()
        for each in draw.sample(workers, KILLED):
            while each.is_alive() and not list(folder.glob(f"programs/*.{each.pid}.jsonl")):
                time.sleep(0.001)  # until it has a program under way
            time.sleep(draw.random())
            if each.is_alive() and each.pid:
                os.kill(each.pid, signal.SIGKILL)
        for each in workers:
            each.join()
        killed = sum(each.exitcode == -signal.SIGKILL for each in workers)
        there = len(list(folder.glob("programs/*.parquet")))
        again = [
            spawn.Process(target=work, args=(folder, programs, index, 5)) for index in range(5)
        ]
        for each in again:
            each.start()
        for each in again:
            each.join()
        print(
            f"{programs * PER_PROGRAM:,} rows from {WORKERS} processes, {killed} of them killed, "
            f"with {there} of {programs} programs done: {time.perf_counter() - started:.0f} s; "
            f"largest memory of one {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6:.2f} GB",
            flush=True,
        )
        collected = timed("collect", place)
        import polars

        keys = polars.scan_parquet(folder / compact.RUNS).select("key").collect()["key"]
        assert sorted(keys) == sorted(k for each in range(programs) for k in keys_of(each))
        print("every row is there, and once", flush=True)
        read = timed("read", str(folder / compact.RUNS))
        analysed = timed("analyse", place)
        for name, (seconds, memory) in (
            ("read one Parquet", read),
            ("collect", collected),
            ("analyse", analysed),
        ):
            print(f"{name}: {seconds:.1f} s, {seconds / read[0]:.1f} of reading, {memory:.2f} GB")


if __name__ == "__main__":
    main()

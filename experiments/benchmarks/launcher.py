"""How much does training runs together save, against one after another?

    python experiments/benchmarks/launcher.py        about 4 minutes on two cores

The same 32 seeds of a tiny network, as whole processes in turns: a sweep for each seed, one after
another, and one sweep of all; neither finds anything compiled, and the data are prepared before.
Prints the ratio of their times, round by round.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS, SEEDS = 3, 32
WORDS = ["model.width=8", "steps=100"]
TRAIN = """
import sys, smallnets
for seeds in sys.argv[1].split():
    smallnets.train(smallnets.plan(f"seed={seeds}", *sys.argv[2:]))
"""
SWEEPS = {"alone": " ".join(map(str, range(SEEDS))), "together": f"range({SEEDS})"}

with tempfile.TemporaryDirectory() as data:
    for round_ in range(ROUNDS):
        seconds = {}
        for name, seeds in SWEEPS.items():
            with tempfile.TemporaryDirectory() as out:
                words = [*WORDS, f"cache={out}/cache", f"task.cache={data}"]
                words.append(f"hydra.sweep.dir={out}/sweep")
                command = [sys.executable, "-c", TRAIN, seeds, *words]
                started = time.perf_counter()
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
                seconds[name] = time.perf_counter() - started
                assert len(list(Path(out).rglob("row.json"))) == SEEDS
        times = ", ".join(f"{name} {value:.1f} s" for name, value in seconds.items())
        ratio = seconds["alone"] / seconds["together"]
        print(f"round {round_ + 1}: {times}, alone / together {ratio:.1f}", flush=True)

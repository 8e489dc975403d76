"""How much does training jobs together save, against Hydra's basic launcher?

    python experiments/benchmarks/launcher.py        about 4 minutes on two cores

The same plain sweep, 32 seeds of a tiny network, as whole processes in turns: Hydra's basic
launcher and sweeper, one job after another, and ours; neither finds anything compiled. Prints the
ratio of their times, round by round.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = 3
SWEEP = ["-m", "model.width=8", "seed=range(32)", "steps=100"]
LAUNCHERS = {"basic": ["hydra/launcher=basic", "hydra/sweeper=basic"], "ours": []}

with tempfile.TemporaryDirectory() as data:
    for round_ in range(ROUNDS):
        seconds = {}
        for name, choice in LAUNCHERS.items():
            with tempfile.TemporaryDirectory() as out:
                command = [
                    *(sys.executable, "-c", "from smallnets.cli import main; main()", *SWEEP),
                    *(*choice, f"cache={out}/cache", f"task.cache={data}"),
                    f"hydra.sweep.dir={out}/sweep",
                ]
                started = time.perf_counter()
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
                seconds[name] = time.perf_counter() - started
                assert len(list(Path(out).rglob("row.json"))) == 32
        times = ", ".join(f"{name} {value:.1f} s" for name, value in seconds.items())
        print(f"round {round_ + 1}: {times}, basic / ours {seconds['basic'] / seconds['ours']:.1f}")

"""Does a sweep's memory grow with its programs and its jobs?

    python experiments/benchmarks/memory.py [--programs 200] [--jobs 10000]    10 to 20 minutes

One sweep as a process of its own: perceptrons of as many widths as there are programs, each with
its share of the seeds, two steps each. Prints its memory (resident, MB) at each tenth of the
programs' runs, the largest that it had, and what it grew by a program after the first tenth.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

START = "from smallnets.cli import main; main()"


def resident(process: int) -> float:
    """Megabytes of a process that are in memory."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    kilobytes = [line.split()[1] for line in lines if line.startswith("VmRSS")]
    return int(kilobytes[0]) / 1024 if kilobytes else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--programs", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=10_000)
    asked = parser.parse_args()
    seeds = asked.jobs // asked.programs
    widths = ",".join(f"[{4 + each}]" for each in range(asked.programs))
    words = ["-m", "model=perceptron", f"model.widths={widths}", f"seed=range({seeds})", "steps=2"]
    words += ["evaluations=1", "batch_size=16", "save=none", "~hydra.callbacks.report"]
    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "study"
        words += [f"cache={place}/cache", f"hydra.sweep.dir={out}"]
        process = subprocess.Popen(
            [sys.executable, "-c", START, *words], stdout=subprocess.DEVNULL, stderr=sys.stderr
        )
        found: list[tuple[int, float]] = []
        largest, began = 0.0, time.perf_counter()
        while process.poll() is None:
            time.sleep(0.5)
            now = resident(process.pid)
            largest = max(largest, now)
            done = sum(1 for _ in out.glob("*/row.json"))
            if now and done >= (len(found) + 1) * asked.jobs // 10:
                found.append((done, now))
                print(f"{done:,} of {asked.jobs:,} runs: {now:,.0f} MB", flush=True)
        seconds = time.perf_counter() - began
    print(f"status {process.returncode}, {seconds:,.0f} s, at most {largest:,.0f} MB")
    if len(found) > 1:
        (first, before), (last, after) = found[0], found[-1]
        programs = (last - first) / seeds
        print(f"{(after - before) / programs:.2f} MB a program of {seeds} runs after the first")


if __name__ == "__main__":
    main()

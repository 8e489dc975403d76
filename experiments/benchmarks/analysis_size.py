"""How long a report of many runs takes, and how much memory: the command, as it stands.

    python experiments/benchmarks/analysis_size.py [families] [runs]

Families of a power law with asymptote, five seeds at each size, written as CSV and analysed.
"""

import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl

SEEDS = 5


def main() -> None:
    families = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    runs = int(sys.argv[2]) if len(sys.argv) > 2 else 100_000
    with TemporaryDirectory() as folder:
        path = Path(folder) / "runs.csv"
        table(families, runs).write_csv(path)
        began = time.perf_counter()
        words = [sys.executable, "-m", "smallnets", "analyse", str(path)]
        done = subprocess.run(words, check=True, capture_output=True, text=True)
        seconds = time.perf_counter() - began
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        page = path.with_name("runs-report") / "report.html"
        print(
            f"{families} families, {runs:,} runs: {seconds:.0f} s ({used.ru_utime:.0f} s of CPU), "
            f"peak {used.ru_maxrss / 1e6:.2f} GB, {len(done.stdout.splitlines())} lines printed, "
            f"page {page.stat().st_size / 1e6:.1f} MB"
        )


def table(families: int, runs: int) -> pl.DataFrame:
    """The runs."""
    random = np.random.default_rng(0)
    sizes = np.geomspace(1e4, 1e7, max(5, runs // families // SEEDS)).round()
    x = np.repeat(sizes, SEEDS)
    lines = []
    for family in range(families):
        score = 0.1 + (0.4 + 0.4 * random.random()) * (x / 1e4) ** -0.4
        score *= np.exp(0.02 * random.standard_normal(len(x)))
        seeds = np.tile(np.arange(SEEDS), len(sizes))
        line = {"parameters": x, "seed": seeds, "test_error": score}
        lines.append(pl.DataFrame(line).with_columns(family=pl.lit(f"f{family}")))
    return pl.concat(lines)


if __name__ == "__main__":
    main()

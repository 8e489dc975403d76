"""A plan, trained by the workers of a Ray cluster.

    pip install ".[ray]"
    smallnets plan family=dense,low_rank model.width=16,32 'seed=range(5)'
    python experiments/ray_workers.py multirun/runs-mnist1d --workers 2

Each task is the command ``smallnets work PLAN --shard INDEX/WORKERS`` in a process of its own, so
Ray only says where it runs; the plan's folder must be one that all machines see. Ends with the
status of ``smallnets collect PLAN``.
"""

import argparse
import os
import subprocess
import sys

import ray  # pyright: ignore[reportMissingImports]


@ray.remote(max_retries=3)  # a task whose machine is lost starts again, and skips what is done
def work(plan: str, index: int, workers: int, words: list[str]) -> int:
    """The status of one worker's command."""
    command = [sys.executable, "-m", "smallnets", "work", plan, f"--shard={index}/{workers}"]
    return subprocess.run([*command, *words], check=False).returncode


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("plan", help="what smallnets plan wrote, or the folder that holds it")
parser.add_argument("--workers", type=int, default=2, help="tasks")
parser.add_argument("--cores", type=float, default=1, help="that Ray sets aside for each")
parser.add_argument("words", nargs="*", help="hydra.launcher.*=... and cache=...")
said = parser.parse_intermixed_args()
ray.init(include_dashboard=False)
tasks = [
    work.options(num_cpus=said.cores).remote(
        os.path.abspath(said.plan), index, said.workers, said.words
    )
    for index in range(said.workers)
]
print(f"statuses of {said.workers} workers: {ray.get(tasks)}")
ray.shutdown()
collected = [sys.executable, "-m", "smallnets", "collect", said.plan]
sys.exit(subprocess.run(collected, check=False).returncode)

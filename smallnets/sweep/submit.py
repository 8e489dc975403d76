"""``smallnets submit PLAN``: write a script for Slurm's sbatch that trains a plan as an array."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from smallnets.files import replacing
from smallnets.sweep.collect import script_of
from smallnets.sweep.plan_file import PlanFile, read

TASKS = 100  # where nobody says; a cluster takes an array of 1,001 unless it is set up otherwise
SCRIPT = """#!/bin/bash
#SBATCH --job-name=smallnets
#SBATCH --array=0-{last}
#SBATCH --output={logs}/%a.log
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=B:USR1@60
{options}
# {programs} programs with {runs} runs; each of the {tasks} tasks trains its share and skips what is
# done. A minute before its time is over a task writes a checkpoint and ends with status 75; the
# same task, submitted again, goes on from there. Which tasks to submit again is said by
#   smallnets collect {plan}
cd {here}
exec {python} -m smallnets work {plan} --shard "$SLURM_ARRAY_TASK_ID/{tasks}" {words}
"""


def submit(file: PlanFile, tasks: int, options: Sequence[str], words: Sequence[str]) -> Path:
    """Write the script beside the plan; ``options`` are sbatch's, ``words`` those of work.

    Raises ValueError for fewer than one task, or more than there are programs.
    """
    if not 1 <= tasks <= file.programs:
        raise ValueError(
            f"--tasks must lie between 1 and the {file.programs} programs of the plan, but is "
            f"{tasks}"
        )
    path, logs = script_of(file), (file.folder / "logs").absolute()
    logs.mkdir(exist_ok=True)  # sbatch makes none, and says nothing
    text = SCRIPT.format(
        last=tasks - 1,
        tasks=tasks,
        logs=logs,
        options="".join(f"#SBATCH {option}\n" for option in options),
        programs=file.programs,
        runs=file.runs,
        plan=shlex.quote(str(file.path.absolute())),
        here=shlex.quote(str(Path.cwd())),
        python=shlex.quote(sys.executable),
        words=shlex.join(words),
    )
    with replacing(path) as draft:
        draft.write_text(text)
    return path


def main(arguments: list[str]) -> None:
    """The verb: writes the script and prints the command that submits it."""
    parser = argparse.ArgumentParser("smallnets submit", description=__doc__)
    parser.add_argument("plan", help="what smallnets plan wrote, or the folder that holds it")
    parser.add_argument("--tasks", type=int, help=f"of the array (default: up to {TASKS})")
    parser.add_argument(
        "--option", action="append", default=[], help="of sbatch, as --option=--time=2:00:00"
    )
    parser.add_argument("words", nargs="*", help="hydra.launcher.*=... and cache=...")
    said = parser.parse_intermixed_args(arguments)
    file = read(said.plan)
    tasks = said.tasks if said.tasks is not None else min(TASKS, file.programs)
    print(f"sbatch {submit(file, tasks, said.option, said.words)}")

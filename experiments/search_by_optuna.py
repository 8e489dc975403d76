"""Does Optuna find better networks than random search does, for the same compute?

    python experiments/search_by_optuna.py [FOLDER] [WORDS]

On each of three tasks every point of a grid (networks of one budget, and rates) is trained once by
four seeds, but for the runs that are there. A search then looks points up instead of training them
(Ying et al. 2019, arXiv:1902.09635): it sees the validation score by one seed, ends when its FLOPs
of training are spent, and answers with the best that it saw, whose test score is that of two seeds
that no search saw. Optuna's default sampler is asked one point at a time, which favours it. Prints
both for REPEATS searches on each task, and a sign test over the pairs that differ. It needs:
pip install optuna==5.0.0
"""

import sys
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import optuna  # pyright: ignore[reportMissingImports]
from scipy import stats

import smallnets

REPEATS, TRIALS, SEARCH, FRESH = 10, 24, (0, 1), (2, 3)  # trials of mean FLOPs; seeds
RATES, DEPTHS = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1), (1, 3)
OPTIONS = {  # what is drawn of each family
    "dense": ("model.unique", ["null"]),
    "low_rank": ("model.linear.ratio", ["0.125", "0.5"]),
    "monarch": ("model.linear.blocks", ["2", "8"]),
    "shared": ("model.unique", ["1"]),
    "mixture": ("model.mixture.experts", ["2", "8"]),
}
FEW = ["task.train=5_000", "task.validation=1_000", "task.test=2_000"]
TASKS = {
    "mnist1d": [],
    "teacher_student": FEW,
    "sparse_parity": [*FEW, "task.subtasks=4", "task.bits=16"],
}
Points = Iterator[tuple[tuple, Callable[[float], Any]]]  # and what is to be told of their scores


def table(folder: Path, task: str, words: list[str]) -> dict[tuple, dict]:
    """Validation and test scores by seed, and FLOPs of training, of each point of the grid."""
    found = {}
    for family, (key, options) in OPTIONS.items():
        said = [f"task={task}", *TASKS[task], "budget.params=8_000", "budget.at_most=true"]
        said += ["steps=400", "evaluations=1", *words, f"hydra.sweep.dir={folder / task}"]
        axes = {"model.depth": DEPTHS, key: options}
        axes |= {"optimizer.learning_rate": RATES, "seed": (*SEARCH, *FRESH)}
        said += [f"{name}={','.join(map(str, values))}" for name, values in axes.items()]
        runs = smallnets.train(smallnets.plan(f"family={family}", *said))
        for (*point, seed), run in zip(product(*axes.values()), runs, strict=True):
            cell = found.setdefault((family, *point), {"flops": run.row.costs["flops"]})
            pair = run.row.metrics["validation_error"], run.row.metrics["test_error"]
            cell[seed] = np.nan_to_num(pair, nan=1.0)
    return found


def random_points(seed: int) -> Points:
    """Points without end; what is told of their scores is not listened to."""
    draw = np.random.default_rng(seed)
    while True:
        family = list(OPTIONS)[draw.integers(len(OPTIONS))]
        point = (draw.choice(DEPTHS), draw.choice(OPTIONS[family][1]), draw.choice(RATES))
        yield (family, *point), lambda score: None


def optunas_points(seed: int) -> Points:
    """Points without end, each asked for once the score of the one before was told."""
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    while True:
        trial = study.ask()
        family = trial.suggest_categorical("family", list(OPTIONS))
        option = trial.suggest_categorical(f"option of {family}", OPTIONS[family][1])
        depth = trial.suggest_int("depth", 0, len(DEPTHS) - 1)
        rate = trial.suggest_int("rate", 0, len(RATES) - 1)
        point = (family, DEPTHS[depth], option, RATES[rate])
        yield point, lambda score, trial=trial: study.tell(trial, score)


def searched(found: dict[tuple, dict], points: Callable[[int], Points], seed: int) -> float:
    """The test error, on fresh seeds, of the best point of a search by its validation error."""
    left = TRIALS * np.mean([cell["flops"] for cell in found.values()])
    best, lowest = (), np.inf
    for point, tell in points(seed):
        left -= found[point]["flops"]
        if left < 0:
            break
        score = found[point][SEARCH[seed % len(SEARCH)]][0]
        tell(score)
        if score < lowest:
            best, lowest = point, score
    return float(np.mean([found[best][each][1] for each in FRESH]))


if __name__ == "__main__":
    folder, differences = Path(sys.argv[1] if sys.argv[1:] else "multirun/search_by_optuna"), []
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    for task in TASKS:
        found = table(folder, task, sys.argv[2:])
        pairs = product(range(REPEATS), (random_points, optunas_points))
        scores = np.reshape([searched(found, by, seed) for seed, by in pairs], (REPEATS, 2))
        differences += (scores[:, 1] - scores[:, 0]).tolist()
        means = 100 * scores.mean(axis=0)
        print(f"{task}: random search {means[0]:.1f} %, Optuna {means[1]:.1f} % test error")
    wins, losses = (int(np.sum(sign * np.array(differences) < 0)) for sign in (1, -1))
    p = stats.binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
    print(f"Optuna lower in {wins}, higher in {losses}, else equal: sign test p = {p:.3g}")

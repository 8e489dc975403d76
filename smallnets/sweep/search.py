"""Random search for the network of a task: what is drawn, trained, chosen, and trained over again.

Draws are one batch, and so those of one shape are one program. What is chosen is chosen by
validation scores; test scores are read of the last runs alone, on seeds that no draw had.

Source: Bergstra & Bengio 2012, Random Search for Hyper-Parameter Optimization, JMLR 13.
"""

import json
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from hydra.core.utils import JobReturn, JobStatus
from rich.table import Table

from smallnets import rows
from smallnets.files import replacing
from smallnets.measure.costs import AXES
from smallnets.rows import Row
from smallnets.sweep.execute import console
from smallnets.sweep.plan import plan_jobs
from smallnets.sweep.result import score
from smallnets.sweep.space import Space, check_counts, drawn, space
from smallnets.tasks.data import Data

NAME = "search.json"
FRESH = 1000  # the first seed of those that no draw has
TESTS = ("test_error", "test_bits_per_byte", "test_loss")  # the first that there is, is said
COUNTED = [axis for axis in AXES if axis != "latency_ms"]
Jobs = list[list[str]]
Launch = Callable[[Jobs, int], Sequence[JobReturn]]  # as Hydra's: all are trained


class Trial(NamedTuple):
    """Words and the runs that they were trained by; a lower score is better."""

    words: list[str]
    runs: list[Row]

    @property
    def score(self) -> float:
        """The mean validation error of the runs, or loss where there is none."""
        return float(np.mean([score(row) for row in self.runs]))

    @property
    def costs(self) -> dict[str, float]:
        return self.runs[0].costs

    @property
    def tests(self) -> list[float]:
        """The runs' test errors, or what of a task without them is said."""
        name = next(each for each in TESTS if each in self.runs[0].metrics)
        return [row.metrics[name] for row in self.runs]


def front(trials: Sequence[Trial], costs: Sequence[str]) -> list[Trial]:
    """The trials than which no other is at least as good in score and all ``costs`` and better in
    one, by the first cost; of equal ones the first."""

    def point(trial: Trial) -> tuple[float, ...]:
        return (trial.score, *(trial.costs[cost] for cost in costs))

    points = [point(trial) for trial in trials]
    found: dict[tuple[float, ...], Trial] = {}
    for trial, own in zip(trials, points, strict=True):
        beaten = any(o != own and all(a <= b for a, b in zip(o, own, strict=True)) for o in points)
        if math.isfinite(trial.score) and not beaten:
            found.setdefault(own, trial)
    return sorted(found.values(), key=lambda trial: point(trial)[1:] + point(trial)[:1])


class Found(NamedTuple):
    """What a search gave: all draws, the front of them, and its best on fresh seeds."""

    tried: list[Trial]
    front: list[Trial]
    finals: list[Trial]

    @property
    def answer(self) -> Trial:
        return min(self.finals, key=lambda trial: trial.score)


def sweep(sweeper: Any, arguments: list[str]) -> list[JobReturn]:
    """What our sweeper does where ``hydra.sweeper.search`` says what is drawn, and how often."""
    options, context, config = sweeper.search, sweeper.hydra_context, sweeper.config
    within, seeds = space(sweeper.params, options["params_of"], arguments)
    draws = drawn(
        within, networks=options["networks"], rates=options["rates"], seed=options["seed"]
    )
    folder, asked = Path(config.hydra.sweep.dir), _asked(within, seeds, options)
    _check_folder(folder, asked)
    loaded: dict[str, Data] = {}
    costs = options["costs"]
    _check_costs(costs, COUNTED)
    check_counts(finalists=options["finalists"], fresh=options["fresh"])
    found, returns = search(
        lambda jobs, first: sweeper.launcher.launch(jobs, initial_job_idx=first),
        lambda jobs: plan_jobs(context, config, jobs, loaded=loaded),
        draws,
        seeds,
        costs=costs,
        finalists=options["finalists"],
        fresh=options["fresh"],
    )
    record = write(found, folder, costs, asked)
    out = console()
    out.print(show(found, within, costs))
    for line in sentences(record):
        out.print(line, soft_wrap=True)
    return returns


def search(
    launch: Launch,
    check: Callable[[Jobs], Any],
    draws: list[list[list[str]]],
    seeds: Sequence[str],
    *,
    costs: Sequence[str],
    finalists: int,
    fresh: int,
) -> tuple[Found, list[JobReturn]]:
    """Train the draws by each seed, and the ``finalists`` of their front by ``fresh`` other seeds.

    ``check`` raises ValueError for jobs that can't be planned, such as those of a budget that a
    family can't meet: such draws are passed over, and counted. Raises ValueError where no draw is
    left or trained to an end, and for costs that rows have not.
    """
    draws = _admitted(check, draws)
    every = (tuple(words) for network in draws for words in network)
    tried = [list(words) for words in dict.fromkeys(every)]  # what was drawn twice is one
    first = launch([[*words, f"seed={seed}"] for words in tried for seed in seeds], 0)
    trials = _trials(tried, first, len(seeds))
    for trial in trials:
        _check_costs(costs, trial.costs)
    best = front(trials, costs)
    if not best:
        raise ValueError("no draw of the search was trained to an end: widen what is drawn from")
    chosen = [trial.words for trial in sorted(best, key=lambda trial: trial.score)[:finalists]]
    again = [[*words, f"seed={FRESH + each}"] for words in chosen for each in range(fresh)]
    last = launch(again, len(first))
    finals = _trials(chosen, last, fresh)
    if not finals:
        raise ValueError("of the search's front no run by a fresh seed is there: see above")
    return Found(trials, best, finals), [*first, *last]


def _asked(space: Space, seeds: Sequence[str], options: Mapping[str, Any]) -> dict[str, Any]:
    """What a search was asked for, as its record says it; where data are kept is not part of it."""
    always = {key: values for key, values in space.always.items() if key != "cache"}
    asked = {"always": always, "only": space.only, "seeds": seeds, **options}
    del asked["params_of"]  # they are in the space
    return json.loads(json.dumps(asked, default=list))


def _check_folder(folder: Path, asked: dict[str, Any]) -> None:
    """Raise ValueError where the record of another search is there."""
    record = folder / NAME
    if record.exists() and json.loads(record.read_text()).get("asked") != asked:
        raise ValueError(
            f"{record} is of a search that was asked for otherwise: give this one a folder of its "
            "own by hydra.sweep.dir"
        )


def _check_costs(costs: Sequence[str], known: Collection[str]) -> None:
    for cost in costs:
        if cost not in known:
            raise ValueError(
                f"hydra.sweeper.search.costs names {cost}, but a network's counted costs are "
                f"{', '.join(known)}: name some of these"
            )


def _admitted(check: Callable[[Jobs], Any], draws: list[list[list[str]]]) -> list[list[list[str]]]:
    """The draws that can be planned; of each network one is asked for."""
    refused, kept = "", []
    try:
        check([network[0] for network in draws])
        return draws
    except ValueError as error:
        refused = str(error)
    for network in draws:
        try:
            check([network[0]])
            kept.append(network)
        except ValueError as error:
            refused = str(error)
    if not kept:
        raise ValueError(refused)
    passed = len(draws) - len(kept)
    print(f"{passed} of {len(draws)} networks can't be, and are passed over; the last: {refused}")
    return kept


def _trials(tried: Jobs, returns: Sequence[JobReturn], each: int) -> list[Trial]:
    """Each draw with its runs, ``each`` in a row of what the launcher gave; none that failed."""
    found = []
    for place, words in enumerate(tried):
        of = returns[place * each : (place + 1) * each]
        done = [rows.read(Path(str(r.working_dir))) for r in of if r.status == JobStatus.COMPLETED]
        if done:
            found.append(Trial(words, done))
    return found


def show(found: Found, space: Space, costs: Sequence[str]) -> Table:
    """The front as a table: what was drawn, costs, and scores by the search and by fresh seeds."""
    table = Table("", "drawn", *costs, "search", "validation", "test", title="the front")
    for trial in found.front:
        final = next((each for each in found.finals if each.words == trial.words), None)
        table.add_row(
            "answer" if trial.words == found.answer.words else "",
            " ".join(_telling(trial.words, space)),
            *(f"{trial.costs[cost]:,.0f}" for cost in costs),
            f"{trial.score:.4g}",
            _spread([score(row) for row in final.runs]) if final else "",
            _spread(final.tests) if final else "",
        )
    return table


def write(
    found: Found, folder: Path, costs: Sequence[str], asked: dict[str, Any]
) -> dict[str, Any]:
    """Write ``search.json``: what was asked, the front, the runs by fresh seeds, and the cost."""
    finals = {tuple(each.words): each for each in found.finals}
    record: dict[str, Any] = {
        "asked": asked,
        "front": [
            {
                "words": trial.words,
                "search_score": trial.score,
                "costs": {cost: trial.costs[cost] for cost in costs},
                "answer": trial.words == found.answer.words,
                "runs": [row.key for row in final.runs] if final else [],
                "validation": [score(row) for row in final.runs] if final else [],
                "test": final.tests if final else [],
            }
            for trial in found.front
            for final in [finals.get(tuple(trial.words))]
        ],
    }
    for name, trials in (("search", found.tried), ("fresh_seeds", found.finals)):
        runs = [row for trial in trials for row in trial.runs]
        joules = [row.energy.get("joules") for row in runs]
        known = [each for each in joules if each is not None]
        record[name] = {
            "draws": len(trials),
            "runs": len(runs),
            "joules": sum(known) if len(known) == len(runs) else None,
            "sources": sorted({str(row.energy.get("source")) for row in runs}),
        }
    record["command"] = " ".join(["smallnets", *found.answer.words, f"seed={FRESH}"])
    with replacing(folder / NAME) as draft:
        draft.write_text(json.dumps(record, indent=1) + "\n")
    return record


def sentences(record: Mapping[str, Any]) -> list[str]:
    """What the search took, and the command of the answer."""
    said = []
    for name, of in (("search", "the search"), ("fresh_seeds", "the fresh seeds")):
        each = record[name]
        joules = "unknown" if each["joules"] is None else f"{each['joules']:,.3g}"
        said.append(f"{of}: {each['runs']} runs, {joules} J ({', '.join(each['sources'])})")
    return [
        "; ".join(said) + ". Chosen by validation scores alone.",
        f"the answer: {record['command']}",
    ]


def _telling(words: list[str], space: Space) -> list[str]:
    """Those words of a draw that were drawn."""
    fixed = {
        values[0] for values in space.always.values() if isinstance(values, list) and not values[1:]
    }
    return [word for word in words if word not in fixed]


def _spread(values: Sequence[float]) -> str:
    spread = f" ± {np.std(values, ddof=1):.2g}" if len(values) > 1 else ""
    return f"{np.mean(values):.4g}{spread}"

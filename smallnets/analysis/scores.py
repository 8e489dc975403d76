"""Scores that a law can be of: the lower the better, told from chance, on so many examples."""

import numpy as np
import polars as pl
from scipy import stats

RISES = 0.6  # rank correlation of score and size from which a family's score is said to rise


def distance(table: pl.DataFrame, score: str, perfect: float | None) -> tuple[pl.DataFrame, str]:
    """The table with the distance of a higher-is-better ``score`` from ``perfect``, and its name.

    Without ``perfect`` it is 1 for scores up to 1 and 100 for scores up to 100.

    Raises:
        ValueError: if a score is above the perfect one, or that can't be guessed.
    """
    highest = float(table[score].cast(pl.Float64).fill_nan(None).max() or 0.0)  # type: ignore[arg-type]
    if perfect is None:
        perfect = next((each for each in (1.0, 100.0) if highest <= each), None)
    if perfect is None:
        raise ValueError(
            f"{score} goes up to {highest:g}: say which score is perfect (--perfect), since a law "
            "is of the distance from it"
        )
    if highest > perfect:
        raise ValueError(f"{score} goes up to {highest:g}, above the perfect score {perfect:g}")
    name = f"{perfect:g} - {score}"
    return table.with_columns((perfect - pl.col(score).cast(pl.Float64)).alias(name)), name


def refuse_rising(
    runs: pl.DataFrame, size: str, score: str, family: str, *, turned: bool = False
) -> None:
    """Raise one line if the score rises with size in most families: the other end is better.

    ``turned`` says that the score is a distance because higher was said to be better.
    """
    rising, judged = [], 0
    for (name,), line in runs.group_by(family, maintain_order=True):
        values = line.select(pl.col(size).cast(pl.Float64), pl.col(score).cast(pl.Float64))
        values = values.filter(pl.all_horizontal(pl.all().is_finite())).to_numpy()
        if len(np.unique(values[:, 0])) < 3 or np.ptp(values[:, 1]) == 0:
            continue
        judged += 1
        ranks = stats.rankdata(values, axis=0)
        if np.corrcoef(ranks.T)[0, 1] > RISES:
            rising.append(str(name))
    if judged and 2 * len(rising) > judged:
        hint = "lower is taken as better: if higher is better, say --higher-is-better"
        if turned:
            hint = "lower seems to be better: leave --higher-is-better and --perfect out"
        raise ValueError(
            f"{score} rises with {size} in {len(rising)} of {judged} families ({rising[0]} among "
            f"them), and {hint}"
        )


def above_chance(
    runs: pl.DataFrame, chance: float, *, size: str, score: str, family: str, turned: bool = False
) -> tuple[pl.DataFrame, list[str]]:
    """The runs of sizes that have begun to learn, and notes on those left out.

    A size counts as learning where its mean score is better than ``chance`` by twice its standard
    error over seeds: below that no law of learning can be told. Of ``turned`` scores, as an
    accuracy, higher is better.

    Raises:
        ValueError: if ``chance`` is no finite number, or no size differs from it.
    """
    if not np.isfinite(chance):
        raise ValueError(f"chance is a score, got {chance:g}")
    sign = -1.0 if turned else 1.0
    value = sign * pl.col(score).cast(pl.Float64)
    group = [family, size]
    error = (value.std().over(group) / value.count().over(group).sqrt()).fill_null(0.0)
    learning = value.mean().over(group) + 2 * error.fill_nan(0.0) < sign * chance
    out = runs.filter(~learning).select(group).unique(maintain_order=True)
    runs = runs.filter(learning)
    if runs.is_empty():
        raise ValueError(f"no size differs from chance, {chance:g}")
    notes = [
        f"{name}: left out, not told from chance ({chance:g}): "
        + ", ".join(f"{each:,}" for each in sizes[size])
        + "."
        for (name,), sizes in out.group_by(family, maintain_order=True)
    ]
    return runs, notes


def noise_of_examples(score: np.ndarray, spread: float, examples: int) -> str:
    """What ``examples`` test examples add to the scatter of an error rate, in a sentence.

    The binomial standard deviation of an error p is sqrt(p (1 - p) / n), of its logarithm
    sqrt((1 - p) / (p n)). ``spread`` is the standard deviation of the log score over seeds.

    Raises:
        ValueError: if the scores aren't shares between 0 and 1.
    """
    score = score[np.isfinite(score) & (score > 0)]
    if not len(score) or score.max() >= 1:
        raise ValueError(
            "the noise of a number of test examples is that of a share between 0 and 1, as an "
            "error is: leave --test-examples out for other scores"
        )
    drawn = float(np.sqrt(np.mean((1 - score) / (score * examples))))
    if not np.isfinite(spread):
        return f"{examples:,} test examples alone scatter a score by {drawn:.1%}"
    rest = float(np.sqrt(max(spread**2 - drawn**2, 0)))
    return (
        f"runs of a size scatter by {spread:.1%}, of which {examples:,} test examples alone give "
        f"{drawn:.1%}, and training {rest:.1%}"
        + ("" if drawn < spread else ": more seeds don't help, more test examples do")
    )

"""Differences between runs of one seed: what is left where seeds move both alike."""

import numpy as np
import polars as pl
from scipy import stats

from smallnets.analysis.compare import holm


def difference(pairs: np.ndarray, *, level: float = 0.95) -> dict[str, float | None]:
    """The mean of differences ``[seeds]``, its interval by Student's t, and its p-value against 0.

    Of a single one there is no interval, of none nothing.
    """
    if not len(pairs):
        return dict.fromkeys(("difference", "low", "high", "p_value"))
    mean, count = float(pairs.mean()), len(pairs)
    if count == 1:
        return {"difference": mean, "low": None, "high": None, "p_value": None}
    error = float(stats.sem(pairs))
    half = float(stats.t.ppf((1 + level) / 2, count - 1)) * error
    p_value = float(2 * stats.t.sf(abs(mean) / error, count - 1)) if error else float(mean == 0)
    return {"difference": mean, "low": mean - half, "high": mean + half, "p_value": p_value}


def paired(
    table: pl.DataFrame,
    *,
    group: str,
    reference: str,
    score: str,
    seed: str = "seed",
    level: float = 0.95,
) -> pl.DataFrame:
    """A line for each group, the reference first: its score less the reference's of the same seed.

    ``runs`` are those whose seed the reference has; ``mean`` and ``deviation`` are of their scores,
    ``difference``, ``low``, ``high`` and ``p_value`` as of :func:`difference`, null of the
    reference, and ``p_holm`` is after Holm, over the groups. Raises ValueError where there is no
    such reference, or a group has two runs of one seed.
    """
    scores: dict[str, dict[object, float]] = {}
    for name, number, value in table.select(group, seed, score).iter_rows():
        found = scores.setdefault(str(name), {})
        if number in found:
            raise ValueError(
                f"runs are paired by {seed}, of which a group has one each, but {name} has two of "
                f"{seed}={number}: narrow the groups"
            )
        found[number] = float("nan") if value is None else float(value)
    if reference not in scores:
        raise ValueError(f"there is no group {reference!r}, only {', '.join(scores) or 'none'}")
    base, lines = scores[reference], []
    for name, found in sorted(scores.items(), key=lambda each: each[0] != reference):
        both = [number for number in found if number in base]
        own = np.array([found[number] for number in both])
        pairs = own - np.array([base[number] for number in both])
        pairs = pairs[:0] if name == reference else pairs
        line = {"group": name, "runs": len(both), "mean": own.mean() if both else None}
        line |= {"deviation": own.std(ddof=1) if len(both) > 1 else None}
        lines.append(line | difference(pairs, level=level))
    p_values = np.array([np.nan if line["p_value"] is None else line["p_value"] for line in lines])
    schema = {"group": pl.String, "runs": pl.Int64} | dict.fromkeys(
        ("mean", "deviation", "difference", "low", "high", "p_value"), pl.Float64
    )
    return pl.DataFrame(lines, schema=schema).with_columns(
        p_holm=pl.Series(holm(p_values)).fill_nan(None)
    )

"""Choose the learning rate (or any swept setting) of each family and size, on validation data."""

from dataclasses import dataclass

import polars as pl

DIVERGED = "diverged"


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The runs at the chosen settings, and the whole sweep that they were chosen from.

    ``sweep`` has a line for each (family, size, setting): the mean validation ``score`` over seeds
    (infinite if any diverged), ``runs``, ``diverged``, whether it was ``chosen``, and ``edge``,
    "lowest" or "highest" where the chosen setting is the end of a grid, so that a better one may
    lie outside. ``failed`` names what has no setting without a diverged run.
    """

    runs: pl.DataFrame
    sweep: pl.DataFrame
    setting: str
    score: str
    size: str
    failed: tuple[str, ...]

    @property
    def at_edge(self) -> pl.DataFrame:
        """The lines of the sweep whose chosen setting is an end of its grid."""
        return self.sweep.filter(pl.col("chosen") & (pl.col("edge") != ""))


def best_rate(
    table: pl.DataFrame,
    *,
    setting: str = "config.optimizer.learning_rate",
    score: str = "validation_error",
    size: str = "parameters",
    family: str = "family",
) -> Selection:
    """The setting with the lowest mean ``score`` over seeds, for each (family, size).

    A setting with a diverged run counts as worst. Settings with fewer runs than another of the same
    (family, size), as an interrupted study leaves them, are not chosen. Ties go to the smaller.

    Raises:
        ValueError: if a column is missing, or ``score`` is measured on a test split.
    """
    if "test" in score:
        raise ValueError(f"a setting is chosen on a validation split, and {score} is a test score")
    missing = [name for name in (setting, score, size, family) if name not in table.columns]
    if missing:
        raise ValueError(
            f"no column {', '.join(missing)} to choose the setting by; there are "
            + ", ".join(table.columns[:12])
        )
    bad = ~pl.col("score").is_finite().fill_null(False)
    if "status" in table.columns:
        bad = bad | (pl.col("status") == DIVERGED)
    group = [family, size]
    runs = table.with_columns(pl.col(score).cast(pl.Float64, strict=False).alias("score"))
    sweep = (
        runs.with_columns(bad.alias("bad"))
        .group_by(*group, setting)
        .agg(
            pl.col("score").mean().alias("mean"),
            pl.len().alias("runs"),
            pl.col("bad").sum().alias("diverged"),
        )
        .with_columns(
            pl.when(pl.col("diverged") > 0)
            .then(float("inf"))
            .otherwise(pl.col("mean"))
            .alias("mean")
        )
        .sort(*group, setting)
    )
    complete = pl.col("runs") == pl.col("runs").max().over(group)
    rank = pl.when(complete).then(pl.col("mean")).otherwise(float("inf"))
    first = pl.int_range(pl.len()).over(group) == rank.arg_min().over(group)
    several = pl.col(setting).n_unique().over(group) > 1
    lowest = pl.col(setting) == pl.col(setting).min().over(group)
    highest = pl.col(setting) == pl.col(setting).max().over(group)
    sweep = sweep.with_columns((first & rank.is_finite()).alias("chosen")).with_columns(
        pl.when(pl.col("chosen") & several & lowest)
        .then(pl.lit("lowest"))
        .when(pl.col("chosen") & several & highest)
        .then(pl.lit("highest"))
        .otherwise(pl.lit(""))
        .alias("edge")
    )
    picked = sweep.filter("chosen").select(*group, setting)
    failed = sweep.group_by(group, maintain_order=True).agg(pl.col("chosen").any())
    failed = failed.filter(~pl.col("chosen"))
    return Selection(
        runs=table.join(picked, on=[*group, setting], how="semi", maintain_order="left"),
        sweep=sweep,
        setting=setting,
        score=score,
        size=size,
        failed=tuple(f"{name} at {count:,}" for name, count, _ in failed.iter_rows()),
    )

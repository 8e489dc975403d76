"""Choose the swept settings of each family and size, jointly, on validation data."""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from smallnets.analysis.table import some

DIVERGED = "diverged"
RATE = "config.optimizer.learning_rate"


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The runs at the chosen settings, and the whole sweep that they were chosen from.

    ``settings`` are the columns swept, ``sweep`` has a line for each (family, size, settings): the
    ``mean`` validation score over seeds (infinite if any diverged), ``runs``, ``diverged``, whether
    it was ``chosen``, and ``edge``, such as "lowest learning_rate" where a chosen setting is the
    end of its grid, so that a better one may lie outside. ``failed`` names what has no setting
    without a diverged run.
    """

    runs: pl.DataFrame
    sweep: pl.DataFrame
    settings: tuple[str, ...]
    score: str
    size: str
    failed: tuple[str, ...]

    @property
    def setting(self) -> str:
        """The first of the settings, the one that a sweep is drawn over."""
        return self.settings[0]

    @property
    def at_edge(self) -> pl.DataFrame:
        """The lines of the sweep whose chosen setting is an end of its grid."""
        return self.sweep.filter(pl.col("chosen") & (pl.col("edge") != ""))


def swept(table: pl.DataFrame, keys: Sequence[str]) -> tuple[str, ...]:
    """The columns ``config.*`` that vary among runs of equal ``keys`` (family, size, seed).

    The learning rate comes first. Two columns that vary together, such as one that is computed from
    another, are one setting: the first.
    """
    names = sorted(
        (name for name in table.columns if name.startswith("config.") and name not in keys),
        key=lambda name: (name != RATE, name),
    )
    if not names:
        return ()
    varied = table.group_by(keys).agg((pl.col(name).n_unique() > 1).any() for name in names)
    found: list[str] = []
    for name in names:
        if not varied[name].any():
            continue
        known = table.select(*keys, *found).n_unique()
        if table.select(*keys, *found, name).n_unique() > known:
            found.append(name)
    return tuple(found)


def best_rate(
    table: pl.DataFrame,
    *,
    setting: str | Sequence[str] = RATE,
    score: str = "validation_error",
    size: str = "parameters",
    family: str = "family",
) -> Selection:
    """The settings with the lowest mean ``score`` over seeds, for each (family, size).

    Several settings are chosen jointly, among the combinations that were run. One with a diverged
    run counts as worst. Those with fewer runs than another of the same (family, size), as an
    interrupted study leaves them, are not chosen. Ties go to the smaller.

    Raises:
        ValueError: if a column is missing, or ``score`` is measured on a test split.
    """
    settings = (setting,) if isinstance(setting, str) else tuple(setting)
    if "test" in score:
        raise ValueError(f"a setting is chosen on a validation split, and {score} is a test score")
    missing = [name for name in (*settings, score, size, family) if name not in table.columns]
    if missing:
        raise ValueError(
            f"no column {', '.join(missing)} to choose the setting by; there are "
            + ", ".join(table.columns[:12])
        )
    bad = ~pl.col("score").is_finite().fill_null(False)
    if "status" in table.columns:
        bad = bad | (pl.col("status").cast(pl.String) == DIVERGED).fill_null(False)
    group = [family, size]
    runs = table.with_columns(pl.col(score).cast(pl.Float64, strict=False).alias("score"))
    sweep = (
        runs.with_columns(bad.alias("bad"))
        .group_by(*group, *settings)
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
        .sort(*group, *settings)
    )
    complete = pl.col("runs") == pl.col("runs").max().over(group)
    rank = pl.when(complete).then(pl.col("mean")).otherwise(float("inf"))
    first = pl.int_range(pl.len()).over(group) == rank.arg_min().over(group)
    sweep = sweep.with_columns((first & rank.is_finite()).alias("chosen"))
    sweep = sweep.with_columns(
        pl.concat_str(
            [_edge(name, group) for name in settings], separator=", ", ignore_nulls=True
        ).alias("edge")
    )
    picked = sweep.filter("chosen").select(*group, *settings)
    failed = sweep.group_by(group, maintain_order=True).agg(pl.col("chosen").any())
    failed = failed.filter(~pl.col("chosen"))
    return Selection(
        runs=table.join(
            picked, on=[*group, *settings], how="semi", maintain_order="left", nulls_equal=True
        ),
        sweep=sweep,
        settings=settings,
        score=score,
        size=size,
        failed=tuple(f"{name} at {count:,}" for name, count, _ in failed.iter_rows()),
    )


def _edge(name: str, group: list[str]) -> pl.Expr:
    """Which end of its grid a chosen setting is, null where it is none."""
    several = pl.col(name).n_unique().over(group) > 1
    at = pl.col("chosen") & several
    word = name.rsplit(".", 1)[-1]
    return (
        pl.when(at & (pl.col(name) == pl.col(name).min().over(group)))
        .then(pl.lit(f"lowest {word}"))
        .when(at & (pl.col(name) == pl.col(name).max().over(group)))
        .then(pl.lit(f"highest {word}"))
        .otherwise(None)
    )


def notes(selection: Selection, family: str, size: str) -> list[str]:
    """What a reader must be told: choices at the edge of their grid, and where none was made."""
    name = " and ".join(each.removeprefix("config.") for each in selection.settings)
    said = []
    edge = selection.at_edge
    if len(edge):
        where = [
            f"{line[family]} at {line[size]:,} ({line['edge']})"
            for line in edge.iter_rows(named=True)
        ]
        said.append(
            f"The best {name} is at the edge of its grid for {len(edge)} of "
            f"{int(selection.sweep['chosen'].sum())} (family, size): {some(where)}. "
            "A better one may lie outside: widen the grid there."
        )
    if selection.failed:
        said.append(
            f"No {name} was chosen where each had a diverged run: {some(selection.failed)}."
        )
    return said

"""What the sizes of each family cost along every axis that the rows know, matched or not."""

from collections.abc import Sequence

import polars as pl

from smallnets.analysis.study import Study

PREFIX = "costs."
MATCHED = 0.05  # sizes that differ by less than this share are compared as one budget


def axes(table: pl.DataFrame) -> list[str]:
    """The columns of costs."""
    return [name for name in table.columns if name.startswith(PREFIX)]


def mismatch(study: Study, reference: str) -> pl.DataFrame:
    """A line for each family and size: its cost by each axis, and that over the reference's.

    The reference is the size of the family ``reference`` nearest to it, where it lies within 5 %;
    elsewhere the ratios, columns ``<axis> ratio``, are null. Costs are medians over runs. Empty
    where the rows hold no costs.
    """
    size, family = study.columns.size, study.columns.family
    names = [name for name in axes(study.runs) if name != size]
    if not names:
        return pl.DataFrame()
    at = study.runs.group_by(family, size, maintain_order=True).agg(pl.col(names).median())
    against = at.filter(pl.col(family) == reference)
    ratios = [_ratios(line, against, size, names) for line in at.iter_rows(named=True)]
    return at.hstack(pl.DataFrame(ratios, schema={_ratio(name): pl.Float64 for name in names}))


def _ratios(line: dict, against: pl.DataFrame, size: str, names: Sequence[str]) -> dict:
    distance = (against[size] / line[size]).log().abs()
    if not len(distance) or distance.min() > MATCHED:  # type: ignore[operator]
        return {}
    other = against.row(distance.arg_min(), named=True)  # type: ignore[arg-type]
    return {_ratio(name): line[name] / other[name] for name in names if line[name] and other[name]}


def _ratio(name: str) -> str:
    return f"{name} ratio"

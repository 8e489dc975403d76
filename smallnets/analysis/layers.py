"""What a study puts into a panel: its laws, its runs, the extent of its sizes and scores."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl

from smallnets.analysis.compare import Claims
from smallnets.analysis.intervals import band
from smallnets.analysis.panels import Panel, axis, grey, layer, markers, scatter, span, whiskers
from smallnets.analysis.study import Curve, Study, means
from smallnets.analysis.tables import label

DOTS = 2000  # runs that are drawn one by one; of more the lowest and highest of each size are
MARKED = 30  # means of a family that are marked at most
REACH = 2.5  # how far beyond the data, as a factor, a law is drawn (dashed)
POINTS = 40  # of a law within its data
GREY = 3  # of how many points a grey line takes one, the last too
UNTOLD = ("versions.", "folder", "command", "parent")  # not said of a run that is pointed at


def law_lines(curve: Curve, level: float) -> pl.DataFrame:
    """The law of ``curve`` with its bands below, within and above its data; empty without one.

    Bands are null where the law is not identifiable: they would mean nothing there.
    """
    if curve.choice is None or len(curve.choice.best.law.variables) > 1:
        return pl.DataFrame()
    fitted = curve.choice.best
    low, high = fitted.x[0].min(), fitted.x[0].max()
    parts = []
    for piece, (a, b) in enumerate(pairwise((low / REACH, low, high, high * REACH))):
        at = band(fitted, np.geomspace(a, b, POINTS if piece == 1 else POINTS // 2), level=level)
        columns: dict[str, Any] = {
            name: getattr(at, name) if fitted.identifiable else np.full(len(at.curve), np.nan)
            for name in ("mean_low", "mean_high", "run_low", "run_high")
        }
        parts.append(pl.DataFrame({"x": at.x[0], "y": at.curve, **columns, "piece": piece}))
    return pl.concat(parts).with_columns(pl.lit(curve.family).alias("family"))


def runs(
    study: Study, names: Sequence[str], shown: Sequence[str], *, dots: bool = True
) -> list[Panel]:
    """Runs as dots, or as bars where they are many, and their means as markers."""
    columns = study.columns
    at = pl.concat(
        means(curve, columns).select(
            pl.lit(curve.family).alias("family"),
            pl.col("size").cast(pl.Float64).alias("x"),
            pl.col("mean").alias("y"),
            pl.col("lowest").alias("low"),
            pl.col("highest").alias("high"),
            "runs",
        )
        for curve in study.curves
        if curve.family in names
    )
    marks = markers(thinned(at), shown, tips=named(study))
    if not dots:
        return [marks]
    if len(study.runs) > DOTS:
        return [whiskers(at, shown), marks]
    runs = pl.concat(curve.runs for curve in study.curves if curve.family in names)
    runs = runs.filter(pl.col(columns.score).cast(pl.Float64) > 0)
    told = [
        name
        for name in runs.columns
        if not (name.startswith(UNTOLD) or runs[name].dtype.is_nested())
        and study.runs[name].n_unique() > 1
    ]
    each = runs.select(
        pl.col(columns.family).alias("family"),
        pl.col(columns.size).cast(pl.Float64).alias("x"),
        pl.col(columns.score).cast(pl.Float64).alias("y"),
        *(_shown(pl.col(name), runs[name].dtype).alias(f"c{i}") for i, name in enumerate(told)),
    )
    # Names of columns may hold dots and brackets, which would be paths: fields have names of ours.
    tips = [{"field": f"c{i}", "title": label(name)} for i, name in enumerate(told)]
    return [scatter(each, shown, tips=tips), marks]


def multipliers(
    claims: Claims, names: Sequence[str]
) -> tuple[dict[str, pl.DataFrame], dict[str, pl.DataFrame]]:
    """The multipliers of ``names`` over the score, by the laws and by interpolation.

    By interpolation ``y`` is NaN where nothing can be said, so that lines have gaps there.
    """
    by_laws = {
        name: pl.DataFrame({"x": m.score, "y": m.value, "low": m.low, "high": m.high})
        .with_columns(pl.Series("p", m.p_value))
        .with_columns(pl.lit(name).alias("family"))
        for name in names
        if (m := claims.multipliers.get(name)) is not None
    }
    by_means = {
        name: pl.DataFrame(
            [(each.score, each.value, each.low, each.high) for each in claims.interpolated[name]],
            schema=dict.fromkeys(("x", "y", "low", "high"), pl.Float64),
            orient="row",
        ).with_columns(pl.lit(name).alias("family"))
        for name in names
        if name in claims.interpolated
    }
    return by_laws, by_means


def thinned(at: pl.DataFrame) -> pl.DataFrame:
    """The means that are marked: of many sizes so many of each family that markers stand apart."""
    place, sizes = pl.int_range(pl.len()).over("family"), pl.len().over("family")
    every = (sizes + MARKED - 1) // MARKED
    return at.filter(place % every == 0)


def _shown(value: pl.Expr, kind: pl.DataType) -> pl.Expr:
    value = value.round_sig_figs(5) if kind.is_float() else value
    return value.cast(pl.String).fill_null("")


def named(study: Study, *, less: str = "") -> list[Panel]:
    """What pointing at a mean tells."""
    score = label(study.columns.score) + (f" \N{MINUS SIGN} {less}" if less else "")
    return [
        {"field": "family", "title": "family"},
        {"field": "x", "title": label(study.columns.size), "format": ","},
        {"field": "y", "title": f"mean {score}", "format": ".4~g"},
        {"field": "runs", "title": "runs"},
    ]


def greys(study: Study, laws: dict[str, pl.DataFrame], names: Sequence[str]) -> list[Panel]:
    """The families ``names`` as grey lines: their laws within the data, or their means."""
    parts = []
    for curve in study.curves:
        if curve.family not in names:
            continue
        if len(law := laws[curve.family]):
            part = law.filter(pl.col("piece") == 1).gather_every(GREY)
        else:
            part = means(curve, study.columns).rename({"size": "x", "mean": "y"})
            part = part.with_columns(pl.lit(curve.family).alias("family"))
        parts.append(part.select("family", pl.col("x").cast(pl.Float64), "y"))
    return [grey(pl.concat(parts))] if parts else []


def _extent(study: Study) -> tuple[float, float]:
    sizes = study.runs.filter(pl.col(study.columns.score).cast(pl.Float64) > 0)[study.columns.size]
    return span(sizes, pad=0)


def sizes(study: Study) -> Panel:
    low, high = _extent(study)
    return axis(label(study.columns.size), (low / REACH, high * REACH))


def beyond(study: Study) -> list[Panel]:
    """A shade over what lies outside the sizes that were run."""
    low, high = _extent(study)
    ends = pl.DataFrame({"x": [low / REACH, high], "x2": [low, high * REACH]})
    shade = layer(ends, {"type": "rect", "color": "#000", "opacity": 0.045}, x2={"field": "x2"})
    del shade["encoding"]["y"]
    return [shade]


def scores(study: Study, laws: dict[str, pl.DataFrame]) -> tuple[float, float]:
    """Every run, and laws beyond them for at most a fifth of the axis; bands stretch nothing."""
    column = study.columns.score
    scores = study.runs.filter(pl.col(column).cast(pl.Float64) > 0)[column].cast(pl.Float64)
    low, high = np.log(span(scores, pad=0))
    drawn = np.concatenate(
        [np.log(law["y"].to_numpy()) for law in laws.values() if len(law)] or [[low]]
    )
    room = 0.2 * (high - low)
    low, high = max(low - room, min(drawn.min(), low)), min(high + room, max(drawn.max(), high))
    return span(np.exp([low, high]), pad=0.04)

"""A model's path: bytes on disk, milliseconds and score after each stage of a compression chain."""

from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Any

import numpy as np
import polars as pl

from smallnets.analysis.paired import difference
from smallnets.analysis.panels import (
    Figure,
    Panel,
    axis,
    grey,
    layer,
    markers,
    painted,
    panel,
    span,
    whiskers,
)
from smallnets.analysis.runs import finished
from smallnets.analysis.study import Study
from smallnets.analysis.tables import html, label, number

BYTES, TIME, BEFORE = "costs.file_bytes", "costs.latency_ms", "costs.parent_latency_ms"
NEEDED = ("key", "parent", "route", BYTES)
THEN = " > "  # between the stages of a route
SHOWN = 7  # chains in colour
AXES = {"bytes": "bytes on disk", "milliseconds": "milliseconds of a call"}
EMPTY = pl.DataFrame(schema={"chain": pl.String})
Run = dict[str, Any]


def stages(study: Study) -> pl.DataFrame:
    """A line for each chain and each stage of it, the run that it began with as ``place`` 0.

    ``bytes`` are the median of the stage's runs, ``mean`` the geometric mean of their scores,
    ``lowest`` and ``highest`` the ends of these. ``milliseconds`` are those of the stage before
    times the ratio of both, which were taken in turns, so that what else a machine did at another
    hour takes no part. ``difference``, ``low`` and ``high`` are of a run's score less that of the
    run that its chain began with: the mean and its interval by Student's t. Chains are sorted by
    the score at their end. Empty where no run has a route.
    """
    table, score = finished(study.table), study.columns.score
    if not {*NEEDED} <= {*table.columns} or not (table["route"].fill_null("") != "").any():
        return EMPTY
    lacking = [pl.lit(None, pl.Float64).alias(n) for n in (TIME, BEFORE) if n not in table.columns]
    table = table.with_columns(*lacking, pl.col("route", "parent").fill_null(""))
    family, size = study.columns.family, "parameters"
    wanted = [*NEEDED, TIME, BEFORE, score, family, *({size} & {*table.columns})]
    known = {line["key"]: line for line in table.select(set(wanted)).iter_rows(named=True)}
    kept = set(finished(study.runs)["key"])
    routes: dict[tuple[str, Any], dict[str, list[tuple[Run, Run | None]]]] = {}
    for key, run in known.items():
        if run["route"] and key in kept:
            first = _first(run, known)
            named = (first or run)[family].partition(THEN)[0], first and first.get(size)
            routes.setdefault(named, {}).setdefault(run["route"], []).append((run, first))
    lines = []
    for (name, parameters), found in routes.items():
        twice = sum(other == name for other, _ in routes) > 1
        said = f"{name}, {number(parameters)} parameters" if twice and parameters else name
        firsts = [runs for route, runs in found.items() if THEN not in route]
        begin = _median(run[BEFORE] for runs in firsts for run, _ in runs)
        for end in found:
            if not any(other.startswith(f"{end}{THEN}") for other in found):
                chain = end if len(routes) == 1 else f"{said}: {end}"
                lines += _of_chain(chain, end, found, score, begin, study.level)
    order = {line["chain"]: line["mean"] or np.inf for line in lines}  # the last of each chain
    lines.sort(key=lambda line: (order[line["chain"]], line["chain"], line["place"]))
    return pl.DataFrame(lines, infer_schema_length=None)


def _first(run: Run, known: dict[str, Run]) -> Run | None:
    """The run that a chain began with, which no pass has made; None where it is not known."""
    seen = set()
    while run["route"]:
        key = run["parent"].rpartition("-")[0]
        if key in seen or key not in known:
            return None
        seen.add(key)
        run = known[key]
    return run


def _of_chain(
    chain: str,
    end: str,
    found: dict[str, list[tuple[Run, Run | None]]],
    score: str,
    before: float | None,
    level: float,
) -> Iterator[dict[str, Any]]:
    begun = [first for _, first in found[end] if first is not None]
    first = list({run["key"]: run for run in begun}.values())
    prefixes = accumulate(end.split(THEN), lambda one, other: f"{one}{THEN}{other}")
    steps = [prefix for prefix in prefixes if prefix in found]
    yield from [_line(chain, 0, "start", first, before, score)] if first else []
    for place, step in enumerate(steps, start=1):
        runs = [run for run, _ in found[step]]
        ratio = _median(
            run[TIME] / run[BEFORE] if run[TIME] and run[BEFORE] else None for run in runs
        )
        before = before * ratio if before and ratio else _median(run[TIME] for run in runs)
        line = _line(chain, place, step.rpartition(THEN)[2], runs, before, score)
        pairs = [run[score] - start[score] for run, start in found[step] if start is not None]
        told = difference(np.array(pairs), level=level)
        yield line | {name: told[name] for name in ("difference", "low", "high")}


def _line(
    chain: str, place: int, stage: str, runs: list[Run], milliseconds: float | None, score: str
) -> dict[str, Any]:
    scores = np.array([run[score] for run in runs if run[score] and run[score] > 0])
    some = len(scores) > 0
    return {
        "chain": chain,
        "place": place,
        "stage": stage,
        "bytes": _median(run[BYTES] for run in runs),
        "milliseconds": milliseconds,
        "mean": float(np.exp(np.log(scores).mean())) if some else None,
        "lowest": float(scores.min()) if some else None,
        "highest": float(scores.max()) if some else None,
        "runs": len(runs),
        "difference": None,
        "low": None,
        "high": None,
    }


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None


def path(study: Study) -> Figure | None:
    """Each chain's line over bytes and over milliseconds, from what it began with to its end."""
    found = stages(study)
    if not len(found):
        return None
    chains = found["chain"].unique(maintain_order=True).to_list()
    shown = chains[:SHOWN]
    panels = [
        _panel(at, shown, study, AXES[name])
        for name in AXES
        if len(at := _at(found, name)) and at.group_by("family").len()["len"].max() != 1
    ]
    if not panels:
        return None
    text = (
        f"A line is a chain, in the order of its stages: geometric mean of the "
        f"{label(study.columns.score)} over seeds, bars from the lowest to the highest. It begins "
        "at the trained run that the chain started from, where that is still to be found. "
        "Milliseconds are those of the stage before times the ratio of both, taken in turns. Lower "
        "and further to the left is better. "
    )
    if len(chains) > SHOWN:
        text += f"In colour: the {SHOWN} of {len(chains)} chains with the best ends; grey: others. "
    return Figure(title="Paths of compressed models", caption=text, panels=tuple(panels), columns=2)


def _at(found: pl.DataFrame, cost: str) -> pl.DataFrame:
    """The stages whose ``cost`` and score are known, as ``x`` and ``y``."""
    kept = found.filter(pl.col(cost).is_not_null(), pl.col("mean").is_not_null())
    return kept.select(
        pl.col("chain").alias("family"),
        "place",
        "stage",
        pl.col(cost).cast(pl.Float64).alias("x"),
        pl.col("mean").alias("y"),
        pl.col("lowest").alias("low"),
        pl.col("highest").alias("high"),
        "runs",
    )


def _panel(at: pl.DataFrame, shown: list[str], study: Study, title: str) -> Panel:
    score = label(study.columns.score)
    tips = [
        {"field": "family", "title": "chain"},
        {"field": "stage", "title": "stage"},
        {"field": "x", "title": title, "format": ",.4~r"},
        {"field": "y", "title": f"mean {score}", "format": ".4~g"},
        {"field": "runs", "title": "runs"},
    ]
    coloured = at.filter(pl.col("family").is_in(shown))
    rest = at.filter(~pl.col("family").is_in(shown))
    order = {"order": {"field": "place", "type": "quantitative"}, "detail": {"field": "family"}}
    mark = {"type": "line", "strokeWidth": 1.6, "opacity": 1}
    words = {"type": "text", "align": "left", "dx": 7, "dy": -8, "fontSize": 9, "clip": False}
    once = coloured.unique(["stage", "x", "y"], keep="first", maintain_order=True)
    once = once.with_columns(pl.col("stage").str.split(" ").list.first())
    grey_lines = grey(rest)
    grey_lines["encoding"] |= order
    layers = [
        *([grey_lines] if len(rest) else ()),
        painted(coloured, mark, shown, "stroke", **order),
        whiskers(coloured, shown),
        markers(coloured, shown, tips=tips),
        layer(once, words, text={"field": "stage", "type": "nominal"}),
    ]
    x = axis(title, span(at["x"], pad=0.12))
    y = axis(score, span([*at["low"], *at["high"]]))
    drawn = panel(layers, x, y, legend=True)
    for name in ("stroke", "shape"):  # routes are long: one below the other
        drawn["layer"][-2]["encoding"][name]["legend"] = {"title": None, "columns": 1}
    return drawn


def sentences(study: Study) -> list[str]:
    """What each chain came to, best score first: times fewer bytes, milliseconds, and score."""
    found = stages(study)
    said = []
    for chain in found["chain"].unique(maintain_order=True):
        first, last = found.filter(chain=chain)[[0, -1]].iter_rows(named=True)
        if first["place"] or not last["place"]:
            continue
        fewer = _over(first["bytes"], last["bytes"])
        longer = _over(last["milliseconds"], first["milliseconds"])
        said.append(
            f"{chain}: {_number(fewer) or 'unknown'} times fewer bytes on disk, "
            f"{_number(longer) or 'unknown'} times the milliseconds, "
            f"{label(study.columns.score)} {_number(last['mean'])} where it began with "
            f"{_number(first['mean'])} (difference {_interval(last, study.level)})."
        )
    return said


def table(study: Study) -> str:
    """The stages of every chain as a table of HTML; empty without one."""
    found = stages(study)
    if not len(found):
        return ""
    first = found.filter(place=0).select("chain", pl.col("bytes").alias("first"))
    found = found.join(first, on="chain", how="left", maintain_order="left")
    score = label(study.columns.score)
    return html(
        pl.DataFrame(
            {
                "chain": line["chain"],
                "stage": line["stage"],
                "bytes on disk": _number(line["bytes"]),
                "times fewer": _number(_over(line["first"], line["bytes"])),
                "milliseconds": _number(line["milliseconds"]),
                score: _number(line["mean"]),
                f"{score} less the start's": _interval(line, study.level),
                "runs": line["runs"],
            }
            for line in found.iter_rows(named=True)
        )
    )


def _number(value: float | None) -> str:
    return "" if value is None else number(value)


def _over(one: float | None, other: float | None) -> float | None:
    return one / other if one and other else None


def _interval(line: dict[str, Any], level: float) -> str:
    if line["difference"] is None:
        return ""
    mean = f"{line['difference']:+.3g}"
    if line["low"] is None:
        return mean
    return f"{mean}, {level:.0%} interval {line['low']:+.3g} to {line['high']:+.3g}"

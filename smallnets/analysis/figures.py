"""Every figure of the report, written once: for the page, for PDF and for PNG.

Families are told apart by marker as well as by colour. Where bands would cover each other, each
family has a panel of its own; of many families the best are in colour and the others grey lines.
"""

import numpy as np
import polars as pl

from smallnets.analysis.compare import Claims
from smallnets.analysis.layers import (
    DOTS,
    MARKED,
    beyond,
    greys,
    law_lines,
    multipliers,
    named,
    runs,
    scores,
    sizes,
    thinned,
)
from smallnets.analysis.panels import (
    Figure,
    Panel,
    axis,
    bands,
    grey,
    layer,
    lines,
    markers,
    muted_lines,
    painted,
    panel,
    rule,
    scatter,
    span,
    whiskers,
)
from smallnets.analysis.paths import path
from smallnets.analysis.study import Study, means
from smallnets.analysis.table import some
from smallnets.analysis.tables import (
    bands_shown,
    counts,
    folded,
    label,
    number,
    objective,
    runs_shown,
)

FIGURES = ("curves", "path", "each_family", "multiplier", "pareto", "sweep", "residuals")
SHOWN = 7  # families that are told apart in one figure
OVERLAID = 2  # families whose bands may lie over each other
ENDS = (pl.min("y").alias("low"), pl.max("y").alias("high"))
STAR = "M0,-1L.24,-.31L.95,-.31L.38,.12L.59,.81L0,.39L-.59,.81L-.38,.12L-.95,-.31L-.24,-.31Z"


def figures(study: Study, claims: Claims) -> dict[str, Figure]:
    """The figures that the study has something to show in, in the order of the page."""
    shown = emphasised(study, claims)
    drawn = (
        curves(study, shown),
        path(study),
        each_family(study, shown),
        multiplier(study, claims, shown),
        pareto(study, claims, shown),
        sweep(study, shown),
        residuals(study, shown),
    )
    pairs = zip(FIGURES, drawn, strict=True)
    return {name: figure for name, figure in pairs if figure is not None}


def emphasised(study: Study, claims: Claims) -> list[str]:
    """The families in colour, in the study's order: all, or of many the reference and the best.

    The best are those with the lowest score at the middle budget that all share, then the others
    by the lowest mean that they reach.
    """
    names = [curve.family for curve in study.curves]
    if len(names) <= SHOWN:
        return names
    middle = claims.slices[len(claims.slices) // 2].families if claims.slices else ()
    reached = claims.points.group_by("family").agg(pl.min("score")).sort("score", "family")
    ranked = dict.fromkeys([claims.reference, *middle, *reached["family"], *names])
    first = set([name for name in ranked if name in names][:SHOWN])
    return [name for name in names if name in first]


def curves(study: Study, shown: list[str]) -> Figure:
    """Score over size with the laws; beside it the excess over E, where a law has one."""
    laws = {curve.family: law_lines(curve, study.level) for curve in study.curves}
    few = len(study.curves) <= OVERLAID
    layers = [
        *beyond(study),
        *greys(study, laws, [name for name in laws if name not in shown]),
        *(bands(laws, shown, shown) if few else ()),
        *lines(laws, shown, shown),
        *runs(study, shown, shown, dots=few),
    ]
    score = label(study.columns.score)
    several = len(laws) > 1
    panels = [panel(layers, sizes(study), axis(score, scores(study, laws)), legend=several)]
    floors = {
        curve.family: curve.choice.best.parameters["E"]
        for curve in study.curves
        if curve.family in shown
        and len(laws[curve.family])  # none is drawn of a law in two variables
        and curve.choice
        and curve.choice.best.parameters.get("E", 0) > 0
    }
    most = max(curve.runs[study.columns.size].n_unique() for curve in study.curves)
    every = f", of at most {MARKED} sizes" if most > MARKED else ""
    text = f"{counts(study)} {f'{runs_shown(study, most=DOTS)}; markers' if few else 'Markers'}: "
    text += f"geometric mean over seeds{every}. "
    if any(len(law) for law in laws.values()):
        text += (
            f"Lines: law fitted by {objective(study.delta)}, solid within the data, dashed beyond "
            f"(shaded). {bands_shown(study) if few else ''}"
        )
    if floors:
        panels.append(_excess(study, laws, floors, shown))
        text += "Second panel: the score less the fitted E, of laws that have one. "
    return Figure(
        title=f"{score.capitalize()} over {label(study.columns.size)}",
        caption=text + folded(study, shown),
        panels=tuple(panels),
        columns=2,
    )


def each_family(study: Study, shown: list[str]) -> Figure | None:
    """Each family with its bands in a panel of its own, where bands would cover each other."""
    laws = {curve.family: law_lines(curve, study.level) for curve in study.curves}
    if len(laws) <= OVERLAID or not any(len(law) for law in laws.values()):
        return None
    y = axis(label(study.columns.score), scores(study, laws))
    panels = []
    for name in shown:
        layers = [
            *beyond(study),
            *greys(study, laws, [other for other in shown if other != name]),
            *bands(laws, [name], shown),
            *lines(laws, [name], shown),
            *runs(study, [name], shown),
        ]
        panels.append(panel(layers, sizes(study), y, height=190, title=name))
    return Figure(
        title="Each family",
        caption=f"As above, one family at a time; grey: the others. {bands_shown(study)}",
        panels=tuple(panels),
        columns=3,
    )


def multiplier(study: Study, claims: Claims, shown: list[str]) -> Figure | None:
    """How many times less each family needs than the reference, over the score both reach.

    Where the shape of the laws is questioned it is drawn by interpolation, the laws' muted beside.
    """
    questioned = study.shape.questioned
    by_laws, by_means = multipliers(claims, shown)
    table, muted = (by_means, by_laws) if questioned else (by_laws, {})
    if not table:
        return None
    every = pl.concat(part.filter(pl.col("y").is_not_nan()) for part in table.values())
    beside = pl.concat([part.select("x", "y") for part in (*table.values(), *muted.values())])
    beside = beside.filter(pl.col("y").is_not_nan())
    x = axis(f"{label(study.columns.score)} (better to the right)", span(beside["x"], pad=0))
    x["scale"]["reverse"] = True
    inner = span([*beside["y"], 1.0], pad=0)
    room = max(np.log(inner[1] / inner[0]) / 2, np.log(2))  # an open band stretches no axis
    ends = np.exp([-room, room]) * inner
    low = float(np.clip(every["low"].min(), ends[0], inner[0]))  # type: ignore[arg-type]
    high = float(np.clip(every["high"].max(), inner[1], ends[1]))  # type: ignore[arg-type]
    y = axis("times fewer", span([low, high]))
    tips = [
        {"field": "family", "title": "family"},
        {"field": "x", "title": label(study.columns.score), "format": ".4~g"},
        {"field": "y", "title": "times fewer", "format": ".3~g"},
        {"field": "low", "title": "from", "format": ".3~g"},
        {"field": "high", "title": "to", "format": ".3~g"},
        *([] if questioned else [{"field": "p", "title": "p against 1", "format": ".2~g"}]),
    ]
    together = len(table) <= OVERLAID
    panels = []
    for group in [list(table)] if together else [[name] for name in table]:
        rest = [table[name] for name in table if name not in group]
        known = [table[name].filter(pl.col("y").is_not_nan()) for name in group]
        marked = [part.gather_every(max(len(part) // 4, 1), len(part) // 10) for part in known]
        layers = [
            rule(1),
            *([grey(pl.concat(rest))] if rest else ()),
            *muted_lines(muted, group, shown),
            *bands(table, group, shown, kinds=(("low", "high", 0.16),)),
            *lines(table, group, shown, tips=tips),
            markers(pl.concat(marked), shown, tips=tips),
        ]
        alone = group[0] if len(group) == 1 else ""
        panels.append(
            panel(layers, x, y, height=300 if together else 190, title=alone, legend=not alone)
        )
    size = label(study.columns.size)
    silent = [name for name in shown if name not in (*table, claims.reference)]
    text = (
        f"How many times fewer {size} a family needs than {claims.reference} for the same "
        f"{label(study.columns.score)}, only where both have data within their own sizes. "
        f"Bands: {study.level:.0%} pointwise, cut where they leave the figure. "
        + ("" if together else "Grey: the other families. ")
        + (
            "By monotone interpolation of the means, with gaps where a slope is not told from "
            "zero; dotted: by the laws, whose shape these data question. "
            if questioned
            else ""
        )
        + (f"Nothing is said of {some(silent)}: the table of pairs says why. " if silent else "")
    )
    return Figure(
        title=f"Efficiency against {claims.reference}",
        caption=text + folded(study, shown),
        panels=tuple(panels),
        columns=1 if together else 3,
    )


def pareto(study: Study, claims: Claims, shown: list[str]) -> Figure | None:
    """Mean scores over cost, filled where on the front; pointing tells how probable that is."""
    chance = pl.col("probability").mul(100).round(0)
    points = claims.points.rename({"cost": "x", "score": "y"}).with_columns(
        pl.format("{} %", chance.cast(pl.Int64, strict=False))
        .fill_null("unknown (one run)")
        .alias("chance")
    )
    if points.is_empty():
        return None
    on = points.filter("front").sort("x").select("x", "y")
    end = pl.DataFrame({"x": [points["x"].max()], "y": on["y"][-1:]})
    tips = [*named(study), {"field": "chance", "title": "on the front"}]
    if points["setting"].max():
        tips.append({"field": "setting", "title": "setting"})
    coloured = points.filter(pl.col("family").is_in(shown))
    rest = points.filter(~pl.col("family").is_in(shown))
    if len(rest) > DOTS:  # one stands for those that it would cover
        places = [(pl.col(name).log10() * 50).round().alias(f"{name} place") for name in ("x", "y")]
        rest = rest.sort("front", descending=True).unique(places, keep="first", maintain_order=True)
    best = {"type": "circle", "size": 22, "opacity": 1}  # inside the open marker
    layers = [
        layer(pl.concat([on, end]), {"type": "line", "interpolate": "step-after", "color": "#999"}),
        layer(rest, {"type": "point", "color": "#aaa", "size": 24}, tooltip=tips),
        layer(rest.filter("front"), best | {"color": "#aaa"}),
        painted(coloured.filter("front"), best, shown, "fill"),
        markers(coloured, shown, tips=tips),
    ]
    x = axis(label(study.columns.size), span(points["x"]))
    y = axis(label(study.columns.score), span(points["y"]))
    text = (
        "Geometric mean over seeds; with a dot inside: on the Pareto front, where no other point "
        f"is at least as good in {label(study.columns.size)} and {label(study.columns.score)} and "
        "better in one, so that equal points are on it together. "
    )
    return Figure(
        title="Pareto front",
        caption=text + folded(study, shown),
        panels=(panel(layers, x, y, legend=len(study.curves) > 1),),
    )


def sweep(study: Study, shown: list[str]) -> Figure | None:
    """Mean validation score over the swept setting, a panel a family, a line a size."""
    selection = study.selection
    if selection is None:
        return None
    table = selection.sweep.filter(pl.col("mean").is_finite() & (pl.col("mean") > 0)).select(
        pl.col(study.columns.family).alias("family"),
        pl.col(selection.size).cast(pl.Float64).alias("size"),
        pl.col(selection.setting).alias("x"),
        pl.col("mean").alias("y"),
        "runs",
        "chosen",
    )
    # Of several settings the best of the others stands at each value of the first.
    table = table.sort("family", "size", "x", pl.col("chosen").not_(), "y").unique(
        ["family", "size", "x"], keep="first", maintain_order=True
    )
    names = [name for name in shown if name in set(table["family"])]
    if not names:
        return None
    title = label(selection.setting)
    numeric = table["x"].dtype.is_numeric() and bool((table["x"] > 0).all())
    x = axis(title, span(table["x"])) if numeric else {"type": "nominal", "title": title}
    y = axis(label(selection.score), span(table["y"]))
    low, high = span(table["size"], pad=0)
    colour = {
        "field": "size",
        "type": "quantitative",
        "legend": None,
        "scale": {
            "type": "log",
            "domain": [low, max(high, low * 1.001)],
            "range": ["#b5cbe0", "#08306b"],
        },
    }
    tips = [
        {"field": "size", "title": label(selection.size), "format": ","},
        {"field": "x", "title": title},
        {"field": "y", "title": label(selection.score), "format": ".4~g"},
        {"field": "runs", "title": "runs"},
    ]
    line = {"type": "line", "strokeWidth": 1.3, "point": {"size": 14}}
    star = {"type": "point", "shape": STAR, "size": 100, "opacity": 1}
    star |= {"fill": "#D55E00", "stroke": "white", "strokeWidth": 0.5}
    panels = []
    for name in names:
        part = table.filter(pl.col("family") == name)
        kind = {} if numeric else {"x": x}
        encoding = kind | {"color": colour, "detail": {"field": "size"}, "tooltip": tips}
        layers = [
            layer(part, line, **encoding),
            layer(part.filter("chosen"), star, **kind, tooltip=tips),
        ]
        panels.append(panel(layers, x, y, height=190, title=name))
    text = (
        f"Mean {label(selection.score)} over seeds, one line a size, from {number(low)} (light) to "
        f"{number(high)} (dark); the star marks the {title} chosen. Left out: settings at which a "
        "run diverged. "
    )
    return Figure(
        title=f"Choice of the {title}",
        caption=text + folded(study, shown),
        panels=tuple(panels),
        columns=3,
    )


def residuals(study: Study, shown: list[str]) -> Figure | None:
    """Log score of each run minus the law, over size, a panel a family."""
    table = {
        curve.family: pl.DataFrame(
            {"x": curve.choice.best.x[0], "y": curve.choice.best.residuals}
        ).select(pl.lit(curve.family).alias("family"), "x", "y")
        for curve in study.curves
        if curve.choice and curve.family in shown
    }
    if not table:
        return None
    reach = 1.08 * max(float(part["y"].abs().max()) for part in table.values()) or 1e-3  # type: ignore[arg-type]
    y = axis("log score \N{MINUS SIGN} log law", (-reach, reach), kind="linear")
    panels = []
    for name, part in table.items():
        at = part.group_by("x").agg(pl.first("family"), pl.mean("y"), *ENDS).sort("x")
        dots = whiskers(at, shown) if len(study.runs) > DOTS else scatter(part, shown)
        layers = [rule(0), dots, *lines({name: at}, [name], shown), markers(thinned(at), shown)]
        panels.append(panel(layers, sizes(study), y, height=170, title=name))
    text = (
        f"{runs_shown(study, most=DOTS)}, each as its log score minus the log of its family's law; "
        "markers: means over seeds. A pattern over size is a wrong law, the more so where families "
        "share it. "
    )
    return Figure(
        title="Residuals",
        caption=text + folded(study, shown),
        panels=tuple(panels),
        columns=3,
    )


def _excess(
    study: Study, laws: dict[str, pl.DataFrame], floors: dict[str, float], shown: list[str]
) -> Panel:
    """The panel of the score less E."""
    less = [
        means(curve, study.columns)
        .select(
            pl.lit(curve.family).alias("family"),
            pl.col("size").alias("x"),
            (pl.col("mean") - floors[curve.family]).alias("y"),
            "runs",
        )
        .filter(pl.col("y") > 0)
        for curve in study.curves
        if curve.family in floors
    ]
    points = pl.concat(less)
    over = {
        name: laws[name].with_columns(pl.col("y") - floor).filter(pl.col("y") > 0)
        for name, floor in floors.items()
    }
    layers = [
        *beyond(study),
        *lines(over, list(floors), shown),
        markers(thinned(points), shown, tips=named(study, less="E")),
    ]
    y = axis(f"{label(study.columns.score)} \N{MINUS SIGN} E", span(points["y"], pad=0.15))
    return panel(layers, sizes(study), y, legend=len(study.curves) > 1)

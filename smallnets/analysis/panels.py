"""Panels of a figure as Vega-Lite: axes, layers, looks, and how they are put together for print."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np
import polars as pl
import vl_convert

from smallnets.files import replacing

VEGA_LITE = "6.4"  # of those that vl-convert brings
COLOURS = ("#0072B2", "#E69F00", "#000000", "#CC79A7", "#D55E00", "#56B4E9", "#009E73")
MARKERS = (
    "circle",
    "square",
    "triangle-up",
    "diamond",
    "triangle-down",
    "cross",
    "triangle-left",
    "triangle-right",
)
PRINTED = 620  # the width of a printed figure without its axes, in pixels of 1/72 inch
GAP = 60  # the width of a printed panel's axis
TICKS = 7
NUMBER = (
    "abs(datum.value) < 1000 ? format(datum.value, '~g') : "
    "replace(format(datum.value, '~s'), 'G', 'B')"
)
TEXT = {"labelColor": "#222", "labelFontSize": 11, "titleColor": "#222", "titleFontSize": 12}
CONFIG = {
    "background": "white",
    "font": "Liberation Sans, Arial, Helvetica, sans-serif",
    "view": {"stroke": None},
    "title": {"fontSize": 12, "fontWeight": "normal", "color": "#222", "offset": 4, "limit": 300},
    "axis": TEXT
    | {
        "gridColor": "#e8e8e8",
        "domainColor": "#444",
        "tickColor": "#444",
        "titleFontWeight": "normal",
        "labelOverlap": True,
        "labelSeparation": 5,
    },
    "legend": TEXT
    | {
        "orient": "top",
        "title": None,
        "labelFontSize": 12,
        "labelLimit": PRINTED - 30,
        "symbolSize": 80,
        "symbolStrokeWidth": 1.6,
        "symbolOpacity": 1,
        "columnPadding": 16,
        "offset": 8,
    },
}
Panel = dict[str, Any]
PLACES = {"x": {"field": "x", "type": "quantitative"}, "y": {"field": "y", "type": "quantitative"}}


@dataclass(frozen=True, kw_only=True)
class Figure:
    """Panels of equal height, ``columns`` beside each other, and in words what they show."""

    title: str
    caption: str
    panels: tuple[Panel, ...]
    columns: int = 1


def panel(
    layers: Iterable[Panel],
    x: Panel,
    y: Panel,
    *,
    height: int = 340,
    title: str = "",
    legend: bool = False,
) -> Panel:
    """One layered view; ``legend`` says above it which family is which."""
    layers = list(layers)
    for name, axis_ in (("x", x), ("y", y)):
        first = next(each["encoding"] for each in layers if name in each["encoding"])
        first[name] = first[name] | axis_
    for each in layers:
        for name in {"stroke", "shape"} & each["encoding"].keys():
            if each["encoding"][name]["field"] == "family":
                key = {"title": None} if legend else None
                each["encoding"][name] = each["encoding"][name] | {"legend": key}
    view = {"layer": layers, "height": height}
    return view | ({"title": {"text": title, "anchor": "start"}} if title else {})


def axis(title: str, domain: tuple[float, float], *, kind: str = "log") -> Panel:
    """A numeric axis over ``domain`` with few round ticks, plain numbers or 10k, 3M, 112T."""
    low, high = domain
    return {
        "type": "quantitative",
        "title": title,
        "scale": {"type": kind, "domain": [low, high], "nice": False}
        | ({} if kind == "log" else {"zero": False}),
        "axis": {"values": ticks(low, high, kind=kind), "labelExpr": NUMBER},
    }


def ticks(low: float, high: float, *, kind: str = "log") -> list[float]:
    """At most 7 round numbers within ``low`` to ``high``; 1, 2, 5 of decades where they fit."""
    if kind == "log" and high > 10 * low:
        decades = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
        for digits, every in (
            *(((1, 2, 5), 1), ((1, 3), 1)),
            *(((1,), step) for step in (1, 2, 3, 4, 6, 10, 20, 50, 100)),
        ):
            found = [
                float(f"{digit}e{decade}")
                for decade in decades
                if decade % every == 0
                for digit in digits
            ]
            found = [value for value in found if low <= value <= high]
            if len(found) <= TICKS:
                return found
    step = 10.0 ** np.floor(np.log10(max(high - low, 1e-300) / TICKS))
    step *= next(m for m in (1, 2, 2.5, 5, 10, 20) if (high - low) / (m * step) <= TICKS)
    first = int(np.ceil(low / step - 1e-9))
    last = int(np.floor(high / step + 1e-9))
    return [float(f"{place * step:.12g}") for place in range(first, last + 1)]


def span(values: Iterable[float], *, pad: float = 0.06, kind: str = "log") -> tuple[float, float]:
    """The domain of an axis that holds ``values``, padded by a share of its length."""
    usable = np.asarray(pl.Series(values, dtype=pl.Float64, strict=False).drop_nulls())
    usable = usable[np.isfinite(usable)]
    if kind == "log":
        usable = np.log(usable[usable > 0])
    low, high = (usable.min(), usable.max()) if len(usable) else (0.0, 1.0)
    edge = pad * (high - low) or 0.05
    ends = np.array([low - edge, high + edge]) if pad else np.array([low, high])
    first, last = np.exp(ends) if kind == "log" else ends
    return float(first), float(last)


def values(table: pl.DataFrame) -> list[dict[str, Any]]:
    """The lines of ``table`` as data, numbers to six digits; what is no finite number is null."""
    numbers = [name for name, kind in table.schema.items() if kind.is_float()]
    rounded = table.with_columns(
        pl.when(pl.col(name).is_finite()).then(pl.col(name).round_sig_figs(6)).alias(name)
        for name in numbers
    )
    return rounded.to_dicts()


def layer(table: pl.DataFrame, mark: Panel, **encoding: Any) -> Panel:
    """The lines of ``table`` as ``mark`` at their ``x`` and ``y``."""
    mark = {"clip": True} | mark
    return {"data": {"values": values(table)}, "mark": mark, "encoding": PLACES | encoding}


def rule(y: float) -> Panel:
    """A horizontal line at ``y``."""
    return {
        "data": {"values": [{"y": y}]},
        "mark": {"type": "rule", "color": "#888"},
        "encoding": {"y": {"field": "y", "type": "quantitative"}},
    }


def looks(families: Sequence[str]) -> dict[str, Panel]:
    """Colour and shape by family, the same in every panel that is given the same families."""
    return {
        name: {
            "field": "family",
            "type": "nominal",
            "scale": {
                "domain": list(families),
                "range": [cycle[i % len(cycle)] for i in range(len(families))],
            },
        }
        for name, cycle in (("stroke", COLOURS), ("shape", MARKERS))
    }


def key_width(families: Sequence[str]) -> int:
    """The width in pixels of one entry of a legend of ``families``."""
    return 44 + 6 * max((len(name) for name in families), default=0)


def painted(
    table: pl.DataFrame, mark: Panel, families: Sequence[str], channel: str, **encoding: Any
) -> Panel:
    """``layer`` in the colours of ``looks``, but without a part in the legend.

    The colour stands in the data: layers that share a scale would share its legend, and spoil it.
    """
    colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(families)}
    colour = pl.col("family").replace_strict(colours, return_dtype=pl.String).alias("colour")
    own = {channel: {"field": "colour", "type": "nominal", "scale": None}}
    return layer(table.with_columns(colour), mark, **own, **encoding)


def scatter(table: pl.DataFrame, families: Sequence[str], *, tips: Sequence[Panel] = ()) -> Panel:
    """A dot a line of ``table``."""
    mark = {"type": "circle", "size": 13, "opacity": 0.6}
    return painted(table, mark, families, "fill", **_told(tips))


def whiskers(table: pl.DataFrame, families: Sequence[str]) -> Panel:
    """A bar from ``low`` to ``high`` at each ``x``."""
    mark = {"type": "rule", "opacity": 0.6, "strokeWidth": 1}
    ends = {"y": PLACES["y"] | {"field": "low"}, "y2": {"field": "high"}}
    return painted(table, mark, families, "stroke", **ends)


def markers(
    table: pl.DataFrame,
    families: Sequence[str],
    *,
    tips: Sequence[Panel] = (),
) -> Panel:
    """An open marker a line, by colour and shape."""
    mark = {"type": "point", "size": 58, "strokeWidth": 1.6, "opacity": 1}
    return layer(table, mark, **looks(families), **_told(tips))


def lines(
    table: dict[str, pl.DataFrame],
    names: Sequence[str],
    families: Sequence[str],
    *,
    tips: Sequence[Panel] = (),
) -> list[Panel]:
    """A line a family; where ``piece`` is not 1, beyond the data, it is dashed."""
    parts = [table[name] for name in names if len(table[name])]
    if not parts:
        return []
    drawn = pl.concat(parts)
    drawn = drawn if "piece" in drawn.columns else drawn.with_columns(pl.lit(1).alias("piece"))
    dash = {"condition": {"test": "datum.piece != 1", "value": [4, 3]}, "value": [1, 0]}
    mark = {"type": "line", "strokeWidth": 1.6, "opacity": 1}
    detail = [{"field": "family"}, {"field": "piece"}]
    kept = ["family", "x", "y", "piece", *(tip["field"] for tip in tips)]
    return [
        painted(
            drawn.select(*dict.fromkeys(kept)),
            mark,
            families,
            "stroke",
            strokeDash=dash,
            detail=detail,
            **_told(tips),
        )
    ]


def muted_lines(
    table: dict[str, pl.DataFrame], names: Sequence[str], families: Sequence[str]
) -> list[Panel]:
    """A thin dotted line a family, for what does not lead."""
    parts = [table[name].select("family", "x", "y") for name in names if name in table]
    mark = {"type": "line", "strokeWidth": 1.2, "strokeDash": [1, 3], "opacity": 0.7}
    if not parts:
        return []
    return [painted(pl.concat(parts), mark, families, "stroke", detail={"field": "family"})]


def bands(
    table: dict[str, pl.DataFrame],
    names: Sequence[str],
    families: Sequence[str],
    *,
    kinds: Sequence[tuple[str, str, float]] = (
        ("run_low", "run_high", 0.08),
        ("mean_low", "mean_high", 0.2),
    ),
) -> list[Panel]:
    """An area a family between two columns, for each (low, high, opacity) of ``kinds``."""
    found = []
    for low, high, opacity in kinds:
        parts = [table[name] for name in names if len(table[name])]
        parts = [part for part in parts if part[low].is_not_nan().any()]
        if not parts:
            continue
        area = pl.concat(  # a line without a number is a gap
            part.select("family", "x", pl.col(low).alias("low"), pl.col(high).alias("high"))
            for part in parts
        )
        # An open end is drawn to far outside the axis, which clips it.
        area = area.with_columns(pl.col("low").clip(1e-300), pl.col("high").clip(upper_bound=1e300))
        ends = {"y": PLACES["y"] | {"field": "low"}, "y2": {"field": "high"}}
        mark = {"type": "area", "opacity": opacity, "strokeWidth": 0}
        found.append(painted(area, mark, families, "fill", **ends, detail={"field": "family"}))
    return found


def grey(table: pl.DataFrame) -> Panel:
    """Lines of families that are not told apart but by pointing at them."""
    mark = {"type": "line", "color": "#c4c4c4", "strokeWidth": 1, "opacity": 1}
    return layer(
        table.select("family", "x", "y"),
        mark,
        detail={"field": "family"},
        tooltip={"field": "family"},
    )


def _told(tips: Sequence[Panel]) -> dict[str, Any]:
    return {"tooltip": list(tips)} if tips else {}


def save(
    folder: Path,
    name: str,
    panels: Sequence[Panel],
    *,
    columns: int,
    caption: str = "",
    key: int = PRINTED,
    width: int = PRINTED,
) -> None:
    """Write ``name.pdf`` and ``name.png`` into ``folder``: equal panels give equal bytes.

    ``key`` is the width of one entry of the legend, ``width`` that of the figure.
    """
    across = min(columns, len(panels))
    each = (width - GAP * (across - 1)) // across
    words = {
        "text": wrap(caption, 128 * width // PRINTED),
        "orient": "bottom",
        "anchor": "start",
        "limit": 0,
    }
    specification = {
        "concat": [view | {"width": each} for view in panels],
        "columns": across,
        "spacing": 14,
        "config": CONFIG | {"legend": CONFIG["legend"] | {"columns": max(1, width // key)}},
        "title": words | {"anchor": "start", "fontSize": 10, "offset": 8},
    }
    drawing = vl_convert.vegalite_to_svg(specification, vl_version=VEGA_LITE)
    # Vega counts its clips on from one drawing to the next, and their names order the PDF.
    count: dict[str, str] = {}
    drawing = re.sub(
        r"""(?<=id="clip)\d+(?=")|(?<="url\(#clip)\d+(?=\)")""",
        lambda found: count.setdefault(found[0], str(1000 + len(count))),
        drawing,
    )
    # The entries of a dictionary of resources come in any order; the PDF is the same in each.
    pdf = re.sub(
        rb"(?m)(?:^ +/[A-Za-z]+\d+ \d+ 0 R\n)+",
        lambda found: b"".join(sorted(found[0].splitlines(keepends=True))),
        vl_convert.svg_to_pdf(drawing),
    )
    pictures = {
        "pdf": pdf,
        "png": vl_convert.svg_to_png(drawing, scale=2.5),
    }
    for suffix, picture in pictures.items():
        with replacing(folder / f"{name}.{suffix}") as draft:
            draft.write_bytes(picture)


def pickable(view: Panel) -> Panel:
    """``view`` for the screen: a click on a legend's entry leaves that family alone in full."""
    named = next(
        (
            place
            for place, each in enumerate(view["layer"])
            if each["encoding"].get("shape", {"legend": None}).get("legend", True) is not None
        ),
        None,
    )
    if named is None:
        return view
    layers = []
    for each in view["layer"]:
        if each["encoding"].keys() & {"stroke", "fill"}:  # what has a family's colour
            full = each["mark"].get("opacity", 1)
            fading = {"condition": {"param": "picked", "value": full}, "value": full / 10}
            each = each | {"encoding": each["encoding"] | {"opacity": fading}}
        layers.append(each)
    picked = {"name": "picked", "select": {"type": "point", "fields": ["family"]}, "bind": "legend"}
    layers[named] = layers[named] | {"params": [picked]}
    return view | {"layer": layers}

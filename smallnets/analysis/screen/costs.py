"""Families against each other: the Pareto front, and the efficiency multiplier over the score."""

import numpy as np
import plotly.graph_objects as go
import polars as pl

from smallnets.analysis.claims import Claims
from smallnets.analysis.drawing import label, staircase
from smallnets.analysis.screen.axes import dress, scores_axis, sizes_axis
from smallnets.analysis.study import Study
from smallnets.analysis.style import style


def pareto(study: Study, claims: Claims) -> go.Figure:
    """Mean scores over cost, filled where on the front; hovering tells how probable that is."""
    figure = go.Figure()
    x, y = staircase(claims.points)
    figure.add_trace(
        go.Scatter(
            x=x,
            y=y,
            mode="lines",
            line={"color": "#999", "width": 1.4, "shape": "hv"},
            hoverinfo="skip",
            name="front",
        )
    )
    for place, curve in enumerate(study.curves):
        points = claims.points.filter(pl.col("family") == curve.family)
        look = style(place)
        chance = [
            "unknown (one run)" if value is None else f"{value:.0%}"
            for value in points["probability"]
        ]
        figure.add_trace(
            go.Scatter(
                x=points["cost"].to_list() or [None],
                y=points["score"].to_list() or [None],
                mode="markers",
                name=curve.family,
                legendgroup=curve.family,
                showlegend=False,
                customdata=chance,
                marker={
                    "color": look.colour,
                    "size": 10,
                    "symbol": [
                        look.symbol if on else f"{look.symbol}-open" for on in points["front"]
                    ],
                    "line": {"width": 1.6, "color": look.colour},
                },
                hovertemplate="%{x:,} %{y:.4g}<br>on the front: %{customdata}"
                + f"<extra>{curve.family}</extra>",
            )
        )
        # The legend takes a trace's first marker, which may be an open one.
        figure.add_trace(
            go.Scatter(
                x=[None],
                y=[None],
                mode="markers",
                name=curve.family,
                legendgroup=curve.family,
                marker={"color": look.colour, "symbol": look.symbol, "size": 10},
            )
        )
    dress(figure, height=440)
    sizes_axis(figure, label(study.columns.size))
    scores_axis(figure, label(study.columns.score), claims.points["score"].to_list())
    return figure


def multiplier(study: Study, claims: Claims) -> go.Figure | None:
    """How many times less each family needs than the reference, over the score both reach."""
    if not claims.multipliers:
        return None
    figure = go.Figure()
    values = []
    for place, curve in enumerate(study.curves):
        m = claims.multipliers.get(curve.family)
        if m is None:
            continue
        look = style(place)
        values += [*m.low, *m.high]
        figure.add_trace(
            go.Scatter(
                x=np.concatenate([m.score, m.score[::-1]]),
                y=np.concatenate([m.low, m.high[::-1]]),
                fill="toself",
                fillcolor=look.tint(0.14),
                mode="lines",
                line={"width": 0},
                hoverinfo="skip",
                legendgroup=curve.family,
                showlegend=False,
            )
        )
        every = slice(len(m.score) // 8, None, max(len(m.score) // 4, 1))
        figure.add_trace(
            go.Scatter(
                x=m.score,
                y=m.value,
                mode="lines",
                line={"color": look.colour, "width": 2},
                legendgroup=curve.family,
                showlegend=False,
                customdata=np.stack([m.low, m.high, m.p_value], axis=1),
                hovertemplate="score %{x:.4g}: %{y:.3g} times (%{customdata[0]:.3g} to "
                "%{customdata[1]:.3g}), p = %{customdata[2]:.2g}"
                f"<extra>{curve.family}</extra>",
            )
        )
        figure.add_trace(
            go.Scatter(
                x=m.score[every],
                y=m.value[every],
                mode="markers",
                name=curve.family,
                legendgroup=curve.family,
                hoverinfo="skip",
                marker={
                    "color": look.colour,
                    "symbol": f"{look.symbol}-open",
                    "size": 9,
                    "line": {"width": 1.8},
                },
            )
        )
    figure.add_hline(y=1, line={"color": "#666", "width": 1})
    dress(figure, height=420)
    figure.update_xaxes(title=f"{label(study.columns.score)} (better to the right)")
    figure.update_xaxes(autorange="reversed")
    title = f"times fewer {label(study.columns.size)} than {claims.reference}"
    scores_axis(figure, title, values)
    return figure

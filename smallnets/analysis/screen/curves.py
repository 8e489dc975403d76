"""Score over size: hover a dot for its run, click a family in the legend to switch it off."""

import numpy as np
import plotly.graph_objects as go
import polars as pl
from plotly.subplots import make_subplots

from smallnets.analysis.drawing import asymptote, label, means, segments
from smallnets.analysis.screen.axes import dress, scores_axis, sizes_axis
from smallnets.analysis.study import Curve, Study
from smallnets.analysis.style import Style, style


def curves(study: Study) -> go.Figure:
    """Score over size with its law, and beside it the excess over the fitted asymptote."""
    figure = make_subplots(rows=1, cols=2, horizontal_spacing=0.09)
    for place, curve in enumerate(study.curves):
        look = style(place)
        for column, subtract in ((1, 0.0), (2, asymptote(curve))):
            for trace in _curve(study, curve, look, subtract=subtract, first=column == 1):
                figure.add_trace(trace, row=1, col=column)
    score = label(study.columns.score)
    dress(figure, height=520)
    sizes_axis(figure, label(study.columns.size))
    excess = []
    for curve in study.curves:
        excess += [v - asymptote(curve) for v in means(curve, study.columns)["mean"]]
    scores = study.runs.filter(pl.col(study.columns.score) > 0)[study.columns.score].to_list()
    scores_axis(figure, score, scores, col=1)
    scores_axis(figure, f"{score} \N{MINUS SIGN} E", [v for v in excess if v > 0], col=2)
    _shade_beyond(figure, study)
    return figure


def hover(runs: pl.DataFrame) -> list[str]:
    """One text a run: every column of its row that differs between runs, a line each."""
    shown = [
        name
        for name in runs.columns
        if not name.startswith("versions.") and runs[name].n_unique() > 1
    ]
    texts = []
    for line in runs.select(shown).iter_rows():
        pairs = (
            f"{label(name)}: {value:.5g}" if isinstance(value, float) else f"{label(name)}: {value}"
            for name, value in zip(shown, line, strict=True)
            if value is not None
        )
        texts.append("<br>".join(pairs))
    return texts


def _curve(
    study: Study, curve: Curve, look: Style, *, subtract: float, first: bool
) -> list[go.Scatter]:
    group = {"legendgroup": curve.family, "showlegend": False}
    line = {"color": look.colour, "width": 2}
    traces = []
    for segment in segments(curve, level=study.level):
        lines = segment.band
        x = lines.x[0]
        if first and segment.banded:
            bands = ((0.07, lines.run_low, lines.run_high), (0.17, lines.mean_low, lines.mean_high))
            for opacity, low, high in bands:
                traces.append(
                    go.Scatter(
                        x=np.concatenate([x, x[::-1]]),
                        y=np.concatenate([low, high[::-1]]),
                        fill="toself",
                        fillcolor=look.tint(opacity),
                        line={"width": 0},
                        mode="lines",
                        hoverinfo="skip",
                        **group,
                    )
                )
        above = lines.curve > subtract
        traces.append(
            go.Scatter(
                x=x[above],
                y=lines.curve[above] - subtract,
                mode="lines",
                line=line | {"dash": "solid" if segment.inside else "dash"},
                hoverinfo="skip",
                **group,
            )
        )
    columns = study.columns
    runs = curve.runs.filter(pl.col(columns.score).cast(pl.Float64) > subtract)
    points = means(curve, columns).filter(pl.col("mean") > subtract)
    traces.append(
        go.Scatter(
            x=runs[columns.size].to_list(),
            y=(runs[columns.score].cast(pl.Float64) - subtract).to_list(),
            mode="markers",
            marker={"color": look.colour, "size": 5, "opacity": 0.6},
            customdata=hover(runs) if first else None,
            hovertemplate="%{customdata}<extra>" + curve.family + "</extra>" if first else None,
            hoverinfo=None if first else "skip",
            **group,
        )
    )
    traces.append(
        go.Scatter(
            x=points["size"].to_list() or [None],
            y=(points["mean"] - subtract).to_list() or [None],
            mode="markers",
            name=curve.family,
            legendgroup=curve.family,
            showlegend=first,
            marker={
                "color": look.colour,
                "symbol": f"{look.symbol}-open",
                "size": 10,
                "line": {"width": 1.8},
            },
            customdata=points["runs"].to_list(),
            hovertemplate="mean %{y:.4g} of %{customdata} runs at %{x:,}"
            + f"<extra>{curve.family}</extra>",
        )
    )
    return traces


def _shade_beyond(figure: go.Figure, study: Study) -> None:
    sizes = [points["size"] for curve in study.curves if len(points := means(curve, study.columns))]
    if not sizes:
        return
    low, high = min(float(s[0]) for s in sizes), max(float(s[-1]) for s in sizes)
    for axis in ("", "2"):
        for x0, x1 in ((low / 3, low), (high, high * 3)):
            figure.add_shape(
                type="rect",
                x0=x0,
                x1=x1,
                y0=0,
                y1=1,
                xref=f"x{axis}",
                yref=f"y{axis} domain",
                fillcolor="#f3f3f3",
                line_width=0,
                layer="below",
            )
    figure.update_xaxes(range=[np.log10(low / 3), np.log10(high * 3)])

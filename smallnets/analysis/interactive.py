"""The pictures for the screen, as Plotly figures: hover a dot for its run, click a family away."""

import numpy as np
import plotly.graph_objects as go
import polars as pl
from plotly.subplots import make_subplots

from smallnets.analysis.drawing import asymptote, label, means, segments
from smallnets.analysis.study import Curve, Study
from smallnets.analysis.style import Style, style

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"
GRID = "#e4e4e4"


def curves(study: Study) -> go.Figure:
    """Score over size with its law, and beside it the excess over the fitted asymptote."""
    figure = make_subplots(rows=1, cols=2, horizontal_spacing=0.09)
    for place, curve in enumerate(study.curves):
        look = style(place)
        for column, subtract in ((1, 0.0), (2, asymptote(curve))):
            for trace in _curve(study, curve, look, subtract=subtract, first=column == 1):
                figure.add_trace(trace, row=1, col=column)
    score = label(study.columns.score)
    _dress(figure, height=520)
    _sizes_axis(figure, label(study.columns.size))
    excess = []
    for curve in study.curves:
        excess += [v - asymptote(curve) for v in means(curve, study.columns)["mean"]]
    scores = study.runs.filter(pl.col(study.columns.score) > 0)[study.columns.score].to_list()
    _scores_axis(figure, score, scores, col=1)
    _scores_axis(figure, f"{score} \N{MINUS SIGN} E", [v for v in excess if v > 0], col=2)
    _shade_beyond(figure, study)
    return figure


def residuals(study: Study) -> go.Figure:
    """Log score of each run minus the law, over size."""
    figure = go.Figure()
    for place, curve in enumerate(study.curves):
        if curve.choice is None:
            continue
        fitted, look = curve.choice.best, style(place)
        figure.add_trace(
            go.Scatter(
                x=fitted.x[0],
                y=fitted.residuals,
                mode="markers",
                name=curve.family,
                marker={"color": look.colour, "symbol": look.symbol, "size": 6, "opacity": 0.7},
                hovertemplate="%{x:,} %{y:+.4f}<extra>" + curve.family + "</extra>",
            )
        )
    _dress(figure, height=340)
    _sizes_axis(figure, label(study.columns.size))
    figure.update_yaxes(title=f"log {label(study.columns.score)} \N{MINUS SIGN} log law")
    figure.add_hline(y=0, line={"color": "#888", "width": 1})
    return figure


def sweep(study: Study) -> go.Figure | None:
    """Mean validation score over the swept setting, a panel a family, a line a size."""
    selection = study.selection
    if selection is None:
        return None
    columns = study.columns
    names = [curve.family for curve in study.curves]
    across = min(len(names), 3)
    figure = make_subplots(
        rows=-(-len(names) // across),
        cols=across,
        subplot_titles=names,
        shared_yaxes="all",
        shared_xaxes="all",
        horizontal_spacing=0.03,
        vertical_spacing=0.12,
    )
    sizes = selection.sweep[columns.size].to_numpy().astype(float)
    low, high = np.log(sizes.min()), np.log(sizes.max())
    for place, name in enumerate(names):
        lines = selection.sweep.filter(pl.col(columns.family) == name)
        for size, line in lines.group_by(columns.size, maintain_order=True):
            count = float(size[0])  # type: ignore[arg-type]
            share = (np.log(count) - low) / (high - low) if high > low else 1.0
            grey = f"hsl(205, 70%, {75 - 55 * share:.0f}%)"
            chosen = line["chosen"].to_list()
            diverged = line["diverged"].to_list()
            values = [value if np.isfinite(value) else None for value in line["mean"]]
            figure.add_trace(
                go.Scatter(
                    x=line[selection.setting].to_list(),
                    y=values,
                    mode="lines+markers",
                    line={"color": grey, "width": 1.4},
                    marker={
                        "color": [grey if not c else "#D55E00" for c in chosen],
                        "size": [11 if c else 5 for c in chosen],
                        "symbol": ["star" if c else "circle" for c in chosen],
                    },
                    customdata=[f"{d} diverged" if d else "" for d in diverged],
                    name=f"{count:,.0f}",
                    showlegend=False,
                    hovertemplate=f"{label(columns.size)} {count:,.0f}"
                    f"<br>{label(selection.setting)} %{{x:.3g}}"
                    f"<br>{label(selection.score)} %{{y:.4g}}<br>%{{customdata}}<extra></extra>",
                ),
                row=place // across + 1,
                col=place % across + 1,
            )
    _dress(figure, height=80 + 250 * -(-len(names) // across))
    numeric = selection.sweep[selection.setting].dtype.is_numeric()
    figure.update_xaxes(
        type="log" if numeric and (selection.sweep[selection.setting] > 0).all() else "-"
    )
    figure.update_xaxes(title=label(selection.setting), row=-(-len(names) // across))
    values = [v for v in selection.sweep["mean"] if 0 < v < np.inf]
    for column in range(across):
        title = label(selection.score) if column == 0 else ""
        _scores_axis(figure, title, values, col=column + 1)
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
        if first and np.isfinite(lines.mean_high).all():
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


def _dress(figure: go.Figure, *, height: int) -> None:
    figure.update_layout(
        template="none",
        height=height,
        font={"family": FONT, "size": 13, "color": "#222"},
        margin={"l": 70, "r": 20, "t": 60, "b": 55},
        legend={"orientation": "h", "y": 1.03, "yanchor": "bottom"},
        hoverlabel={"align": "left", "bgcolor": "white", "font": {"color": "#222"}},
        hovermode="closest",
        paper_bgcolor="white",
        plot_bgcolor="white",
    )
    axes = {"gridcolor": GRID, "linecolor": "#444", "ticks": "outside", "zeroline": False}
    figure.update_xaxes(**axes)
    figure.update_yaxes(**axes)


def _sizes_axis(figure: go.Figure, title: str) -> None:
    figure.update_xaxes(type="log", title=title, exponentformat="power", dtick=1)


def _scores_axis(figure: go.Figure, title: str, values: list[float], *, col: int) -> None:
    """A logarithmic axis with a tick at 1, 2, 5 of each decade, or finer within one decade."""
    decades = np.ptp(np.log10(values)) if values else 0.0
    dtick = 1 if decades > 3 else "D2" if decades > 0.9 else "D1"
    figure.update_yaxes(type="log", title=title, dtick=dtick, tickformat="~g", col=col)


def _shade_beyond(figure: go.Figure, study: Study) -> None:
    sizes = [points["size"] for curve in study.curves if len(points := means(curve, study.columns))]
    if not sizes:
        return
    low, high = min(float(s[0]) for s in sizes), max(float(s[-1]) for s in sizes)
    for column in (1, 2):
        for x0, x1 in ((low / 3, low), (high, high * 3)):
            figure.add_vrect(
                x0=x0, x1=x1, fillcolor="#f3f3f3", line_width=0, layer="below", row=1, col=column
            )
    figure.update_xaxes(range=[np.log10(low / 3), np.log10(high * 3)])

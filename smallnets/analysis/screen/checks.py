"""What to look at before believing a curve: its residuals, and the sweep behind its runs."""

import numpy as np
import plotly.graph_objects as go
import polars as pl
from plotly.subplots import make_subplots

from smallnets.analysis.drawing import label, swept_families
from smallnets.analysis.screen.axes import dress, scores_axis, sizes_axis
from smallnets.analysis.study import Study
from smallnets.analysis.style import style


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
    dress(figure, height=340)
    sizes_axis(figure, label(study.columns.size))
    figure.update_yaxes(title=f"log {label(study.columns.score)} \N{MINUS SIGN} log law")
    figure.add_hline(y=0, line={"color": "#888", "width": 1})
    return figure


def sweep(study: Study) -> go.Figure | None:
    """Mean validation score over the swept setting, a panel a family, a line a size."""
    selection = study.selection
    columns, names = study.columns, swept_families(study)
    if selection is None or not names:
        return None
    across = min(len(names), 3)
    figure = make_subplots(
        rows=-(-len(names) // across),
        cols=across,
        subplot_titles=names,
        shared_yaxes="all",  # pyright: ignore[reportArgumentType]
        shared_xaxes="all",  # pyright: ignore[reportArgumentType]
        horizontal_spacing=0.03,
        vertical_spacing=0.12,
    )
    sizes = selection.sweep[selection.size].to_numpy().astype(float)
    low, high = np.log(sizes.min()), np.log(sizes.max())
    for place, name in enumerate(names):
        lines = selection.sweep.filter(pl.col(columns.family) == name)
        for size, line in lines.group_by(selection.size, maintain_order=True):
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
                        "opacity": 1,
                    },
                    customdata=[f"{d} diverged" if d else "" for d in diverged],
                    name=f"{count:,.0f}",
                    showlegend=False,
                    hovertemplate=f"{label(selection.size)} {count:,.0f}"
                    f"<br>{label(selection.setting)} %{{x:.3g}}"
                    f"<br>{label(selection.score)} %{{y:.4g}}<br>%{{customdata}}<extra></extra>",
                ),
                row=place // across + 1,
                col=place % across + 1,
            )
    dress(figure, height=80 + 250 * -(-len(names) // across))
    numeric = selection.sweep[selection.setting].dtype.is_numeric()
    figure.update_xaxes(
        type="log" if numeric and (selection.sweep[selection.setting] > 0).all() else "-"
    )
    figure.update_xaxes(title=label(selection.setting), row=-(-len(names) // across))
    values = [v for v in selection.sweep["mean"] if 0 < v < np.inf]
    for column in range(across):
        title = label(selection.score) if column == 0 else ""
        scores_axis(figure, title, values, col=column + 1)
    return figure

"""The looks that every figure on the screen shares."""

import numpy as np
import plotly.graph_objects as go

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"
GRID = "#e4e4e4"


def dress(figure: go.Figure, *, height: int) -> None:
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


def sizes_axis(figure: go.Figure, title: str) -> None:
    figure.update_xaxes(type="log", title=title, exponentformat="power", dtick=1)


def scores_axis(
    figure: go.Figure, title: str, values: list[float], *, col: int | None = None
) -> None:
    """A logarithmic axis with a tick at 1, 2, 5 of each decade, or finer within one decade."""
    decades = np.ptp(np.log10(values)) if values else 0.0
    dtick = 1 if decades > 3 else "D2" if decades > 0.9 else "D1"
    figure.update_yaxes(type="log", title=title, dtick=dtick, tickformat="~g", col=col)

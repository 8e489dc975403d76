"""All figures of a report, by name, in the order of the page."""

import plotly.graph_objects as go

from smallnets.analysis.claims import Claims
from smallnets.analysis.screen.checks import residuals, sweep
from smallnets.analysis.screen.costs import multiplier, pareto
from smallnets.analysis.screen.curves import curves
from smallnets.analysis.study import Study


def figures(study: Study, claims: Claims) -> dict[str, go.Figure]:
    """Those figures that the study has something to show in."""
    drawn = {
        "curves": curves(study),
        "multiplier": multiplier(study, claims),
        "pareto": pareto(study, claims),
        "sweep": sweep(study),
        "residuals": residuals(study),
    }
    return {name: figure for name, figure in drawn.items() if figure is not None}

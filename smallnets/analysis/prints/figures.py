"""All figures of a report as PDF and PNG."""

from pathlib import Path

from smallnets.analysis.claims import Claims
from smallnets.analysis.prints.checks import residuals, sweep
from smallnets.analysis.prints.costs import multiplier, pareto
from smallnets.analysis.prints.curves import curves
from smallnets.analysis.study import Study


def write(study: Study, claims: Claims, folder: Path) -> None:
    """Write into ``folder`` those figures that the study has something to show in."""
    curves(study, folder)
    multiplier(study, claims, folder)
    pareto(study, claims, folder)
    sweep(study, folder)
    residuals(study, folder)

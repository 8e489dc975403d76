"""How the report names columns, numbers and what was done."""

import numpy as np

from smallnets.analysis.study import Study, means

SUFFIXES = ((1e12, "T"), (1e9, "B"), (1e6, "M"))


def label(column: str) -> str:
    """A column's name as an axis title: the last part of a dotted one, in words."""
    return column.rsplit(".", 1)[-1].replace("_", " ")


def number(value: float) -> str:
    """A size or cost: 1,014 in full, from a million on three digits, as 1.5 M, 70 B, 112 T."""
    for unit, suffix in SUFFIXES:
        if abs(value) >= unit * 0.9995:
            return f"{float(f'{value / unit:.3g}'):,.10g} {suffix}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def objective(delta: float) -> str:
    """The fitting objective in words."""
    if delta == 0:
        return "least absolute deviation of the log score"
    if np.isinf(delta):
        return "least squares on the log score"
    return f"the sum of Huber's loss of the log score, delta = {delta:g}"


def some(names: list[str] | tuple[str, ...], *, most: int = 6) -> str:
    """The first ``most`` names, and how many more there are."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def counts(study: Study) -> str:
    """How many families, sizes and seeds the figure shows."""
    found = [
        (len(points), int(points["runs"].max()))  # type: ignore[arg-type]
        for points in (means(curve, study.columns) for curve in study.curves)
        if len(points)
    ]
    if not found:
        return "No run finished."
    sizes, seeds = (_between(values) for values in zip(*found, strict=True))
    text = f"{sizes} sizes \N{MULTIPLICATION SIGN} {seeds} seed{'' if seeds == '1' else 's'}"
    return f"{len(found)} families, {text} each." if len(found) > 1 else f"{text}."


def runs_shown(study: Study, *, most: int) -> str:
    """What stands for the runs."""
    return "Dots: runs" if len(study.runs) <= most else "Bars: lowest to highest run of a size"


def bands_shown(study: Study) -> str:
    """Which band is which, where a law has one."""
    if not any(curve.choice and curve.choice.best.identifiable for curve in study.curves):
        return "No bands: too few sizes. "
    return f"Dark band: {study.level:.0%} for the mean; light band: for one further run. "


def folded(study: Study, shown: list[str]) -> str:
    """Which families have colours, where not all do."""
    rest = len(study.curves) - len(shown)
    if rest <= 0:
        return ""
    return (
        f"In colour the family that is compared with and the best {len(shown) - 1} of the others; "
        f"the other {rest} are grey or left out."
    )


def _between(values: tuple[int, ...]) -> str:
    return str(values[0]) if len(set(values)) == 1 else f"{min(values)} to {max(values)}"

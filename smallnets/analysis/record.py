"""What an analysis found as data for other programs: ``analysis.json`` and three CSV files.

``SCHEMA.md`` beside this file says what each key and column means. Numbers that are not known, and
ends of intervals that are open, are null in JSON and empty in CSV.
"""

import json
import math
import platform
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from smallnets import __version__
from smallnets.analysis.answer import answer, best_run
from smallnets.analysis.claims import Claims
from smallnets.analysis.intervals import band
from smallnets.analysis.study import Curve, Study, means
from smallnets.analysis.tables import all_notes
from smallnets.files import replacing

SCHEMA = 1  # raised when a key of analysis.json changes its meaning or goes
LIBRARIES = ("numpy", "scipy", "polars", "vl-convert-python")


def write(study: Study, compared: Claims, out: Path, *, source: dict | None = None) -> None:
    """Write ``analysis.json``, ``curves.csv``, ``laws.csv`` and ``multipliers.csv``."""
    text = json.dumps(as_dict(study, compared, source=source), indent=1, allow_nan=False)
    with replacing(out / "analysis.json") as draft:
        draft.write_text(text + "\n", encoding="utf-8")
    tables = {"curves": curves(study), "laws": laws(study), "multipliers": multipliers(compared)}
    for name, table in tables.items():
        with replacing(out / f"{name}.csv") as draft:
            table.write_csv(draft)


def as_dict(study: Study, compared: Claims, *, source: dict | None = None) -> dict[str, Any]:
    """The whole analysis as plain dictionaries, lists, strings and numbers."""
    best = best_run(study)
    columns = study.columns
    return _plain(
        {
            "schema": SCHEMA,
            "versions": {"smallnets": __version__, "python": platform.python_version()}
            | {name: version(name) for name in LIBRARIES},
            "input": source,
            "runs": len(study.table),
            "columns": {
                "size": columns.size,
                "score": columns.score,
                "family": columns.family,
                "seed": columns.seed,
            },
            "level": study.level,
            "shape": {
                "questioned": study.shape.questioned,
                "p_value": study.shape.p_value,
                "text": str(study.shape) if study.shape.signs else "",
            },
            "delta": study.delta,
            "answer": answer(study, compared),
            "best_run": None
            if best is None
            else {"sentence": best.sentence, "command": best.command},
            "reference": compared.reference,
            "families": [_family(curve, study) for curve in study.curves],
            "multipliers": [
                line for line in multipliers(compared).to_dicts() if line["kind"] == "curve"
            ],
            "comparisons": [
                {
                    "family": pair.family,
                    "against": pair.other,
                    "score": pair.score,
                    "times_fewer": pair.answer[0],
                    "low": pair.answer[1],
                    "high": pair.answer[2],
                    "p_value": pair.answer[3],
                    "p_holm": pair.p_adjusted,
                    "leads": pair.leads,
                    "reason": pair.refusal,
                    "by_laws": [pair.value, pair.low, pair.high],
                    "by_interpolation": [
                        pair.interpolated.value,
                        pair.interpolated.low,
                        pair.interpolated.high,
                    ],
                    "detectable": pair.detectable,
                }
                for pair in compared.comparisons
            ],
            "budgets": [
                {
                    "size": cut.cost,
                    "families": [
                        {"family": name, "score": score, "low": low, "high": high}
                        for name, score, low, high in zip(
                            cut.families, cut.score, cut.low, cut.high, strict=True
                        )
                    ],
                    "left_out": cut.reasons,
                }
                for cut in compared.slices
            ],
            "pareto": compared.points.to_dicts(),
            "notes": [*all_notes(study), *compared.refused],
        }
    )


def curves(study: Study) -> pl.DataFrame:
    """A line for each family and size: runs, mean, law and its bands."""
    parts = []
    for curve in study.curves:
        at = means(curve, study.columns).with_columns(pl.col("size").cast(pl.Float64))
        unknown = np.full(len(at), np.nan)
        drawn = dict.fromkeys(("law", "mean_low", "mean_high", "run_low", "run_high"), unknown)
        if curve.choice is not None and len(curve.choice.best.law.variables) == 1:
            found = band(curve.choice.best, at["size"].to_numpy(), level=study.level)
            drawn["law"] = found.curve
            if curve.choice.best.identifiable:
                drawn |= {name: getattr(found, name) for name in drawn if name != "law"}
        columns = [pl.Series(name, value, pl.Float64) for name, value in drawn.items()]
        parts.append(at.select(pl.lit(curve.family).alias("family"), "*").with_columns(columns))
    return _known(pl.concat(parts))


def laws(study: Study) -> pl.DataFrame:
    """A line for each parameter of each family's law."""
    lines = [
        {
            "family": curve.family,
            "law": curve.choice.best.law.name,
            "formula": curve.choice.best.law.formula,
            "parameter": interval.parameter,
            "estimate": interval.estimate,
            "low": interval.low,
            "high": interval.high,
            "method": interval.method,
        }
        for curve in study.curves
        if curve.choice is not None
        for interval in curve.intervals
    ]
    texts = ("family", "law", "formula", "parameter", "method")
    schema = {
        name: pl.String if name in texts else pl.Float64 for name in (lines[0] if lines else texts)
    }
    return _known(pl.DataFrame(lines, schema=schema))


def multipliers(compared: Claims) -> pl.DataFrame:
    """How many times fewer: over the score against the reference, then every pair at one score."""
    kinds = dict.fromkeys(("score", "times_fewer", "low", "high", "p_value", "p_holm"), pl.Float64)
    texts = dict.fromkeys(("kind", "family", "against"), pl.String)
    lines = [
        ("curve", family, compared.reference, *numbers, math.nan, "")
        for family, m in compared.multipliers.items()
        for numbers in zip(m.score, m.value, m.low, m.high, m.p_value, strict=True)
    ]
    lines += [
        ("pair", p.family, p.other, p.score, *p.answer, p.p_adjusted, p.refusal)
        for p in compared.comparisons
    ]
    schema = {**texts, **kinds, "reason": pl.String}
    return _known(pl.DataFrame(lines, schema=schema, orient="row", strict=False))


def _family(curve: Curve, study: Study) -> dict[str, Any]:
    points = means(curve, study.columns)
    choice = curve.choice
    return {
        "family": curve.family,
        "runs": len(curve.runs),
        "sizes": points["size"].to_list(),
        "law": None
        if choice is None
        else {
            "name": choice.best.law.name,
            "formula": choice.best.law.formula,
            "parameters": {
                each.parameter: {
                    "estimate": each.estimate,
                    "low": each.low,
                    "high": each.high,
                    "method": each.method,
                }
                for each in curve.intervals
            },
            "hold_out": choice.hold_out[0],
            "lack_of_fit_p": None if curve.lack_of_fit is None else curve.lack_of_fit.p_value,
        },
        "other_laws": []
        if choice is None
        else [
            {"name": fitted.law.name, "formula": fitted.law.formula, "aicc": difference}
            for fitted, difference in zip(choice.fits[1:], choice.differences[1:], strict=True)
        ],
        "as_power_law": {
            each.parameter: {"estimate": each.estimate, "low": each.low, "high": each.high}
            for each in curve.beside
        },
        "predictions": [
            {
                "at": list(each.x),
                "score": each.score,
                "low": each.low,
                "high": each.high,
                "run_low": each.run_low,
                "run_high": each.run_high,
            }
            for each in curve.predictions
        ],
        "notes": curve.notes,
    }


def _known(table: pl.DataFrame) -> pl.DataFrame:
    """``table`` with null in place of every number that is not finite."""
    numbers = [name for name, kind in table.schema.items() if kind.is_float()]
    return table.with_columns(
        pl.when(pl.col(name).is_finite()).then(pl.col(name)).alias(name) for name in numbers
    )


def _plain(value: Any) -> Any:
    """JSON's own types, null for what is not finite."""
    if isinstance(value, dict):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, str) or value is None or isinstance(value, bool):
        return value
    if isinstance(value, Iterable):
        return [_plain(each) for each in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    return int(value) if isinstance(value, (int, np.integer)) else str(value)

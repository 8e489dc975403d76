"""The report: one page that opens offline; beside it its figures, numbers and curves as files.

``SCHEMA.md`` beside this file says what each key of ``analysis.json`` and each column of the CSVs
means. Numbers that are not known, and ends of intervals that are open, are null in JSON and empty
in CSV.
"""

import base64
import gzip
import json
import math
import platform
from collections.abc import Iterable
from functools import cache
from html import escape
from importlib.metadata import version
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import polars as pl
import vl_convert

from smallnets import __version__
from smallnets.analysis import panels, paths, tables
from smallnets.analysis.answer import answer, best_run, further
from smallnets.analysis.compare import Claims, claims
from smallnets.analysis.figures import FIGURES, emphasised, figures
from smallnets.analysis.intervals import band
from smallnets.analysis.panels import Figure
from smallnets.analysis.study import Curve, Study, analyse, means
from smallnets.analysis.table import digest, read
from smallnets.analysis.tables import all_notes, label
from smallnets.files import replacing

PAGE = Path(__file__).with_name("page.html")


def build(
    folder: Path,
    out: Path | None = None,
    *,
    score: str = "test_error",
    validation: str = "validation_error",
) -> Path:
    """Read the rows in ``folder``, analyse them as a study of ours, write the report.

    ``score`` is drawn, ``validation`` chooses the setting that is swept (see ``analyse``).

    Raises:
        ValueError: in one line, if the rows can't carry a report (see ``read`` and ``analyse``).
        OSError: if ``out`` (by default ``folder``) can't be written.
    """
    study = analyse(read(folder), score=score, validation=validation)
    out = Path(folder) if out is None else Path(out)
    return write(study, out, source=digest(folder))


def write(
    study: Study,
    out: Path | str,
    *,
    compared: Claims | None = None,
    source: dict[str, str] | None = None,
) -> Path:
    """Write the report of a study into the folder ``out`` and return the page, ``report.html``.

    Beside it lie each figure as PDF and PNG, ``analysis.json`` and the CSVs (see ``SCHEMA.md``).
    ``compared`` are the comparisons of ``claims(study)`` where they are at hand; ``source`` says
    in ``analysis.json`` what was read (see ``table.digest``).

    Raises:
        OSError: if ``out`` can't be written.
    """
    out, compared = Path(out), compared or claims(study)
    drawn = figures(study, compared)
    text = page(study, compared, drawn)
    out.mkdir(parents=True, exist_ok=True)
    path = out / "report.html"
    if path.exists():
        for name in set(FIGURES) - set(drawn):  # of an earlier report, which showed more
            for suffix in ("pdf", "png"):
                (out / f"{name}.{suffix}").unlink(missing_ok=True)
    key = panels.key_width(emphasised(study, compared))
    for name, figure in drawn.items():
        panels.save(
            out, name, figure.panels, columns=figure.columns, caption=figure.caption, key=key
        )
    write_numbers(study, compared, out, source=source)
    with replacing(path) as draft:
        draft.write_text(text, encoding="utf-8")
    return path


def page(study: Study, compared: Claims, drawn: dict[str, Figure]) -> str:
    """The page as text."""
    shown = emphasised(study, compared)
    beside = {
        "curves": tables.laws(study, shown) + _listed(further(study)),
        "path": paths.table(study),
        "multiplier": tables.comparisons(study, compared),
        "pareto": tables.budgets(study, compared, shown),
    }
    body = [
        f'<p class="answer">{escape(" ".join(answer(study, compared)))}</p>',
        _best(study),
        tables.notes(study, compared),
    ]
    for name, figure in drawn.items():
        body.append(
            f'<figure><h2>{escape(figure.title)}</h2><div class="plot" id="{name}"></div>'
            f"<figcaption>{escape(figure.caption)} "
            f'<a href="{name}.pdf">PDF</a>, <a href="{name}.png">PNG</a></figcaption></figure>'
            + beside.get(name, "")
        )
    if "multiplier" not in drawn:
        body.append(beside["multiplier"])
    for title, text in (
        ("Scores", tables.scores(study)),
        ("Costs along every axis", tables.costs(study, compared.reference)),
        ("Configuration", tables.configuration(study.table)),
        ("Versions", tables.versions(study.table)),
    ):
        if text:
            body.append(f"<details><summary>{title}</summary>{text}</details>")
    title = f"{label(study.columns.score).capitalize()} over {label(study.columns.size)}"
    pictures = {
        "config": panels.CONFIG,
        "key": panels.key_width(shown),
        "figures": {
            name: {"columns": figure.columns, "panels": list(map(panels.pickable, figure.panels))}
            for name, figure in drawn.items()
        },
    }
    return Template(PAGE.read_text(encoding="utf-8")).substitute(
        title=escape(title),
        subtitle=escape(tables.subtitle(study)),
        body="\n".join(body),
        vega=_vega(),
        figures=_packed(json.dumps(pictures, allow_nan=False, separators=(",", ":"))),
    )


def _best(study: Study) -> str:
    best = best_run(study)
    if best is None:
        return ""
    command = f"<pre>{escape(best.command)}</pre>" if best.command else ""
    again = " To make it again:" if command else ""
    return f'<p class="best">{escape(best.sentence)}{again}</p>{command}'


def _listed(sentences: list[str]) -> str:
    return "".join(f"<p>{escape(sentence)}</p>" for sentence in sentences)


@cache
def _vega() -> str:
    """Vega, Vega-Lite and vega-embed as vl-convert brings them, so that the page needs no net."""
    return _packed(
        vl_convert.javascript_bundle("window.embed = vegaEmbed;", vl_version=panels.VEGA_LITE)
    )


def _packed(text: str) -> str:
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


SCHEMA = 1  # raised when a key of analysis.json changes its meaning or goes
LIBRARIES = ("numpy", "scipy", "polars", "vl-convert-python")


def write_numbers(study: Study, compared: Claims, out: Path, *, source: dict | None = None) -> None:
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
                "data": columns.data,
                "weights": columns.weights,
            },
            "level": study.level,
            "shape": {
                "questioned": study.shape.questioned,
                "p_value": study.shape.p_value,
                "text": str(study.shape),
            },
            "delta": study.delta,
            "answer": answer(study, compared),
            "best_run": None
            if best is None
            else {"sentence": best.sentence, "command": best.command},
            "reference": compared.reference,
            "families": [_family(curve, study) for curve in study.curves],
            "multipliers": [
                line for line in multipliers(compared).to_dicts() if line["kind"] != "pair"
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
        ("interpolation", family, compared.reference, *numbers, math.nan, math.nan, m.reason)
        for family, points in compared.interpolated.items()
        for m in points
        for numbers in [(m.score, m.value, m.low, m.high)]
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
        "sizes": points["size"].unique(maintain_order=True).to_list(),
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
            "held_out": [{"size": size, "error": error} for size, error in choice.held_out],
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
        "compute_optimal": {
            axis: {"exponent": found.estimate, "low": found.low, "high": found.high}
            for axis, found in (("size", curve.allocation.size), ("data", curve.allocation.data))
        }
        if curve.allocation
        else None,
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

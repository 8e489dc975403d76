"""The report: one page that opens offline, and every figure for print beside it."""

import base64
import gzip
import json
from html import escape
from pathlib import Path
from string import Template

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from smallnets.analysis import tables
from smallnets.analysis.claims import Claims, claims
from smallnets.analysis.drawing import (
    RESIDUALS,
    caption,
    label,
    multiplier_caption,
    pareto_caption,
    sweep_caption,
)
from smallnets.analysis.prints.figures import write as write_prints
from smallnets.analysis.screen.figures import figures
from smallnets.analysis.study import Study, analyse
from smallnets.analysis.table import read
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
    return write(study, claims(study), Path(folder) if out is None else Path(out))


def write(study: Study, compared: Claims, out: Path) -> Path:
    """Write ``report.html`` and each figure as PDF and PNG into ``out``; return the page."""
    out.mkdir(parents=True, exist_ok=True)
    write_prints(study, compared, out)
    path = out / "report.html"
    with replacing(path) as draft:
        draft.write_text(page(study, compared), encoding="utf-8")
    return path


def page(study: Study, compared: Claims) -> str:
    """The page as text."""
    drawn = figures(study, compared)
    captions = {
        "curves": ("Score over size", caption(study), tables.laws(study)),
        "multiplier": (
            f"Efficiency against {compared.reference}",
            multiplier_caption(study, compared.reference),
            tables.comparisons(study, compared),
        ),
        "pareto": (
            "Pareto front",
            f"{pareto_caption(study)} Hover for the probability of being on it.",
            tables.budgets(study, compared),
        ),
        "sweep": (_sweep_title(study), sweep_caption(study), ""),
        "residuals": ("Residuals", RESIDUALS, ""),
    }
    body = [tables.notes(study, compared)]
    for name in drawn:
        title, text, table = captions[name]
        body.append(
            f'<figure><h2>{escape(title)}</h2><div class="plot" id="{name}"></div>'
            f"<figcaption>{escape(text)}</figcaption></figure>{table}"
        )
    for title, text in (
        ("Scores", tables.scores(study)),
        ("Costs along every axis", tables.costs(study, compared.reference)),
        ("Configuration", tables.configuration(study.table)),
        ("Versions", tables.versions(study.table)),
    ):
        if text:
            body.append(f"<details><summary>{title}</summary>{text}</details>")
    title = f"{label(study.columns.score).capitalize()} over {label(study.columns.size)}"
    return Template(PAGE.read_text(encoding="utf-8")).substitute(
        title=escape(title),
        subtitle=escape(tables.subtitle(study)),
        body="\n".join(body),
        plotly=_packed(get_plotlyjs()),
        figures=_packed(_json(drawn)),
    )


def _sweep_title(study: Study) -> str:
    name = study.selection.setting if study.selection else ""
    return f"Choice of the {label(name)}"


def _packed(text: str) -> str:
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


def _json(figures: dict[str, go.Figure]) -> str:
    return "{" + ",".join(f"{json.dumps(k)}:{f.to_json()}" for k, f in figures.items()) + "}"

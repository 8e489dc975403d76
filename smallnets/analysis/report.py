"""The report: one page that opens offline; beside it its figures, numbers and curves as files."""

import base64
import gzip
import json
from functools import cache
from html import escape
from pathlib import Path
from string import Template

import vl_convert

from smallnets.analysis import panels, record, tables
from smallnets.analysis.answer import answer, best_run, further
from smallnets.analysis.claims import Claims, claims
from smallnets.analysis.figures import FIGURES, Figure, emphasised, figures
from smallnets.analysis.study import Study, analyse
from smallnets.analysis.table import digest, read
from smallnets.analysis.words import label
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

    Beside it lie each figure as PDF and PNG, ``analysis.json`` and the CSVs (see ``record``).
    ``compared`` are the comparisons of ``claims(study)`` where they are at hand; ``source`` says
    in ``analysis.json`` what was read (see ``table.digest``).

    Raises:
        OSError: if ``out`` can't be written.
    """
    out, compared = Path(out), compared or claims(study)
    out.mkdir(parents=True, exist_ok=True)
    drawn = figures(study, compared)
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
    record.write(study, compared, out, source=source)
    with replacing(path) as draft:
        draft.write_text(page(study, compared, drawn), encoding="utf-8")
    return path


def page(study: Study, compared: Claims, drawn: dict[str, Figure]) -> str:
    """The page as text."""
    shown = emphasised(study, compared)
    beside = {
        "curves": tables.laws(study, shown) + _listed(further(study)),
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

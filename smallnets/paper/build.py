"""From a paper's folder to everything that is made of its rows, and by LaTeX to its PDF."""

import os
import re
import shutil
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

from smallnets.files import replacing
from smallnets.paper import (
    GENERATED,
    MAIN,
    checklist,
    numbers,
    pictures,
    prose,
    queries,
    statements,
)
from smallnets.paper.latex import HEADER
from smallnets.paper.queries import Queries
from smallnets.paper.sources import Sources, gather

STYLE = Path(__file__).with_name("style.tex")
DEBIAN = (
    "apt-get install --no-install-recommends latexmk texlive-latex-recommended "
    "texlive-fonts-recommended"
)


def build(paper: Path) -> list[Path]:
    """Make everything of a paper's rows and write it into ``generated/``; return what was written.

    All is made before anything is written, but for figures. Raises ValueError, one line, for rows
    that were changed, for what is wrong with the queries, and for a number typed by hand.
    """
    paper = Path(paper)
    asked, sources = _gathered(paper)
    made = texts(paper, asked, sources)
    folder = paper / GENERATED
    folder.mkdir(exist_ok=True)
    for figure in asked.figures:
        pictures.draw(sources, figure, folder)
    for name, text in made.items():
        with replacing(folder / name) as draft:
            draft.write_text(text, encoding="utf-8")
    drawn = [
        f"figure_{figure.name}.{suffix}" for figure in asked.figures for suffix in ("pdf", "png")
    ]
    for path in folder.iterdir():  # what an earlier query made
        if path.name not in {*made, *drawn} and path.name.startswith(("table_", "figure_")):
            path.unlink()
    return [folder / name for name in (*made, *drawn)]


def stale(paper: Path) -> list[str]:
    """The files of ``generated/`` that the rows and queries of today make otherwise, but figures.

    Raises ValueError as :func:`build` does.
    """
    paper = Path(paper)
    made = texts(paper, *_gathered(paper))

    def there(name: str) -> str:
        path = paper / GENERATED / name
        return path.read_text(encoding="utf-8") if path.exists() else ""

    return [name for name, text in made.items() if there(name) != text]


def texts(paper: Path, asked: Queries, sources: Sources) -> dict[str, str]:
    """Every file of text that is made of the rows, by its name."""
    values = numbers.evaluate(sources, asked.numbers)
    if unknown := sorted(prose.results(paper) - {each.name for each in asked.numbers}):
        raise ValueError(
            f"{paper}: the text prints \\result{{{unknown[0]}}}, and queries.toml has no "
            f"[number.{unknown[0]}]"
        )
    made = {
        "style.tex": STYLE.read_text(encoding="utf-8"),
        "numbers.tex": numbers.as_tex(values),
        "numbers.json": numbers.as_json(values),
        "provenance.tex": numbers.provenance(values),
        "claims.tex": statements.claims(sources),
        "limitations.tex": statements.limitations(sources),
        "studies.tex": statements.studies(sources, asked.data),
        "settings.tex": statements.settings(sources),
        "date.tex": f"{HEADER}\\date{{{_day(sources)}}}\n",
    }
    made |= {f"table_{each.name}.tex": statements.table(sources, each) for each in asked.tables}
    made |= {f"figure_{each.name}.tex": pictures.as_tex(sources, each) for each in asked.figures}
    shown = prose.labels(paper, made)
    made["checklist.tex"] = checklist.as_tex(sources, asked.data, asked.checklist, shown)
    return made


def typeset(paper: Path) -> Path | None:
    """The PDF, ``main.pdf``, by latexmk; None where there is none.

    Its time is that of the newest rows, or SOURCE_DATE_EPOCH, so that equal rows give equal bytes.
    Raises ValueError where LaTeX finds an error, with the line that says so.
    """
    paper = Path(paper)
    if shutil.which("latexmk") is None or shutil.which("pdflatex") is None:
        return None
    day = re.search(r"\d{4}-\d\d-\d\d", (paper / GENERATED / "date.tex").read_text())
    moment = datetime.fromisoformat(day[0] if day else "2000-01-01").replace(tzinfo=UTC)
    epoch = os.environ.get("SOURCE_DATE_EPOCH", str(int(moment.timestamp())))
    out = paper / "build"
    shutil.rmtree(out, ignore_errors=True)  # a PDF may depend on what an earlier run left
    words = [
        "latexmk",
        "-pdf",
        "-norc",
        "-interaction=nonstopmode",
        "-halt-on-error",
        "-outdir=build",
    ]
    ran = subprocess.run(
        [*words, MAIN],
        cwd=paper,
        env={**os.environ, "SOURCE_DATE_EPOCH": epoch, "FORCE_SOURCE_DATE": "1"},
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if ran.returncode:
        said = [line for line in ran.stdout.splitlines() if line.startswith(("!", "l."))]
        log = out / f"{Path(MAIN).stem}.log"
        if not said and (bibtex := log.with_suffix(".blg")).exists():
            text = bibtex.read_text(encoding="utf-8", errors="replace")
            said = [line for line in text.splitlines() if "---line " in line]
        raise ValueError(
            f"LaTeX can't typeset {paper / MAIN}: {' '.join(said[:2]) or 'no reason given'} (more "
            f"in {log})"
        )
    path = paper / f"{Path(MAIN).stem}.pdf"
    with replacing(path) as draft:
        shutil.copyfile(out / path.name, draft)
    return path


def _gathered(paper: Path) -> tuple[Queries, Sources]:
    asked = queries.read(paper)
    for name in asked.typed:
        if not (paper / name).exists():
            raise ValueError(f"queries.toml: typed lists {name}, which is not in {paper}")
    if not (paper / MAIN).exists():
        raise ValueError(f"{paper} has no {MAIN}: smallnets paper init FOLDER SWEEP writes one")
    prose.refuse_digits(paper, asked)
    return asked, gather(paper, asked)


def _day(sources: Sources) -> str:
    """The day of the newest rows."""
    days = [study.last for study in sources.studies.values() if study.last]
    return max(days) if days else time.strftime("%Y-%m-%d", time.gmtime(0))

"""A paper's folder for studies of one's own: rows frozen, queries and text to begin from."""

import json
import shutil
import tomllib
from pathlib import Path

from smallnets.analysis.study import analyse
from smallnets.analysis.table import read
from smallnets.analysis.tables import label
from smallnets.files import new_folder
from smallnets.paper import QUERIES, checklist, frozen, queries, statements
from smallnets.paper.sources import gather

TEMPLATE = Path(__file__).with_name("template")
DATA = Path(__file__).with_name("data.toml")
PARTS = ("study.tex", "study.toml", "main.tex", "gitignore")  # filled in for each study
HEAD = """# What this paper asks of its rows; smallnets/paper/queries.py says how. Nothing else
# changes what the text prints by \\result{NAME}.
typed = ["notation.tex"]  # files of names and equations, in which digits may stand
"""


def write(folder: Path, sweeps: list[Path]) -> None:
    """Write a paper about the studies in ``sweeps`` as ``folder``, whole or not at all.

    Raises ValueError where the folder is there and not empty, and where a study can't be frozen or
    analysed.
    """
    with new_folder(folder) as draft:
        for path in sorted(TEMPLATE.iterdir()):
            if path.name not in PARTS and path.is_file():
                shutil.copyfile(path, draft / path.name)
        shutil.copyfile(TEMPLATE / "gitignore", draft / ".gitignore")
        tex, toml = "", HEAD
        for sweep in sweeps:
            name = Path(sweep).resolve().name
            if name in frozen.index(draft):
                raise ValueError(f"two of the studies are called {name}: rename one's folder")
            frozen.freeze(sweep, draft, name)
            words = {"STUDY": name, **_columns(Path(sweep))}
            tex += _filled("study.tex", words)
            toml += _filled("study.toml", words)
        main = (TEMPLATE / "main.tex").read_text(encoding="utf-8").replace("STUDIES\n", tex)
        (draft / "main.tex").write_text(main, encoding="utf-8")
        (draft / QUERIES).write_text(toml, encoding="utf-8")
        (draft / QUERIES).write_text(toml + _answers(draft), encoding="utf-8")


def _columns(sweep: Path) -> dict[str, str]:
    """What a study's analysis calls its score and size."""
    table = read(sweep)
    score = "test_error"
    if score not in table.columns and "test_bits_per_byte" in table.columns:
        score = "test_bits_per_byte"
    columns = analyse(table, score=score).columns
    return {
        "SCORE_TITLE": label(columns.score).capitalize(),
        "SIZE_TITLE": label(columns.size),
        "SCORE": score,
        "SIZE": columns.size,
    }


def _filled(name: str, words: dict[str, str]) -> str:
    text = (TEMPLATE / name).read_text(encoding="utf-8")
    for word, value in words.items():  # longer words come before those that they begin with
        text = text.replace(word, value)
    return text


def _answers(draft: Path) -> str:
    """Where the data come from, and the checklist's answers that there is evidence for."""
    known = tomllib.loads(DATA.read_text(encoding="utf-8"))
    sources = gather(draft, queries.read(draft))
    text = "\n# The data of the studies: version and licence are printed, and asked for.\n"
    data = {}
    for task in statements.tasks(sources):
        said = known.get(task, {"title": task, "version": "", "source": "", "licence": ""})
        data[task] = queries.Data(name=task, **said)
        lines = [f"{key} = {json.dumps(value)}" for key, value in said.items()]
        text += "\n".join([f"[data.{task}]", *lines, ""])
    text += '\n# Your answers: "yes" needs evidence in the rows, or the paper is not built.\n'
    answers = checklist.answers(sources, data).items()
    return text + "\n".join(
        ["[checklist]", *(f"{name} = {json.dumps(answer)}" for name, answer in answers), ""]
    )

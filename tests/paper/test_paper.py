"""A paper from the door: a sweep's rows become numbers, tables, figures; nothing is typed."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from command import smallnets

from smallnets.paper import build, frozen

LATEX = shutil.which("latexmk") and shutil.which("pdflatex")
STUDY = "x-mnist1d"


@pytest.fixture
def paper(laid_out: Path, tmp_path: Path) -> Path:
    """A copy to be spoilt."""
    return Path(shutil.copytree(laid_out, tmp_path / "x"))


def refused(capsys: pytest.CaptureFixture, *words: object) -> str:
    """The one line by which a command is refused."""
    with pytest.raises(SystemExit) as ended:
        smallnets("paper", *words)
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    return error


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_a_sweep_becomes_a_paper(sweep: Path, tmp_path: Path, capsys):
    folder = tmp_path / "x"
    smallnets("paper", "init", folder, sweep)
    smallnets("paper", "build", folder)
    numbers = json.loads((folder / "generated/numbers.json").read_text())
    assert numbers[f"{STUDY}-runs"] == {
        "text": "60",
        "values": {"runs": 60},
        "query": {"select": "count(*) AS runs", "from": f"{STUDY}.rows"},
        "studies": [STUDY],
        "keys": "all 60",
        "commits": ["0123456789ab"],
    }
    smallest = numbers[f"{STUDY}-smallest"]  # of the chosen runs, which are half of all
    assert smallest["text"] == "1,000 parameters"
    assert len(smallest["keys"]) == 30
    table = (folder / f"generated/table_{STUDY}-scores.tex").read_text()
    assert "% rows: smallnets -m +experiment=x\n" in table
    assert "dense & 5 & 81,000 & " in table
    claims = (folder / "generated/claims.tex").read_text()
    assert "monarch / dense & 2.3" in claims  # that of the truth is (0.6 / 0.4)^2 = 2.25
    checklist = (folder / "generated/checklist.tex").read_text()
    assert r"for the whole project, failed and preliminary sweeps included, since 2026-11-29" in (
        checklist
    )
    assert checklist.count("} Yes. ") == 8
    assert "is at the edge of its grid" in (folder / "generated/limitations.tex").read_text()
    assert (folder / f"generated/figure_{STUDY}-curves.pdf").read_bytes().startswith(b"%PDF")
    smallnets("paper", "check", folder)
    assert "generated/ is what the rows and queries make" in capsys.readouterr().out


@pytest.mark.slow
def test_a_changed_row_makes_the_output_stale(
    paper: Path, tmp_path: Path, writer: Callable[..., Path], capsys
):
    build.build(paper)
    assert build.stale(paper) == []
    folder = writer(tmp_path / "multirun" / STUDY)
    *_, path = sorted(folder.glob("*/row.json"))  # the largest network, at the rate that is chosen
    row = json.loads(path.read_text())
    row["metrics"]["test_error"] /= 2
    path.write_text(json.dumps(row))
    smallnets("paper", "freeze", paper, folder)
    capsys.readouterr()
    assert "is not what the rows and queries make" in refused(capsys, "check", paper)


def test_a_row_edited_by_hand_is_refused(paper: Path, capsys):
    archive = paper / "rows" / f"{STUDY}.tar.xz"
    archive.write_bytes(archive.read_bytes() + b"\0")
    assert "was changed since it was frozen" in refused(capsys, "build", paper)
    assert not (paper / "generated").exists()


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"commit": "0123456789ab-dirty"}, "60 of 60 rows are of a tree with changes"),
        ({"numerics": "1"}, "its studies are of several NUMERICS: x-mnist1d (2), y (1)"),
    ],
)
def test_rows_that_nobody_can_have_again_are_refused(
    how: dict, said: str, paper: Path, tmp_path: Path, writer: Callable[..., Path], capsys
):
    folder = writer(tmp_path / "multirun" / "y", **how)
    if "commit" in how:
        before = digests(paper / "rows")
        assert said in refused(capsys, "freeze", paper, folder)
        assert digests(paper / "rows") == before
        return
    smallnets("paper", "freeze", paper, folder)
    assert said in refused(capsys, "build", paper)
    row = next(folder.glob("*/row.json"))
    row.write_text(row.read_text().replace('"numerics": "1"', '"numerics": "2"'))
    assert "holds rows of NUMERICS 1, 2" in refused(capsys, "freeze", paper, folder)


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("main.tex", "What the analyses warn", "Of 5 runs the analyses warn", "by hand, '5'"),
        ("main.tex", "What the analyses warn", "$n = 5$ runs warn", "by hand, '5$'"),
        ("main.tex", f"{STUDY}-best", "none", "no [number.none]"),
        ("main.tex", r"\input{generated/claims}", "", "tab:claims, is not in the paper"),
        ("queries.toml", "{families}", "6", "number x-mnist1d-families has a number typed"),
        ("queries.toml", 'select = "max(parameters)', 'select = "max(nothing)', "nothing"),
        (
            "queries.toml",
            'select = "min(mean) AS mean"',
            'where = "family = \'none\'"\nselect = "mean"',
            "query x-mnist1d-best finds no line in x-mnist1d-by-size.curves where family = 'none'",
        ),
        ("queries.toml", 'select = "min(mean) AS mean"', 'select = "mean"', "finds 10 lines"),
        ("queries.toml", f"{STUDY}-by-size.curves", "nothing", "asks nothing, and there is no"),
        ("queries.toml", 'picture = "curves"', 'picture = "none"', "has no picture 'none'"),
        ("queries.toml", 'rows = "x-mnist1d"', 'rows = "y"', "holds no study y"),
        ("queries.toml", 'score = "test_error"', 'scores = "x"', "analyse() has no scores"),
        ("queries.toml", 'licence = "Apache-2.0"', 'licence = ""', "data says yes without"),
        ("queries.toml", 'claims = "yes"', 'claims = "perhaps"', 'is answered by "yes" or "no: w'),
        ("queries.toml", "[checklist]", "[checklists]", "there is no [checklists]"),
    ],
)
def test_what_is_wrong_is_one_line(file: str, old: str, new: str, said: str, paper: Path, capsys):
    change(paper / file, old, new)
    assert said in refused(capsys, "build", paper)
    assert not (paper / "generated").exists()


PAIRED = """
[paired.sizes]
from = "x-mnist1d.rows"
where = "parameters = 9000 AND \\"config.optimizer.learning_rate\\" = 0.003"
group = "family"
reference = "dense"
score = "test_error"
select = "min(\\"costs.flops\\") AS operations"

[number.difference]
from = "sizes.pairs"
where = "\\"group\\" = 'monarch'"
select = "difference, low, high, operations"
text = "{difference:+.3f} ({low:+.3f} to {high:+.3f}) at {operations:,.0f}"
"""


def test_differences_by_seed_are_a_table_to_ask(paper: Path, capsys):
    queries = paper / "queries.toml"
    queries.write_text(queries.read_text() + PAIRED)
    smallnets("paper", "build", paper)
    found = json.loads((paper / "generated/numbers.json").read_text())["difference"]
    truth = (0.4 - 0.6) * 9**-0.5  # of the families' errors at 9,000 parameters
    assert found["values"]["low"] < truth < found["values"]["high"]
    assert found["text"].endswith("at 18,000")
    claims = (paper / "generated/claims.tex").read_text()
    assert "sizes & monarch - dense & -0.06" in claims
    text = queries.read_text()
    for old, new, said in (
        ('reference = "dense"', 'reference = "none"', "there is no group 'none', only"),
        (' AND \\"config.optimizer.learning_rate\\" = 0.003', "", "has two of seed="),
        ("sizes.pairs", "other.pairs", "asks other.pairs, and there is no such table"),
        ('group = "family"', "", "[paired.sizes] has no group"),
    ):
        assert old in text, old
        queries.write_text(text.replace(old, new))
        assert said in refused(capsys, "build", paper)


def test_a_study_of_several_sweeps_is_frozen_as_one(
    tmp_path: Path, writer: Callable[..., Path], capsys
):
    folder = tmp_path / "several"
    first = writer(folder / "x-mnist1d")
    ledger = folder / frozen.LEDGER
    lines = [json.loads(line) for line in ledger.read_text().splitlines()]
    for line in lines:
        line["command"] = ["experiments/several.py", str(folder), "steps=20"]
    ledger.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    shared = next(first.glob("*/row.json"))  # of another sweep that begins by the same run
    again = folder / "other" / shared.parent.name / "row.json"
    again.parent.mkdir(parents=True)
    row = json.loads(shared.read_text())
    row["metrics"]["test_error"] *= 1 + 1e-6  # by rounding, as other threads leave it
    again.write_text(json.dumps(row))
    smallnets("paper", "freeze", tmp_path / "paper", folder)
    assert "frozen: 60 finished" in capsys.readouterr().out
    study = frozen.index(tmp_path / "paper")["several"]
    assert study.commands == ["python experiments/several.py several steps=20"]
    row["metrics"]["test_error"] /= 2
    again.write_text(json.dumps(row))
    assert f"run {row['key']} twice, with other numbers" in refused(
        capsys, "freeze", tmp_path / "paper", folder
    )


def test_digits_stand_in_references_dates_and_listed_files(paper: Path):
    change(
        paper / "main.tex",
        "What the analyses warn",
        "% 5 runs\nOn 2026-11-30, \\cite{smallnets}, \\autoref{fig:x-mnist1d-curves}, what",
    )
    change(paper / "notation.tex", "N^{", "4 N^{")
    build.build(paper)


def test_a_folder_that_is_there_is_not_overwritten(paper: Path, sweep: Path, capsys):
    assert "is there already and not empty" in refused(capsys, "init", paper, sweep)


def test_packing_equal_rows_gives_equal_bytes(sweep: Path, tmp_path: Path):
    one, other = frozen.freeze(sweep, tmp_path / "1"), frozen.freeze(sweep, tmp_path / "2")
    assert one == other
    with frozen.thawed(tmp_path / "1", STUDY) as folder:
        thawed = {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    there = {p.relative_to(sweep): p.read_bytes() for p in sweep.rglob("*") if p.is_file()}
    assert thawed == there


def test_without_latex_there_is_everything_but_the_pdf(paper: Path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", "")
    smallnets("paper", "build", paper)
    assert "LaTeX is not here, so there is no main.pdf" in capsys.readouterr().out
    assert (paper / "generated/numbers.tex").exists()
    assert not (paper / "main.pdf").exists()


@pytest.mark.slow
@pytest.mark.skipif(not LATEX, reason="needs LaTeX: Debian's latexmk and texlive")
def test_make_twice_gives_the_same_pdf(paper: Path, capsys):
    """By make, as a user would."""
    command = f"SMALLNETS={sys.executable} -m smallnets"
    root = str(Path(build.__file__).parents[2])
    found = []
    for _ in range(2):
        words = ["make", "-C", str(paper), "paper", command]
        subprocess.run(words, check=True, env={**os.environ, "PYTHONPATH": root})
        found.append([(paper / "main.pdf").read_bytes(), digests(paper / "generated")])
    assert found[0] == found[1]
    change(paper / "main.tex", "What the analyses warn", "\\nothing{} warns")
    assert "Undefined control sequence" in refused(capsys, "build", paper)
    change(paper / "main.tex", "\\nothing{} warns", "What the analyses warn")
    references = paper / "references.bib"
    references.write_text(2 * references.read_text())
    assert "Repeated entry---line" in refused(capsys, "build", paper)

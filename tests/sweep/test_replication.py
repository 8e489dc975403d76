"""A part of a paper's frozen runs is trained again, counted, and reported."""

import json
import shutil
from pathlib import Path

import pytest
from command import TINY, folders, smallnets

import smallnets as package
from smallnets import rows
from smallnets.measure import machine


@pytest.fixture(scope="module")
def paper(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A paper's folder with two frozen runs, of code that may be changed here."""
    root = tmp_path_factory.mktemp("replication")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(machine, "commit", lambda: "0123456789ab")
        words = ["-m", "model=perceptron", "model.widths=[8]", "seed=3,4", *TINY]
        smallnets(*words, *folders(cache, root / "multirun/study"))
    smallnets("paper", "freeze", root / "paper", root / "multirun/study")
    return root / "paper"


@pytest.mark.slow
def test_a_paper_is_reproduced_and_reported(
    paper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    monkeypatch.chdir(tmp_path)
    smallnets("reproduce", paper, "--fraction", 0.5, "--seed", 1)
    assert "1 runs: 1 bit-equal, 0 within tolerance, 0 differs" in capsys.readouterr().out
    report = (tmp_path / "reproduction.md").read_text()
    assert "| bit-equal | 1 |" in report
    assert "A fraction of 0.5 of the frozen runs, drawn by seed 1" in report
    assert "`smallnets -m model=perceptron" in report
    with pytest.raises(SystemExit):
        smallnets("reproduce", paper, "--fraction", 0.5)
    assert "reproduction.md is there already" in capsys.readouterr().err


@pytest.mark.slow
def test_chains_and_students_are_trained_again_from_their_ancestors_rows(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    study, out = tmp_path / "study", folders(cache, tmp_path / "study/large")
    monkeypatch.setattr(machine, "commit", lambda: "0123456789ab")
    smallnets("-m", "model.width=16", "model.depth=1", "seed=0", *TINY, *out)
    large = ["+distil=logits", f"distil.teacher={study}/large", *TINY, "seed=0"]
    chain = ["compress=[factorise,finetune]", f"start={study}/large", *large]
    smallnets("-m", *chain, *folders(cache, study / "chain"))
    smallnets("-m", "model.width=8", *large, *folders(cache, study / "student"))
    (tmp_path / "answering.py").write_text(
        "import jax.numpy as jnp\ndef teach(x):\n    return jnp.reshape(x, (len(x), -1))[:, :10]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for teacher in (f"[{study}/large]", "answering.teach"):  # an ensemble, a function
        words = ["+distil=logits", f"distil.teacher={teacher}", "allow=[answering]", *TINY]
        smallnets("-m", "model.width=8", *words, "seed=0", *folders(cache, study / teacher[-6:-1]))
    smallnets("paper", "freeze", tmp_path / "paper", study)
    shutil.rmtree(study)
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    smallnets("reproduce", tmp_path / "paper", "--fraction", 1, "--allow", "answering")
    assert "6 runs: 6 bit-equal, 0 within tolerance, 0 differs" in capsys.readouterr().out


@pytest.mark.slow
def test_other_numerics_are_counted_and_not_trained(
    paper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    monkeypatch.chdir(tmp_path)
    path = paper / "rows/frozen.json"
    before = path.read_text()
    index = json.loads(before)
    index["study"]["numerics"] = str(package.NUMERICS - 1)
    path.write_text(json.dumps(index))
    smallnets("reproduce", paper, "--fraction", 1)
    path.write_text(before)
    assert "0 not trained" in (said := capsys.readouterr().out)
    assert "2 of another NUMERICS" in said


@pytest.mark.slow
@pytest.mark.parametrize("fraction", [0, 1.5])
def test_a_fraction_is_one(fraction: float, paper: Path, capsys):
    with pytest.raises(SystemExit):
        smallnets("reproduce", paper, "--fraction", fraction)
    assert "a fraction of the runs is above 0" in capsys.readouterr().err


def test_a_row_says_its_numerics(paper: Path):
    from smallnets.paper import frozen

    with frozen.thawed(paper, "study") as folder:
        found = {row.versions["numerics"] for row in rows.load(folder)}
    assert found == {str(package.NUMERICS)}

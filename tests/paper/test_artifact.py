"""The artefact: one archive, the same bytes each time, and anonymous if asked for."""

import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from command import smallnets as command

import smallnets
from smallnets import rows
from smallnets.paper import artifact, frozen

AUTHOR = "Jane Ackermann"
CLONE = Path(smallnets.__file__).parents[1]


def git(folder: Path, *words: str) -> None:
    subprocess.run(["git", "-C", str(folder), *words], check=True, capture_output=True)


@pytest.fixture
def paper(laid_out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A paper in a checkout of a person, whose code is a file."""
    root = tmp_path / "checkout"
    (root / "smallnets").mkdir(parents=True)
    (root / "smallnets/__init__.py").write_text("")
    (root / "requirements.lock").write_text("numpy==1.0\n")
    (root / "LICENSE").write_text("a licence\n")
    (root / "CITATION.cff").write_text(f"title: x\nauthors:\n  - name: {AUTHOR}\nkeywords: [a]\n")
    shutil.copytree(laid_out, root / "paper")
    (root / "paper/authors.tex").write_text(f"\\author{{{AUTHOR}}}\n")
    git(root, "init")
    git(root, "config", "user.name", AUTHOR)
    git(root, "config", "user.email", "jane@ackermann.example")
    git(root, "remote", "add", "origin", "https://forge.example/ackermann/x.git")
    git(root, "add", ".")
    git(root, "commit", "-m", "x")
    monkeypatch.setattr(smallnets, "__file__", str(root / "smallnets/__init__.py"))
    return root / "paper"


def unpacked(data: bytes) -> dict[str, bytes]:
    """The files of an archive."""
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        members = [(each.name, archive.extractfile(each)) for each in archive.getmembers()]
        return {name: file.read() for name, file in members if file}


def contents(path: Path) -> dict[str, bytes]:
    files = unpacked(path.read_bytes())
    return {name.removeprefix("artifact/"): data for name, data in files.items()}


def everything(files: dict[str, bytes]) -> bytes:
    """All bytes of an artefact, those of the packed rows unpacked too."""
    packed = [unpacked(data) for name, data in files.items() if name.endswith(".tar.xz")]
    return b"".join(data for each in (files, *packed) for data in each.values())


@pytest.mark.slow
def test_an_artefact_holds_code_rows_licence_and_hashes(paper: Path, tmp_path: Path):
    command("paper", "artifact", paper, tmp_path / "one.tar.gz")
    files = contents(tmp_path / "one.tar.gz")
    assert {
        "smallnets/__init__.py",
        "requirements.lock",
        "LICENSE",
        "CITATION.cff",
        "ARTIFACT.md",
        "paper/main.tex",
        "paper/rows/x-mnist1d.tar.xz",
        "paper/generated/numbers.json",
        "paper/generated/figure_x-mnist1d-curves.pdf",
    } < files.keys()
    assert AUTHOR.encode() in files["CITATION.cff"]
    sums = dict(line.split("  ")[::-1] for line in files["SHA256SUMS"].decode().splitlines())
    assert sums.keys() == files.keys() - {"SHA256SUMS"}
    assert all(hashlib.sha256(files[name]).hexdigest() == value for name, value in sums.items())


@pytest.mark.slow
def test_an_anonymous_artefact_names_nobody(paper: Path, tmp_path: Path, capsys):
    out = tmp_path / "one.tar.gz"
    command("paper", "artifact", paper, out, "--anonymous")
    files = contents(out)
    text = everything(files)
    for word in (b"ackermann", b"forge.example"):
        assert word not in text.lower()
    for place in (tmp_path, Path.home(), CLONE):
        assert str(place).encode() not in text
    assert files["paper/authors.tex"] == b"\\author{Anonymous}\n"
    assert b"keywords: [a]" in files["CITATION.cff"]
    out.unlink()
    main = paper / "main.tex"
    main.write_text(main.read_text() + f"% {AUTHOR}\n")
    with pytest.raises(SystemExit):
        command("paper", "artifact", paper, out, "--anonymous")
    error = capsys.readouterr().err
    assert f"would not be anonymous: paper/main.tex holds {AUTHOR!r}" in error
    assert not out.exists()


@pytest.mark.slow
def test_an_artefact_holds_the_models_of_the_runs_that_are_shown(
    paper: Path, tmp_path: Path, capsys
):
    """Of two rates the analysis rests on the better one's runs, half of all."""
    study, out = tmp_path / "study", tmp_path / "one.tar.gz"
    with frozen.thawed(paper, "x-mnist1d") as folder:
        keys = [row.key for row in rows.load(folder)]
    for key in keys:
        (study / key).mkdir(parents=True)
        (study / key / "model.safetensors").write_bytes(key.encode())
    command("paper", "artifact", paper, out, "--models", tmp_path / "none", "--models", study)
    files = contents(out)
    found = {Path(name).stem: data for name, data in files.items() if name.startswith("models/")}
    assert len(found) == 30 < len(keys)
    assert all(data == key.encode() for key, data in found.items())
    assert b"models/STUDY/KEY.safetensors" in files["ARTIFACT.md"]
    out.unlink()
    (study / next(iter(found)) / "model.safetensors").unlink()
    with pytest.raises(SystemExit):
        command("paper", "artifact", paper, out, "--models", study)
    error = capsys.readouterr().err
    assert f"the model of the run {next(iter(found))} of x-mnist1d is in none of" in error
    assert not out.exists()


def test_code_that_is_not_committed_is_refused(paper: Path, tmp_path: Path, capsys):
    (paper.parent / "smallnets/__init__.py").write_text("changed = True\n")
    with pytest.raises(SystemExit):
        command("paper", "artifact", paper, tmp_path / "one.tar.gz")
    assert "changes that are not committed" in capsys.readouterr().err


def test_only_a_checkout_can_be_packed(paper: Path, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setattr(artifact, "_git", lambda folder, *words: "")
    with pytest.raises(SystemExit):
        command("paper", "artifact", paper, tmp_path / "one.tar.gz")
    assert "is of no checkout" in capsys.readouterr().err


@pytest.mark.slow
def test_an_artefact_unpacked_elsewhere_makes_the_same_paper(tmp_path: Path):
    """Of this repository at its last commit, with its own paper and the packages that are here."""
    clone, out = tmp_path / "clone", tmp_path / "one.tar.gz"
    subprocess.run(["git", "clone", "-q", str(CLONE), str(clone)], check=True)
    words = [sys.executable, "-m", "smallnets", "paper"]

    def run(root: Path, *rest: str) -> str:
        where = {**os.environ, "PYTHONPATH": str(root)}
        ran = subprocess.run(
            [*words, *rest], cwd=root, env=where, capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    run(clone, "artifact", "paper", str(out), "--anonymous")
    with tarfile.open(out) as archive:
        archive.extractall(tmp_path / "elsewhere", filter="data")
    shutil.rmtree(clone)
    root = tmp_path / "elsewhere/artifact"
    assert "is what the rows and queries make" in run(root, "check", "paper")

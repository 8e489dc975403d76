"""The artefact: an archive of code, rows, models, text and locked versions, to run elsewhere."""

import gzip
import hashlib
import io
import os
import re
import socket
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path

import smallnets
from smallnets.files import replacing
from smallnets.paper import queries
from smallnets.paper.build import build
from smallnets.paper.sources import gather

ROOT = "artifact"
BUILT = ("build/", "main.pdf")  # what LaTeX leaves in a paper's folder
COMMON = {"root", "localhost", "smallnets", "user", "runner"}  # names of nobody
README = """# Artefact

Code of commit {commit}, the paper with its frozen rows, and the locked versions of everything.
On a machine with Python {python} and, for the PDF, LaTeX:

    sha256sum --check --quiet SHA256SUMS
    python3 -m venv .venv
    .venv/bin/pip install {offline}--requirement requirements.lock
    .venv/bin/pip install {offline}--no-deps --no-build-isolation .
    .venv/bin/smallnets paper check paper
    .venv/bin/smallnets paper build paper
    .venv/bin/smallnets reproduce paper --fraction 0.02
"""
MODELS = """
models/STUDY/KEY.safetensors is the model of the run KEY, for each run that the paper's analyses
rest on; smallnets.load takes its path.
"""


def write(
    paper: Path,
    out: Path,
    *,
    anonymous: bool = False,
    wheels: Path | None = None,
    studies: Sequence[Path] = (),
) -> Path:
    """Write the artefact of a paper as ``out`` and return it; equal contents give equal bytes.

    ``studies`` are folders of the studies that were frozen, or of their like trained again: from
    there come the models of the runs that the paper's analyses rest on.

    ``wheels`` is a folder that every locked package is first gathered into, for this platform and
    Python, and that is packed too. ``anonymous`` puts nobody's name into it.

    Raises ValueError where the code is of no checkout, or has changes that are not committed, where
    the paper can't be built, where a model is in none of ``studies``, where a package can't be had,
    and, if it shall be anonymous, where a file names a person, a host, a path or a remote.
    """
    paper, out = Path(paper).resolve(), Path(out)
    code = Path(smallnets.__file__).parents[1]
    if out.suffixes[-2:] != [".tar", ".gz"]:
        raise ValueError(f"an artefact is a .tar.gz, got {out}")
    listed = _git(code, "ls-files").splitlines()
    if "smallnets/__init__.py" not in listed:
        raise ValueError(
            "an artefact holds the code, and this smallnets is of no checkout: make it in a clone"
        )
    if _git(code, "status", "--porcelain", "--", "smallnets", "conf", "hydra_plugins"):
        raise ValueError("the code has changes that are not committed: commit them first")
    build(paper)
    files = {
        name: code / name
        for name in listed
        if not name.startswith("paper/") and (code / name).is_file()
    }
    files |= {f"paper/{name}": paper / name for name in _files(paper)}
    if studies:
        files |= _models(paper, studies)
    if wheels is not None:
        _gather(code / "requirements.lock", wheels)
        files |= {f"wheels/{path.name}": path for path in sorted(wheels.iterdir())}
    offline = "--no-index --find-links wheels " if wheels is not None else ""
    commit = _git(code, "rev-parse", "--short=12", "HEAD").strip()
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    said = README.format(commit=commit, python=python, offline=offline)
    contents = {name: path.read_bytes() for name, path in files.items()}
    contents["ARTIFACT.md"] = (said + MODELS * bool(studies)).encode()
    if anonymous:
        contents["paper/authors.tex"] = b"\\author{Anonymous}\n"
        if "CITATION.cff" in contents:
            contents["CITATION.cff"] = _unsigned(contents["CITATION.cff"])
        _refuse_names(contents, _names(code, paper))
    sums = [
        f"{hashlib.sha256(data).hexdigest()}  {name}" for name, data in sorted(contents.items())
    ]
    contents["SHA256SUMS"] = "\n".join([*sums, ""]).encode()
    out.parent.mkdir(parents=True, exist_ok=True)
    with (
        replacing(out) as draft,
        draft.open("wb") as file,
        gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name, data in sorted(contents.items()):
            member = tarfile.TarInfo(f"{ROOT}/{name}")
            member.size = len(data)
            member.mode = 0o755 if name in files and os.access(files[name], os.X_OK) else 0o644
            archive.addfile(member, io.BytesIO(data))
    return out


def _files(paper: Path) -> list[str]:
    """What lies in a paper's folder, but for what LaTeX made and hidden files."""
    found = [
        path.relative_to(paper).as_posix() for path in sorted(paper.rglob("*")) if path.is_file()
    ]
    return [
        name
        for name in found
        if not name.startswith(BUILT) and not any(p.startswith(".") for p in name.split("/"))
    ]


def _models(paper: Path, studies: Sequence[Path]) -> dict[str, Path]:
    """The models of the runs that the analyses rest on, by their names in the archive."""
    found = {}
    for analysis in gather(paper, queries.read(paper)).analyses.values():
        for key in analysis.study.runs["key"]:
            there = [path for each in studies for path in (each / key).glob("*.safetensors")]
            if not there:
                raise ValueError(
                    f"the model of the run {key} of {analysis.rows} is in none of "
                    f"{', '.join(map(str, studies))}: give the study's folder, with its models"
                )
            found[f"models/{analysis.rows}/{key}.safetensors"] = there[0]
    return found


def _gather(lock: Path, wheels: Path) -> None:
    """Every package of a lock as a wheel in the folder ``wheels``."""
    wheels.mkdir(parents=True, exist_ok=True)
    words = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check"]
    words += ["--wheel-dir", str(wheels), "--requirement", str(lock)]
    ran = subprocess.run(words, capture_output=True, text=True, check=False)
    if ran.returncode:
        reason = (ran.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise ValueError(f"the wheels of {lock} can't be gathered: {reason}")


def _names(code: Path, paper: Path) -> set[str]:
    """Whatever tells who made a paper, and where."""
    found = {socket.gethostname(), str(Path.home()), str(code), str(paper)}
    for folder in (code, paper):
        found |= {*_git(folder, "log", "--format=%an%n%ae").splitlines()}
        found |= {*re.findall(r"\S+[:/]\S+", _git(folder, "remote", "-v"))}
        found |= {_git(folder, "config", name).strip() for name in ("user.name", "user.email")}
    return {name for name in found if len(name) > 3 and name.lower() not in COMMON}


def _refuse_names(contents: dict[str, bytes], names: set[str]) -> None:
    for file, data in contents.items():
        if file.startswith("wheels/"):
            continue
        texts = [data]
        if file.endswith(".tar.xz"):
            with tarfile.open(fileobj=io.BytesIO(data), mode="r:xz") as archive:
                members = [archive.extractfile(member) for member in archive.getmembers()]
                texts = [member.read() for member in members if member]
        for name in sorted(names):
            if any(name.encode() in text for text in texts):
                raise ValueError(f"the artefact would not be anonymous: {file} holds {name!r}")


def _unsigned(citation: bytes) -> bytes:
    text = citation.decode()
    return re.sub(r"(?m)^authors:\n(?:[ -].*\n)+", "authors:\n  - name: Anonymous\n", text).encode()


def _git(folder: Path, *words: str) -> str:
    """What git says in a folder; nothing where there is no checkout."""
    try:
        ran = subprocess.run(
            ["git", *words], cwd=folder, capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return ran.stdout if ran.returncode == 0 else ""

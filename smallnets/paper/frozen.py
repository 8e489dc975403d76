"""Frozen studies: the rows of a sweep, packed, hashed, and never changed again.

``rows/NAME.tar.xz`` holds the ``row.json`` of each run, byte for byte, under its key, and the
study's list of jobs, so that unpacked it is a study's folder again, which every verb reads.
``rows/frozen.json`` holds for each study the SHA-256 of its archive and what a reader must know of
it. ``rows/ledger.jsonl`` lists every sweep of the folders that studies came from, those that failed
or were only tried included. Packing equal rows gives equal bytes.
"""

import hashlib
import io
import json
import math
import re
import shlex
import subprocess
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from smallnets import rows
from smallnets.files import replacing

ROWS, INDEX, LEDGER = "rows", "frozen.json", "ledger.jsonl"
ROUNDING = 1e-4  # of a metric
PLANS = "plan-*.jsonl"  # what smallnets plan wrote
PLACES = re.compile(r"(hydra\.sweep\.dir|cache)=")  # words that say where, not what


@dataclass(frozen=True, kw_only=True)
class Frozen:
    """What stands in the index of a frozen study.

    ``status`` counts its rows by their status, ``commands`` are those that made them, ``seconds``
    and ``joules`` what these took (joules None where they are not known), ``first`` and ``last``
    the days on which rows were trained, as far as the ledger knows.
    """

    sha256: str
    status: dict[str, int]
    commits: list[str]
    numerics: str
    versions: dict[str, list[str]]
    devices: list[str]
    commands: list[str]
    seconds: float
    joules: float | None
    first: str
    last: str


def freeze(folder: Path, paper: Path, name: str = "") -> Frozen:
    """Freeze the study in ``folder`` as ``name`` (by default the folder's) into a paper's rows.

    Frozen again it is replaced, so that a study may grow. Raises ValueError, before anything is
    written, where there are no rows, where any is of a tree with changes, where they are of several
    ``NUMERICS`` or one is there twice with other numbers, or where the name is none.
    """
    folder, paper = Path(folder), Path(paper)
    name = name or folder.resolve().name
    if not re.fullmatch(r"[\w-]+", name):
        raise ValueError(f"a study's name is letters, digits, _ and -, got {name!r}: use --name")
    paths = sorted(folder.rglob(rows.NAME)) if folder.is_dir() else []
    if not paths:
        rest = (
            " (those of programs/ are of studies too large to be frozen)"
            * (folder / "programs").exists()
        )
        raise ValueError(f"{folder} holds no {rows.NAME}{rest}: give a finished study's folder")
    found = [rows.read(path.parent) for path in paths]  # a damaged one raises
    if dirty := sorted({row.commit for row in found if row.commit.endswith("-dirty")}):
        count = sum(row.commit in dirty for row in found)
        raise ValueError(
            f"{folder}: {count} of {len(found)} rows are of a tree with changes ({dirty[0]}), "
            "which nobody can have again: commit, move the folder away, and run the sweep again"
        )
    numerics = sorted({numerics_of(row.versions, row.commit) for row in found})
    if len(numerics) > 1:
        raise ValueError(
            f"{folder} holds rows of NUMERICS {', '.join(numerics)}, which don't compare: run the "
            "sweep again into a folder of its own"
        )
    once: dict[str, tuple[Path, rows.Row]] = {}
    for path, row in zip(paths, found, strict=True):  # sweeps of one study share what they begin by
        first = once.setdefault(row.key, (path, row))[1]
        if not _agree(first.metrics, row.metrics):
            raise ValueError(
                f"{folder} holds run {row.key} twice, with other numbers: give the folder of one "
                "study"
            )
    paths, found = [path for path, _ in once.values()], [row for _, row in once.values()]
    packed = _packed(paths, [*once], folder)
    own = lines = ledger(folder / LEDGER)  # of a study of several sweeps, which lie in it
    if not lines:
        lines = ledger(folder.absolute().parent / LEDGER)
        own = [line for line in lines if line["folder"] == folder.resolve().name]
    made = [line for line in own if line["trained"]]
    joules = [line["joules"] for line in made]
    days = sorted(line["started"][:10] for line in made)
    said = Frozen(
        sha256=hashlib.sha256(packed).hexdigest(),
        status=dict(sorted(Counter(row.status for row in found).items())),
        commits=sorted({row.commit for row in found}),
        numerics=numerics[0],
        versions={
            key: sorted({row.versions[key] for row in found if key in row.versions})
            for key in sorted({key for row in found for key in row.versions})
        },
        devices=sorted({row.device for row in found}),
        commands=_commands(made, folder),
        seconds=sum(line["seconds"] for line in made),
        joules=None if None in joules or not joules else sum(joules),
        first=days[0] if days else "",
        last=days[-1] if days else "",
    )
    (paper / ROWS).mkdir(parents=True, exist_ok=True)
    known = {key: asdict(each) for key, each in index(paper).items()} | {name: asdict(said)}
    before = ledger(paper / ROWS / LEDGER)
    new = [_without_places(line) for line in lines]
    merged = {json.dumps(line, sort_keys=True): line for line in [*before, *new]}
    text = "".join(
        f"{json.dumps(line)}\n" for line in sorted(merged.values(), key=lambda x: x["started"])
    )
    with replacing(paper / ROWS / f"{name}.tar.xz") as draft:
        draft.write_bytes(packed)
    with replacing(paper / ROWS / LEDGER) as draft:
        draft.write_text(text, encoding="utf-8")
    with replacing(paper / ROWS / INDEX) as draft:
        draft.write_text(json.dumps(dict(sorted(known.items())), indent=1) + "\n", encoding="utf-8")
    return said


def _agree(one: dict[str, float], other: dict[str, float]) -> bool:
    """Whether two trainings of a run differ by rounding alone, as other threads leave it."""
    return one.keys() == other.keys() and all(
        one[key] == other[key]
        or (math.isnan(one[key]) and math.isnan(other[key]))
        or math.isclose(one[key], other[key], rel_tol=ROUNDING)
        for key in one
    )


def index(paper: Path) -> dict[str, Frozen]:
    """The frozen studies of a paper by name; none where nothing was frozen.

    Raises ValueError where the index is damaged.
    """
    path = Path(paper) / ROWS / INDEX
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        names = [field.name for field in fields(Frozen)]
        return {key: Frozen(**{each: line[each] for each in names}) for key, line in stored.items()}
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{path} is damaged: freeze the studies again") from None


def verified(paper: Path, name: str) -> bytes:
    """The archive of a study, which is as it was frozen; raises ValueError where it is not."""
    known = index(paper)
    if name not in known:
        raise ValueError(
            f"{paper} holds no study {name}, only {', '.join(known) or 'none'}: freeze it with "
            f"smallnets paper freeze {paper} FOLDER --name {name}"
        )
    path = Path(paper) / ROWS / f"{name}.tar.xz"
    try:
        packed = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} can't be read: {error.strerror}") from None
    if hashlib.sha256(packed).hexdigest() != known[name].sha256:
        raise ValueError(
            f"{path} was changed since it was frozen, its SHA-256 is another than {INDEX} says: "
            "take the committed file, or freeze the study again"
        )
    return packed


@contextmanager
def thawed(paper: Path, name: str) -> Iterator[Path]:
    """A study's folder as it was frozen, for as long as the block lasts.

    Raises ValueError as :func:`verified` does.
    """
    packed = verified(paper, name)
    with tempfile.TemporaryDirectory(prefix="smallnets-") as nowhere:
        folder = Path(nowhere) / name
        with tarfile.open(fileobj=io.BytesIO(packed), mode="r:xz") as archive:
            archive.extractall(folder, filter="data")
        yield folder


def ledger(path: Path) -> list[dict[str, Any]]:
    """The lines of a ledger of sweeps; none where there is no file.

    Raises ValueError for a line that is none.
    """
    if not path.exists():
        return []
    found = []
    for place, text in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            line = json.loads(text)
            _ = line["folder"], line["started"][:10], line["seconds"] + 0, line["trained"] + 0
            _ = line["joules"], line["failed"] + 0, line["status"], [*line["command"]]
        except (ValueError, KeyError, TypeError):
            raise ValueError(
                f"line {place} of {path} is damaged: mend it, or leave it out"
            ) from None
        found.append(line)
    return found


def numerics_of(versions: dict[str, str], commit: str) -> str:
    """The ``NUMERICS`` that a row was trained with; if it doesn't say, that of its commit."""
    if "numerics" in versions:
        return versions["numerics"]
    try:
        text = subprocess.run(
            ["git", "show", f"{commit}:smallnets/__init__.py"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        text = ""
    said = re.search(r"^NUMERICS = (\d+)", text, re.MULTILINE)
    return said[1] if said else f"unknown ({commit})"


def _commands(made: list[dict[str, Any]], folder: Path) -> list[str]:
    """The commands that made a study; of workers that trained a plan, the words of the plan."""
    found = {
        shlex.join(_without_places(line)["command"]): None
        for line in made
        if line["command"][1:2] != ["work"]
    }
    for path in sorted(folder.glob(PLANS)):
        try:
            words = json.loads(path.read_text(encoding="utf-8").partition("\n")[0])["words"]
        except (ValueError, KeyError, TypeError):
            raise ValueError(f"{path} is damaged: write it again with smallnets plan") from None
        kept = [word for word in words if not PLACES.match(word)]
        found[shlex.join(["smallnets", "-m", *kept])] = None
    return [*found]


def _without_places(line: dict[str, Any]) -> dict[str, Any]:
    """A line of the ledger whose command runs anywhere: without folders of one machine."""
    first, *words = line["command"] or [""]
    kept = [
        Path(word).name if word[:1] == "/" else word for word in words if not PLACES.match(word)
    ]
    script = first.endswith(".py") and Path(first).name != "__main__.py"
    program = ["python", first] if script else ["smallnets"]
    return line | {"command": [*program, *kept]}


def _packed(paths: list[Path], keys: list[str], folder: Path) -> bytes:
    """The archive: equal rows give equal bytes, whoever packs them and when."""
    contents = {
        f"{key}/{rows.NAME}": path.read_bytes() for key, path in zip(keys, paths, strict=True)
    }
    if (folder / rows.JOBS).exists():
        contents[rows.JOBS] = (folder / rows.JOBS).read_bytes()
    stream = io.BytesIO()
    with tarfile.open(
        fileobj=stream, mode="w:xz", format=tarfile.USTAR_FORMAT, preset=9
    ) as archive:
        for path, data in sorted(contents.items()):
            member = tarfile.TarInfo(path)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return stream.getvalue()

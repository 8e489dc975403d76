"""``smallnets plan WORDS``: a sweep's plan as a file, for workers on any machine and in any engine.

The words are those of ``smallnets -m``. The plan, ``plan-DIGEST.jsonl`` in the study's folder, is a
line that says what it is of, and a line for each program: its label, its runs' keys, and under
``jobs`` their words, where a word without a value has a column of them.
"""

import argparse
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smallnets import NUMERICS
from smallnets.files import replacing
from smallnets.sweep.execute import check_saved
from smallnets.sweep.jobs import Job, is_number
from smallnets.sweep.plan import Plan, Program, plan
from smallnets.sweep.program_files import program_name
from smallnets.sweep.settings import settings_of
from smallnets.sweep.study import claimed, few_sizes

FORMAT = 1  # raised when a plan of before can't be read
PATTERN = "plan-*.jsonl"
SHOWN = 20  # programs that are printed


@dataclass(frozen=True)
class Line:
    """A program of a plan: ``jobs`` are the words and the number of each of its runs."""

    label: str
    parameters: int
    save: str
    keys: list[str]
    jobs: list[tuple[list[str], int]]

    @property
    def name(self) -> str:
        """A digest of its runs' keys."""
        return program_name(self.keys)


@dataclass(frozen=True)
class PlanFile:
    """A plan that was read: ``words`` are those of its command."""

    path: Path
    words: list[str]
    config_dir: str | None
    programs: int
    runs: int
    has_folders: bool
    texts: list[str]

    @property
    def folder(self) -> Path:
        """The study's folder, which is where the plan lies now."""
        return self.path.parent

    def lines(self, index: int = 0, count: int = 1) -> Iterator[Line]:
        """The programs of worker ``index`` of ``count``."""
        for text in self.texts[index::count]:
            said = json.loads(text)
            jobs = [job for block in said["jobs"] for job in _expanded(block)]
            yield Line(said["label"], said["parameters"], said["save"], said["keys"], jobs)


def write(plan: Plan, words: Sequence[str], config_dir: str | Path | None) -> Path:
    """Write a plan down; the same plan is the same file.

    Raises ValueError where the folder is of another study or a sweep is writing there, and where
    some jobs can't be built.
    """
    if plan.refused:
        raise ValueError(
            f"{len(plan.refused)} of {plan.runs} runs can't be built, the first for "
            f"{plan.refused[0].error}: mend it, or leave them out of the plan"
        )
    if any(job.whole is not None for job, _ in plan.jobs()):
        raise ValueError(
            "the stages of a chain follow one another, so that workers can't share them: train it "
            "with smallnets -m in place of smallnets plan"
        )
    has_folders = settings_of(plan.config).has_folders(plan.runs)
    check_saved(plan, has_folders)
    texts = [json.dumps(_line(program)) for program in plan.programs]
    said = {
        "smallnets_plan": FORMAT,
        "numerics": NUMERICS,
        "words": [*words],
        "config_dir": config_dir and str(Path(config_dir).absolute()),
        "programs": len(texts),
        "runs": plan.runs,
        "folders": has_folders,
        "sha256": _digest(texts),
    }
    whole = "".join(f"{text}\n" for text in [json.dumps(said), *texts])
    digest = hashlib.sha256(whole.encode()).hexdigest()[:8]
    with claimed(plan, listed=has_folders) as notes:
        path = plan.folder / PATTERN.replace("*", digest)
        with replacing(path) as draft:
            draft.write_text(whole, encoding="utf-8")
    for note in notes:
        print(f"note: {note}")
    return path


def read(path: str | Path) -> PlanFile:
    """The plan in a file, or the one in a study's folder.

    Raises ValueError where there is none or several, and where it is damaged or of a version that
    this one can't train.
    """
    path = Path(path)
    if path.is_dir():
        found = sorted(path.glob(PATTERN))
        if len(found) != 1:
            names = ", ".join(each.name for each in found) or "none"
            raise ValueError(
                f"{path} must hold one plan, but holds {names}: name the file, or write one with "
                "smallnets plan"
            )
        path = found[0]
    try:
        first, *texts = path.read_text(encoding="utf-8").splitlines()
        said = json.loads(first)
        version = said["smallnets_plan"], said["numerics"]
    except FileNotFoundError:
        raise ValueError(f"{path} is not there: write a plan with smallnets plan") from None
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{path} is no plan: write one with smallnets plan") from None
    if version != (FORMAT, NUMERICS):
        raise ValueError(
            f"{path} is a plan of version {version[0]}.{version[1]}, and this smallnets takes "
            f"{FORMAT}.{NUMERICS}: write it again with smallnets plan"
        )
    if _digest(texts) != said["sha256"]:
        raise ValueError(f"{path} is damaged: write it again with smallnets plan")
    return PlanFile(
        path,
        said["words"],
        said["config_dir"],
        said["programs"],
        said["runs"],
        said["folders"],
        texts,
    )


def main(words: list[str]) -> None:
    """The verb: writes the plan and says how it is trained."""
    parser = argparse.ArgumentParser("smallnets plan", description=__doc__, allow_abbrev=False)
    parser.add_argument("-m", "--multirun", action="store_true", help="as ever; a plan is a sweep")
    parser.add_argument("--config-dir", metavar="FOLDER", help="with YAMLs of one's own")
    parser.add_argument("words", nargs="*", metavar="WORD", help="what smallnets -m takes")
    said = parser.parse_intermixed_args(words)
    made = plan(*said.words, config_dir=said.config_dir)
    path = write(made, said.words, said.config_dir)
    lines = repr(made).splitlines()
    print("\n".join(lines[: SHOWN + 1]))
    if len(lines) > SHOWN + 1:
        print(f"  and {len(lines) - SHOWN - 1} programs more")
    if ahead := few_sizes(made):
        print(f"note: {ahead}")
    print(f"plan: {path}")
    print(f"smallnets work {path}     trains it, or a worker's share of it; so does any number")
    print(f"smallnets submit {path}   writes a script for Slurm")
    print(f"smallnets collect {path}  says what is done and what is missing")


def _line(program: Program) -> dict[str, Any]:
    return {
        "label": program.label,
        "parameters": program.parameters,
        "save": program.trainer.save,
        "keys": program.keys,
        "jobs": list(_blocks(program.group.jobs)),
    }


def _blocks(jobs: Iterable[Job]) -> Iterator[dict[str, Any]]:
    """The jobs, those together whose words differ in numbers alone."""
    blocks: dict[tuple[str, ...], dict[str, Any]] = {}
    for job in jobs:
        split = [word.partition("=") for word in job.words]
        varied = {key: value for key, _, value in split if key in job.traced and is_number(value)}
        words = tuple(key if key in varied else "".join((key, *rest)) for key, *rest in split)
        new = {"words": words, "columns": {key: [] for key in varied}, "numbers": []}
        block = blocks.setdefault(words, new)
        block["numbers"].append(job.number)
        for key, value in varied.items():
            block["columns"][key].append(value)
    yield from blocks.values()


def _expanded(block: dict[str, Any]) -> Iterator[tuple[list[str], int]]:
    columns = block["columns"]
    for place, number in enumerate(block["numbers"]):
        words = [
            f"{word}={columns[word][place]}" if word in columns else word for word in block["words"]
        ]
        yield words, number


def _digest(texts: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for text in texts:
        digest.update(f"{text}\n".encode())
    return digest.hexdigest()

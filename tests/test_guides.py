"""Every block of the guides runs as it stands, one after another, offline."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

GUIDES = Path(__file__).parents[1] / "smallnets" / "guides"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
# What a cluster would give: a scheduler that runs an array's tasks at once, one after another.
COMMANDS = {
    "smallnets": f'exec {sys.executable} -m smallnets "$@"',
    "sbatch": """
last=$(sed -n 's/^#SBATCH --array=0-//p' "$1")
for task in $(seq 0 "$last"); do SLURM_ARRAY_TASK_ID=$task bash "$1"; done
""",
}


@pytest.mark.parametrize("guide", sorted(path.name for path in GUIDES.glob("*.md")))
def test_a_guide_names_files_that_are_there(guide: str):
    text = (GUIDES / guide).read_text()
    for link in re.findall(r"\]\(([^)#]+)", text):
        assert (GUIDES / link).exists(), link
    assert {kind for kind, _ in BLOCK.findall(text)} <= {"bash", "python"}


@pytest.mark.slow
@pytest.mark.parametrize("guide", sorted(path.name for path in GUIDES.glob("*.md")))
def test_a_guide_runs(guide: str, cache: Path, tmp_path: Path):
    """The folder of a paper's rows is of the code's commit, so changes in it would be refused."""
    path, work = tmp_path / "bin", tmp_path / "work"
    path.mkdir()
    work.mkdir()
    for name, text in COMMANDS.items():
        (path / name).write_text(f"#!/bin/bash\n{text}\n")
        (path / name).chmod(0o755)
    where = {
        **os.environ,
        "PATH": f"{path}:{os.environ['PATH']}",
        "PYTHONPATH": str(committed(tmp_path / "clone")),
        "XDG_CACHE_HOME": str(cache),
    }
    for kind, text in BLOCK.findall((GUIDES / guide).read_text()):
        words = ["bash", "-e", "-c", text] if kind == "bash" else [sys.executable, "-c", text]
        ran = subprocess.run(
            words, cwd=work, env=where, capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, f"{text}\n{ran.stdout}\n{ran.stderr}"


def committed(folder: Path) -> Path:
    """A clone of this repository, whose rows are of a clean commit."""
    words = ["git", "clone", "-q", str(GUIDES.parents[1]), str(folder)]
    subprocess.run(words, check=True)
    return folder

"""What the README prints runs as it stands."""

import contextlib
import itertools
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from command import TINY, folders
from command import smallnets as command

import smallnets
from smallnets.cli import VERBS
from smallnets.new import TEMPLATE

README = (Path(__file__).parents[1] / "README.md").read_text()
IMPORTING = [
    block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "import" in block
]
BLOCKS = [block for block in IMPORTING if "sklearn" not in block]
(EXAMPLES,) = (block for block in IMPORTING if "sklearn" in block)
ROWS = Path(__file__).parent / "analysis" / "rows_before"
ELSEWHERE = ("paper", "reproduce", "export", "serve")  # with tests of their own
COMMANDS = re.findall(r"^    (smallnets .*)$", README, re.MULTILINE)
PLAN = next(line for line in COMMANDS if line.startswith("smallnets plan "))


@pytest.mark.slow
@pytest.mark.parametrize("block", BLOCKS, ids=["the door", "a loop of one's own"])
def test_a_block_of_python(block: str, cache: Path, tmp_path: Path):
    ran = subprocess.run(
        [sys.executable, "-c", block],
        cwd=tmp_path,
        env={**os.environ, "XDG_CACHE_HOME": str(cache)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    if "smallnets.plan" in block:
        assert "6 runs in 2 programs" in ran.stdout
        assert "'error': 0." in ran.stdout
    else:
        first, *_, last = map(float, re.findall(r"\d+\.\d+", ran.stdout))
        assert last < first


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the data that the README writes, and the README, which is a text."""
    folder = tmp_path_factory.mktemp("examples")
    (folder / "README.md").write_text(README)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        exec(compile(EXAMPLES, "README.md", "exec"), {})
    return folder


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(each, marks=pytest.mark.slow if "experiment" in each else ())
        for each in COMMANDS
    ],
)
@pytest.mark.slow
def test_a_command(
    command: str, cache: Path, tmp_path: Path, examples: Path, monkeypatch: pytest.MonkeyPatch
):
    """Its words are composed, sized and checked; ``analyse`` reads what is not there here, and what
    ``new`` writes and what is done with papers has tests of its own."""
    monkeypatch.chdir(examples)
    _, *words = shlex.split(command)
    config_dir = None
    if "--config-dir" in words:  # of the package that the line before wrote
        monkeypatch.syspath_prepend(TEMPLATE)
        place = words.index("--config-dir")
        config_dir = TEMPLATE / words[place + 1]
        del words[place : place + 2]
    if words[0] in VERBS:
        verb, *words = words
        if verb in ("analyse", "new", "work", "collect", *ELSEWHERE):
            return
    words = [word for word in words if not word.startswith("-")]
    words = [re.sub(r"^(budget\.\w+=[^,]*),.*", r"\1", word) for word in words]  # one of a grid's
    if config_dir is None and any(word.startswith("+experiment") for word in words):
        # a corner of its grid
        words += ["family=dense", "seed=0", "optimizer.learning_rate=1e-3", "budget.params=3_000"]
    plan = smallnets.plan(
        *words, f"cache={cache}", f"hydra.sweep.dir={tmp_path / 'out'}", config_dir=config_dir
    )
    assert plan.runs >= 1
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "line",
    [
        line
        for line in COMMANDS
        if "experiment" not in line and "&&" not in line and line.split()[1] not in ELSEWHERE
    ],
)
def test_a_command_runs(
    line: str, cache: Path, examples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """As it stands, but for few steps, and what is analysed lies elsewhere."""
    monkeypatch.chdir(examples)
    _, *words = shlex.split(line, comments=True)
    if words[0] == "analyse":
        write_runs(tmp_path / "runs.csv")
        place = {"runs.csv": tmp_path / "runs.csv"}.get(words[1], ROWS)
        words = ["analyse", place, *words[2:], "--out", tmp_path / "report"]
    elif words[0] not in VERBS:
        words += [*TINY, *folders(cache, tmp_path / "out")]
    elif words[0] == "plan":
        words += TINY
    elif words[0] in ("work", "collect"):
        command(*shlex.split(PLAN)[1:], *TINY)
    if words[0] == "collect":  # of what only some workers trained
        with contextlib.suppress(SystemExit):
            command(*words)
        return
    command(*words)


def write_runs(path: Path) -> None:
    """A table of runs of two architectures at six sizes."""
    lines = ["arch,params,seed,loss"]
    for size, seed, arch in itertools.product(range(2, 8), range(2), ("a", "b")):
        lines.append(f"{arch},{10**size},{seed},{0.2 + 2.0**-size + 1e-3 * seed}")
    path.write_text("\n".join(lines))

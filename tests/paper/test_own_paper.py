"""The paper of this repository is what its rows make, and its smallest table can be made again."""

import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from command import smallnets

from smallnets import NUMERICS, rows
from smallnets.paper import build, frozen
from smallnets.sweep.reproduce import recorded

PAPER = Path(__file__).parents[2] / "paper"
FEW = 10  # runs, which a quiet machine trains in less than a minute
QUICK = [name for name, study in frozen.index(PAPER).items() if sum(study.status.values()) <= FEW]


@pytest.mark.slow
def test_nothing_that_is_generated_is_stale():
    assert build.stale(PAPER) == []


def test_its_rows_are_of_clean_commits_and_as_they_were_frozen():
    index = frozen.index(PAPER)
    assert index
    for name, study in index.items():
        frozen.verified(PAPER, name)
        assert not [commit for commit in study.commits if commit.endswith("-dirty")]
    assert len({study.numerics for study in index.values()}) == 1


@pytest.mark.parametrize("study", frozen.index(PAPER))
def test_its_rows_are_runs_of_today(study: str, cache: Path):
    """What a row says can be trained again, under its key: smallnets reproduce rests on it."""
    with frozen.thawed(PAPER, study) as folder:
        row = next(row for row in rows.load(folder) if not row.parent and not row.teacher)
        config = json.loads(json.dumps(row.config))
        if not Path(config["task"].get("source", "/")).exists():
            pytest.skip(f"its data are not here: {row.task}")
        for branch in (config, config["task"]):
            branch |= {"cache": str(cache)} if "cache" in branch else {}
        assert recorded(replace(row, config=config), folder).keys == [row.key]


@pytest.mark.slow
@pytest.mark.users_options
@pytest.mark.parametrize("study", QUICK)
def test_a_table_of_less_than_a_minute_is_made_again(study: str, cache: Path, tmp_path: Path):
    """By the command that its source carries; other machines may round otherwise."""
    (line,) = {
        line
        for path in (PAPER / "generated").glob("table_*.tex")
        for line in path.read_text().splitlines()
        if line in {f"% rows: {command}" for command in frozen.index(PAPER)[study].commands}
    }
    words = shlex.split(line.removeprefix("% rows: smallnets "))
    smallnets(*words, f"cache={cache}", f"hydra.sweep.dir={tmp_path}")
    again = {row.key: row for row in rows.load(tmp_path)}
    with frozen.thawed(PAPER, study) as folder:
        before = {row.key: row for row in rows.load(folder)}
    if frozen.index(PAPER)[study].numerics == str(NUMERICS):
        assert again.keys() == before.keys()
        for key, row in before.items():
            assert again[key].metrics["test_error"] == pytest.approx(
                row.metrics["test_error"], abs=0.02
            )

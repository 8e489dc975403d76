"""How far a sweep is, while its programs say nothing of themselves."""

import io
import re
from pathlib import Path

import pytest
from command import TINY, folders
from command import smallnets as command
from rich.console import Console

from smallnets.sweep import progress
from smallnets.sweep.progress import MOST, Training, estimate, progress_bars


@pytest.mark.parametrize(
    ("done", "seconds", "under_way", "reached"),
    [
        (0, 0, [(100, 7)], 0),  # nothing is known of the first
        (100, 10, [(100, 5)], 150),
        (100, 10, [(100, 5), (50, 1)], 160),
        (100, 10, [(100, 60)], 100 + MOST * 100),  # it takes longer than its work says
    ],
)
def test_an_estimate_goes_by_the_rate_of_what_is_done(done, seconds, under_way, reached):
    assert estimate(done, seconds, under_way) == pytest.approx(reached)


def test_the_bar_moves_while_a_program_is_under_way(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    said = io.StringIO()
    bars = progress_bars(Console(file=said))
    training = Training(bars, [10.0, 30.0])
    found = []
    for moment, place, what in ((0, 0, "start"), (2, 0, "finish"), (2, 1, "start"), (4, 1, None)):
        now[0] = float(moment)
        if what:
            getattr(training, what)(place)
        training.show()
        found.append(bars.tasks[0].completed)
    assert found == [0, 10, 10, 20]
    now[0] = 40.0
    training.show()
    assert bars.tasks[0].completed == 10 + MOST * 30
    assert re.fullmatch(
        r"training for 40 s: 1 of 2 programs done, about 2 s left\n", said.getvalue()
    )


def test_what_a_sweep_says_off_a_terminal_and_of_carbon_only_when_asked(
    cache: Path, tmp_path: Path, capsys, monkeypatch
):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    for asked in (False, True):
        words = ["model=logistic", *TINY, *folders(cache, tmp_path / str(asked))]
        command(*words, f"hydra.launcher.carbon={asked}")
        said = capsys.readouterr().out
        assert "0 of 1 programs done" in said
        assert re.search(r"training took [\d.e-]+ J \(m", said)
        assert ("CO2" in said) is asked

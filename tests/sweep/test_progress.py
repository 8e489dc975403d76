"""How far a sweep is, and the program under way."""

import io
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from command import TINY, folders
from command import smallnets as command
from rich.console import Console

from smallnets.sweep import progress
from smallnets.sweep.progress import Training, progress_bars
from smallnets.training.batch import Cut


def test_it_goes_by_what_is_heard_of_programs_under_way(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    said = io.StringIO()
    bars = progress_bars(Console(file=said, width=200))
    training = Training(bars, [(10.0, 1), (30.0, 3)])
    portion: Any = SimpleNamespace(
        label="dense", trainer=SimpleNamespace(steps=2000, evaluations=4)
    )
    cut = Cut(2, (None, {"train_loss": np.asarray([[2.0, 1.5, 0, 0]])}), None)
    found = []
    training.begin(0)
    training.begin(1)
    for moment in (lambda: None, lambda: training.finish(0),
                   lambda: training.hear(1, 1.5, portion, cut)):  # fmt: skip
        moment()
        training.show()
        found.append(bars.tasks[0].completed)
    assert found == [0, 10, 25]
    training.publish("dense", [0.3, float("inf")])
    training.publish("low_rank", [0.25])
    training.fail(2)
    now[0] = 50.0
    training.show()
    assert said.getvalue() == (
        "training for 50 s: 1 of 2 programs done, 2.5 of 4 runs, 0.05 a second, "
        "best so far 0.25 (low_rank), 2 failed, dense at step 1,000 of 2,000, loss 1.5, "
        "about 30 s left\n"
    )


def test_on_a_terminal_a_line_below_the_bar_says_how_things_stand():
    said = io.StringIO()
    with progress_bars(Console(file=said, width=160, force_terminal=True)) as bars:
        training = Training(bars, [(10.0, 1), (10.0, 1), (10.0, 1)])
        training.begin(0)
        training.begin(1)
        training.finish(0)
        training.publish("dense", [0.125])
        training.fail(1)
        training.show()
    *_, line = (line for line in said.getvalue().splitlines() if "programs done" in line)
    assert (
        "1 of 3 programs done, 1 compiling or before the first evaluation, 1.0 of 3 runs, " in line
    )
    assert line.rstrip().endswith("best so far 0.125 (dense), 1 failed")


@pytest.mark.slow
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

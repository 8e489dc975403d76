"""What is seen of a sweep while it trains: a bar and a line, or off a terminal lines now and then.

A program under way is heard of at its cuts, about every second: how far it is, and the loss. Until
its first cut it counts as one that compiles, since nothing is heard of it between.
"""

import math
import time
from collections.abc import Iterable, Sequence

import numpy as np
from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from smallnets.sweep.plan import Program
from smallnets.training.batch import Cut

SECONDS_BETWEEN_LINES = 30.0


class View(Progress):
    """Bars, and below them a line that says how things stand."""

    line = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        if self.line:
            yield Text(self.line)


def progress_bars(console: Console) -> View:
    return View(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("left:"),
        TimeRemainingColumn(),
        console=console,
        auto_refresh=False,  # a thread of its own would import while TFDS replaces __import__
    )


class Training:
    """How far the programs of a sweep are, each given as its work, in any unit, and its runs."""

    def __init__(self, progress: View, programs: Sequence[tuple[float, int]]):
        self._progress, self._programs = progress, programs
        self._bar = progress.add_task("training", total=sum(work for work, _ in programs))
        self._began = self._said = time.monotonic()
        self._reached = dict.fromkeys(range(len(programs)), 0.0)  # in runs
        self._begun: set[int] = set()
        self._finished: set[int] = set()
        self._latest = self._label = ""
        self._best, self._failed = (math.inf, ""), 0

    def begin(self, place: int) -> None:
        """A program is compiled; called on any thread."""
        self._begun.add(place)

    def publish(self, label: str, scores: Sequence[float]) -> None:
        """Runs are done; the lower their scores, the better."""
        self._best = min([self._best, *((score, label) for score in scores)])

    def fail(self, runs: int) -> None:
        self._failed += runs

    def hear(self, place: int, runs: float, portion: Program, cut: Cut) -> None:
        """So many runs of a program are done, the last in part; called on any thread."""
        trainer = portion.trainer
        step = trainer.steps // trainer.evaluations * cut.done
        losses = cut.curves.get("train_loss")
        if losses is None:  # of a pass, which takes no steps
            self._latest = portion.group.jobs[0].label
        else:
            loss = float(np.mean(np.asarray(losses)[:, cut.done - 1]))
            self._latest = f"step {step:,} of {trainer.steps:,}, loss {loss:.3g}"
        self._label = portion.label
        self._reached[place] = runs

    def finish(self, place: int) -> None:
        self._finished.add(place)
        self._reached[place] = self._programs[place][1]
        self.show()

    def show(self) -> None:
        """Move the bar; where there is none, print a line if the last is long ago."""
        now = time.monotonic()
        total = sum(work for work, _ in self._programs)
        reached = sum(
            work * self._reached[place] / runs for place, (work, runs) in enumerate(self._programs)
        )
        under_way = f"training: {self._latest}" if self._latest else "training"
        self._progress.line = self._line(now)
        self._progress.update(self._bar, completed=reached, description=under_way)
        self._progress.refresh()
        console = self._progress.console
        if not console.is_terminal and now - self._said >= SECONDS_BETWEEN_LINES:
            self._said = now
            line = f"training for {now - self._began:.0f} s: {self._line(now)}"
            if reached:
                line += f", {self._label} at {self._latest}"
                line += f", about {(now - self._began) * (total / reached - 1):.0f} s left"
            console.print(line, highlight=False)

    def _line(self, now: float) -> str:
        """Programs done and begun, runs and their rate, the best so far, failures."""
        line = f"{len(self._finished)} of {len(self._programs)} programs done"
        done = sum(self._reached.values())
        begun = sum(
            place not in self._finished and not self._reached[place] for place in [*self._begun]
        )
        if begun:
            line += f", {begun} compiling or before the first evaluation"
        if done:
            runs, seconds = sum(runs for _, runs in self._programs), max(now - self._began, 1e-9)
            rate = done / seconds
            line += (
                f", {done:.1f} of {runs} runs, {rate:{',.0f' if rate >= 10 else '.2g'}} a second"
            )
        score, label = self._best
        if math.isfinite(score):
            line += f", best so far {score:.3g} ({label})"
        return f"{line}, {self._failed} failed" if self._failed else line

"""What is seen of a sweep while it trains: a bar, or off a terminal a line now and then.

A program under way says nothing of itself: a callback would keep it out of the cache of compiled
programs. So how far it is comes from its work and from the rate of those that are done.
"""

import time
from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

SECONDS_BETWEEN_LINES = 30.0
MOST = 0.95  # of a program that takes longer than was estimated, the share that is shown as done


def progress_bars(console: Console) -> Progress:
    return Progress(
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
    """How far the programs of a sweep are; ``work`` is what each takes, in any unit."""

    def __init__(self, progress: Progress, work: Sequence[float]):
        self._progress, self._work = progress, work
        self._bar = progress.add_task("training", total=sum(work))
        self._began = self._said = time.monotonic()
        self._started: dict[int, float] = {}
        self._took: dict[int, float] = {}

    def start(self, place: int) -> None:
        """A program begins to be compiled; may be called on any thread."""
        self._started[place] = time.monotonic()

    def finish(self, place: int) -> None:
        self._took[place] = time.monotonic() - self._started[place]
        self.show()

    def show(self) -> None:
        """Move the bar; where there is none, print a line if the last is long ago."""
        now = time.monotonic()
        under_way = [
            (self._work[place], now - begun)
            for place, begun in self._started.copy().items()
            if place not in self._took
        ]
        done = sum(self._work[place] for place in self._took)
        reached = estimate(done, sum(self._took.values()), under_way)
        self._progress.update(self._bar, completed=reached)
        self._progress.refresh()
        console = self._progress.console
        if not console.is_terminal and now - self._said >= SECONDS_BETWEEN_LINES:
            self._said = now
            line = f"training for {now - self._began:.0f} s: {len(self._took)} of "
            line += f"{len(self._work)} programs done"
            if reached:
                left = (now - self._began) * (sum(self._work) / reached - 1)
                line += f", about {left:.0f} s left"
            console.print(line, highlight=False)


def estimate(done: float, seconds: float, under_way: Sequence[tuple[float, float]]) -> float:
    """The work that is done, with that of programs under way, each as (work, seconds so far).

    ``done`` took so many ``seconds`` of all threads together. At that rate a program is taken to
    go on, up to ``MOST`` of it; before any is done, nothing is known.
    """
    rate = done / seconds if seconds else 0.0
    return done + sum(min(MOST * work, rate * so_far) for work, so_far in under_way)

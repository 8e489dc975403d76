"""The command ``smallnets`` inside this process."""

import os
import sys
from pathlib import Path
from unittest import mock

from hydra.core.global_hydra import GlobalHydra

from smallnets import cli, load, rows

QUIET = ["hydra/job_logging=none", "hydra/hydra_logging=none"]  # the test runner's logs stay
TINY = ["steps=20", "evaluations=2", "batch_size=16"]


def smallnets(*arguments: object, report: bool = False) -> None:
    """What a user would type; raises SystemExit as the command would end.

    The report of a sweep takes seconds, so that it is left out but where it is asked for.
    """
    words = [str(argument) for argument in arguments]
    trains = words[0] not in (*cli.VERBS, "--version")
    quiet = [*QUIET, *([] if report else ["~hydra.callbacks.report"])] if trains else []
    GlobalHydra.instance().clear()
    with (
        mock.patch.object(sys, "argv", ["smallnets", *words, *quiet]),
        mock.patch.dict("os.environ"),  # main() sets a variable of Hydra's
    ):
        cli.main()


def folders(cache: Path, out: Path) -> list[str]:
    return [f"cache={cache}", f"hydra.sweep.dir={out}"]


def users_environment() -> dict[str, str]:
    """The environment without the compiler's options of tests; see the marker users_options."""
    return {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}


def assert_equal(one: Path, other: Path) -> None:
    """Two studies have the same runs, with the same curves and models to the last bit."""
    import jax
    import numpy as np

    found = {row.key: row for row in rows.load(one)}
    assert set(found) == {row.key for row in rows.load(other)}
    for row in rows.load(other):
        assert found[row.key].curves == row.curves
        assert found[row.key].metrics == row.metrics
        models = (load(folder / row.key) for folder in (one, other))
        assert all(jax.tree.leaves(jax.tree.map(np.array_equal, *models)))

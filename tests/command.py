"""The command ``smallnets`` inside this process."""

import sys
from pathlib import Path
from unittest import mock

from hydra.core.global_hydra import GlobalHydra

from smallnets import cli

QUIET = ["hydra/job_logging=none", "hydra/hydra_logging=none"]  # the test runner's logs stay
TINY = ["steps=20", "evaluations=2", "batch_size=16"]


def smallnets(*arguments: object) -> None:
    """What a user would type; raises SystemExit as the command would end."""
    words = [str(argument) for argument in arguments]
    quiet = [] if words[0] in (*cli.VERBS, "--version") else QUIET
    GlobalHydra.instance().clear()
    with (
        mock.patch.object(sys, "argv", ["smallnets", *words, *quiet]),
        mock.patch.dict("os.environ"),  # main() sets a variable of Hydra's
    ):
        cli.main()


def folders(cache: Path, out: Path) -> list[str]:
    return [f"cache={cache}", f"hydra.sweep.dir={out}"]

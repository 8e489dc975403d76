"""The command ``smallnets``: it trains one run, or with ``-m`` a sweep, or does what a verb says.

Nothing heavy is imported here, so that ``smallnets --help`` answers at once.
"""

import errno
import importlib
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from smallnets import __version__
from smallnets.sweep import (
    CONF,
    VERSION_BASE,
    FailedRunsError,
    StoppedError,
    forget_an_empty_cache,
    with_hint,
)

if TYPE_CHECKING:
    from omegaconf import DictConfig

_TRACEBACK = os.environ.get("HYDRA_FULL_ERROR", "0") != "0"
VERBS = {  # first word of a command: the function that takes the rest, and what it does
    "describe": ("smallnets.sweep.description:main", "what a config's network costs, part by part"),
    "analyse": ("smallnets.analysis.command:main", "fit laws to runs and write their report"),
    "reproduce": ("smallnets.sweep.reproduce:main", "train a recorded run again and compare"),
    "plan": ("smallnets.sweep.plan_file:main", "write a sweep's plan, for workers on any machines"),
    "work": ("smallnets.sweep.work:main", "train a plan, or one worker's share of it"),
    "submit": ("smallnets.sweep.submit:main", "write a script for Slurm that trains a plan"),
    "collect": ("smallnets.sweep.collect:main", "what of a plan is done, and what is missing"),
    "cascade": ("smallnets.hybrid.command:main", "a small model first, a larger one where unsure"),
    "pays": ("smallnets.hybrid.pays:main", "when a small model has paid for its own making"),
    "export": (
        "smallnets.deploy.command:main",
        "a run's model as files that run elsewhere, checked",
    ),
    "generate": (
        "smallnets.decoding.command:main",
        "text with which a decoder goes on from a prompt",
    ),
    "serve": ("smallnets.deploy.serve:main", "answer over HTTP by an exported model"),
    "paper": ("smallnets.paper.command:main", "a paper of frozen rows: init, freeze, build, check"),
    "new": ("smallnets.new:main", "a folder for layers and tasks of one's own"),
}
WHITELIST = r"hydra\.utils\.instantiate\(\) resolved"  # Hydra 1.4 says it of its own callbacks
_SHOW = ("--cfg", "-c", "--info", "-i", "--hydra-help", "--shell-completion", "-sc")
_HELP = """smallnets: how small can the model be, and what does it really cost?

One run:        smallnets family=low_rank model.width=64 seed=3
A sweep:        smallnets -m family=dense,monarch model.width=16,32,64 'seed=range(5)'
An experiment:  smallnets -m +experiment=mnist1d

{verbs}

What can be chosen, as group=option (with a + for what is not there by default):

{groups}

Any value of the config can be set, as in model.width=32.
smallnets [CHOICES] --cfg job     the config that they give
smallnets --hydra-help            Hydra's own options
"""


def _app(config: "DictConfig") -> float:
    """One job of a sweep under another launcher than ours, which starts none: train it alone."""
    from hydra.core.hydra_config import HydraConfig

    from smallnets.sweep.execute import train
    from smallnets.sweep.plan import plan
    from smallnets.sweep.result import score

    del config
    hydra = HydraConfig.get()
    (run,) = train(plan(*hydra.overrides.task, f"hydra.sweep.dir={hydra.sweep.dir}"))
    return score(run.row)


def main() -> None:
    """Console script: what goes wrong is one line on standard error, with status 2.

    What is no mistake in the words has a status of its own: 1 where runs failed and the others are
    there, 74 (EX_IOERR) for a full disk, 75 (EX_TEMPFAIL) where a signal or the time limit ended
    the sweep, which the same command takes up again.

    HYDRA_FULL_ERROR=1 in the environment shows the traceback instead.
    """
    words = sys.argv[1:]
    if not sys.flags.safe_path and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # a module of one's own is found, and hides no library
    if words in (["--help"], ["-h"]):
        print(help_page(CONF), end="")
        return
    if words == ["--version"]:
        print(f"smallnets {__version__}")
        return
    os.environ["HYDRA_FULL_ERROR"] = "1"  # let exceptions through to here
    forget_an_empty_cache()
    interrupts: list[int] = []
    try:
        with _noting(interrupts), _warnings_in_one_line():
            _run(words)
        if interrupts:  # a library that was being imported went on all the same
            _stop()
    except KeyboardInterrupt:
        _stop()
    except Exception as error:
        if interrupts:  # what was being imported made another error of it
            _stop()
        _leave(error)


def _run(words: list[str]) -> None:
    """What the words ask for; Hydra is imported here, where Ctrl-C is one line already."""
    import hydra

    if words and "=" not in words[0] and not words[0].startswith("-"):
        _verb(words[0])(words[1:])
        return
    if not {"-m", "--multirun", *_SHOW} & {*words}:
        sys.argv[1:] = ["--multirun", *_one_run(words)]
    hydra.main(**VERSION_BASE, config_path=str(CONF), config_name="config")(_app)()


@contextmanager
def _noting(interrupts: list[int]) -> Iterator[None]:
    """Inside, each Ctrl-C is noted too, besides the KeyboardInterrupt that it raises.

    While what trains is still being imported it ends the process at once.
    """

    def note(number: int, frame: FrameType | None) -> None:
        if not hasattr(sys.modules.get("smallnets.sweep.execute"), "train"):
            _stop()  # a library that is being imported may make anything of an exception
        interrupts.append(number)
        signal.default_int_handler(number, frame)

    try:
        before = signal.signal(signal.SIGINT, note)
    except ValueError:  # of another thread than the main one, which gets no signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _warnings_in_one_line() -> Iterator[None]:
    """Inside, a warning is one line; what networks warn of when traced is the launcher's to say."""

    def show(message: Warning | str, *where: Any, **details: Any) -> None:
        print(f"smallnets: warning: {' '.join(str(message).split())}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"smallnets\.nn\.")
        warnings.filterwarnings("ignore", WHITELIST)
        warnings.showwarning = show
        yield


def _stop() -> NoReturn:
    print("smallnets: stopped", flush=True)
    os._exit(130)  # programs under way on other threads can't be stopped otherwise


def _verb(name: str) -> Callable[[list[str]], None]:
    """The function of a verb; raises ValueError for a word that is none."""
    if name not in VERBS:
        raise ValueError(
            f"the first word is a verb or sets a value, but {name!r} is neither: the verbs are "
            f"{', '.join(VERBS)}, and values are set as in family=low_rank"
        )
    module, _, function = VERBS[name][0].partition(":")
    return getattr(importlib.import_module(module), function)


def _leave(error: Exception) -> NoReturn:
    """Print what went wrong as one line and end; a bug of ours says where to look."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    if _TRACEBACK:
        raise error
    status = 2
    if isinstance(error, FailedRunsError):
        said, status = str(error), 1
    elif isinstance(error, StoppedError):
        said, status = f"stopped by {error}", 75
    elif isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = f" for {error.filename}" if error.filename else ""
        said = f"the disk is full{where}: what is whole stays; make room, and run it again"
        status = 74
    elif isinstance(error, OSError) and error.filename:
        said = f"{error.filename} can't be read or written ({error.strerror}): choose another path"
    elif isinstance(error, (HydraException, OmegaConfBaseException, ValueError)):
        said = with_hint(str(error) or str(error.__cause__))
    else:
        said = f"{type(error).__name__}: {error} (HYDRA_FULL_ERROR=1 shows where)"
    print(f"smallnets: {' '.join(said.split())}", file=sys.stderr)
    sys.exit(status)


def help_page(conf: Path) -> str:
    """The help, with the groups and options that the folder of configs holds.

    Hydra's own page composes every group and takes half as long again as that of an app without
    any.
    """
    options: dict[str, list[str]] = {}
    for path in sorted(conf.glob("*/**/*.yaml")):
        options.setdefault(str(path.parent.relative_to(conf)), []).append(path.stem)
    width = max(map(len, options))
    lines = (f"  {group:{width}}  {', '.join(names)}" for group, names in sorted(options.items()))
    verbs = (f"smallnets {verb:14}{about}" for verb, (_, about) in VERBS.items())
    return _HELP.format(verbs="\n".join(verbs), groups="\n".join(lines))


def _one_run(words: list[str]) -> list[str]:
    """The words of a sweep of one run; what an experiment sweeps is left at its defaults."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    overrides = [word for word in words if not word.startswith("-") and "=" in word]
    for override in OverridesParser.create().parse_overrides(overrides):
        if override.is_sweep_override():
            raise ValueError(
                f"one run has one value for each key, but {override.input_line} has several: add "
                f"-m for a sweep, or give a list as {override.key_or_group}=[...]"
            )
    return [*words, "hydra.sweeper.params=null"]

"""The command ``smallnets``: it trains one run, or with ``-m`` a sweep, or does what a verb says.

Nothing heavy is imported here, so that ``smallnets --help`` answers at once.
"""

import importlib
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from smallnets import __version__
from smallnets.sweep import CONF, with_hint

_TRACEBACK = os.environ.get("HYDRA_FULL_ERROR", "0") != "0"
VERBS = {  # first word of a command: the function that takes the rest, and what it does
    "describe": ("smallnets.sweep.description:main", "what a config's network costs, part by part"),
    "analyse": ("smallnets.analysis.command:main", "fit laws to runs and write their report"),
    "new": ("smallnets.new:main", "a folder for layers and tasks of one's own"),
}
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


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def _app(config: DictConfig) -> float:
    """One job of a sweep under another launcher than ours, which starts none: train it alone."""
    from smallnets.sweep.execute import score, train
    from smallnets.sweep.plan import plan

    del config
    hydra = HydraConfig.get()
    (run,) = train(plan(*hydra.overrides.task, f"hydra.sweep.dir={hydra.sweep.dir}"))
    return score(run.row)


def main() -> None:
    """Console script: what goes wrong is one line on standard error, with status 2.

    HYDRA_FULL_ERROR=1 in the environment shows the traceback instead.
    """
    words = sys.argv[1:]
    if words in (["--help"], ["-h"]):
        print(help_page(CONF), end="")
        return
    if words == ["--version"]:
        print(f"smallnets {__version__}")
        return
    sys.path.append(os.getcwd())  # a package in this folder is found without being installed
    os.environ["HYDRA_FULL_ERROR"] = "1"  # let exceptions through to here
    quiet()
    try:
        if words and "=" not in words[0] and not words[0].startswith("-"):
            _verb(words[0])(words[1:])
            return
        if not {"-m", "--multirun", *_SHOW} & {*words}:
            sys.argv[1:] = ["--multirun", *_one_run(words)]
        _app()
    except KeyboardInterrupt:
        print("smallnets: stopped", flush=True)
        os._exit(130)  # programs under way on other threads can't be stopped otherwise
    except Exception as error:
        _leave(error)


def _verb(name: str) -> Callable[[list[str]], None]:
    """The function of a verb; raises ValueError for a word that is none."""
    if name not in VERBS:
        raise ValueError(
            f"the first word is a verb or sets a value, but {name!r} is neither: the verbs are "
            f"{', '.join(VERBS)}, and values are set as in family=low_rank"
        )
    module, _, function = VERBS[name][0].partition(":")
    return getattr(importlib.import_module(module), function)


def quiet() -> None:
    """Silence what networks warn of each time they are traced: the launcher says it once."""
    warnings.filterwarnings("ignore", module=r"smallnets\.nn\.")


def _leave(error: Exception) -> NoReturn:
    """Print what went wrong as one line and end with status 2; a bug of ours says where to look."""
    if _TRACEBACK:
        raise error
    if isinstance(error, OSError) and error.filename:
        said = f"{error.filename} can't be read or written ({error.strerror}): choose another path"
    elif isinstance(error, (HydraException, OmegaConfBaseException, ValueError)):
        said = with_hint(str(error))
    else:
        said = f"{type(error).__name__}: {error} (HYDRA_FULL_ERROR=1 shows where)"
    print(f"smallnets: {' '.join(said.split())}", file=sys.stderr)
    sys.exit(2)


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
    overrides = [word for word in words if not word.startswith("-") and "=" in word]
    for override in OverridesParser.create().parse_overrides(overrides):
        if override.is_sweep_override():
            raise ValueError(
                f"one run has one value for each key, but {override.input_line} has several: add "
                f"-m for a sweep, or give a list as {override.key_or_group}=[...]"
            )
    return [*words, "hydra.sweeper.params=null"]

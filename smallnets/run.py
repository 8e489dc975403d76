"""The command ``smallnets``: one run, or with ``-m`` a sweep. Nothing heavy is imported here, so
that ``smallnets --help`` answers at once."""

import os
import sys
import warnings
from pathlib import Path
from typing import NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from smallnets.launch import help
from smallnets.launch.usage import UsageError

_HERE = Path(__file__).parent
CONF = next(path for path in (_HERE / "conf", _HERE.parent / "conf") if path.is_dir())


_TRACEBACK = os.environ.get("HYDRA_FULL_ERROR", "0") != "0"


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def run(config: DictConfig) -> float:
    """Train the run that ``config`` describes and write its row into Hydra's output folder."""
    from smallnets.launch.single import train_alone

    try:
        return train_alone(config, HydraConfig.get())
    except Exception as error:
        _leave(error)  # before Hydra adds lines of its own


def main() -> None:
    """Console script: what goes wrong is one line on standard error, with status 2.

    HYDRA_FULL_ERROR=1 in the environment shows the traceback instead.
    """
    if sys.argv[1:] in (["--help"], ["-h"]):
        print(help.page(CONF), end="")
        return
    os.environ["HYDRA_FULL_ERROR"] = "1"  # let exceptions through to here
    quiet()
    try:
        run()
    except KeyboardInterrupt:
        print("smallnets: stopped", flush=True)
        os._exit(130)  # programs under way on other threads can't be stopped otherwise
    except Exception as error:
        _leave(error)


def quiet() -> None:
    """Silence what networks warn of each time they are traced: the launcher says it once."""
    warnings.filterwarnings("ignore", module=r"smallnets\.nn\.")


def _leave(error: Exception) -> NoReturn:
    if _TRACEBACK:
        raise error
    if isinstance(error, OSError) and error.filename:
        said = f"{error.filename} can't be read or written ({error.strerror}): choose another path"
    elif isinstance(error, (UsageError, HydraException, OmegaConfBaseException, ValueError)):
        said = error
    else:
        said = f"{type(error).__name__}: {error} (HYDRA_FULL_ERROR=1 shows where)"
    print(f"smallnets: {UsageError(said)}", file=sys.stderr)
    sys.exit(2)

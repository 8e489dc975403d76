"""Every family of linear layers: the YAML files are the list."""

from functools import partial
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import OmegaConf

from smallnets.nn.linear import Dense

CONF = Path(__file__).parents[2] / "conf"
LINEAR = sorted(path.stem for path in (CONF / "model" / "linear").glob("*.yaml"))
MIXTURES = sorted(path.stem for path in (CONF / "model" / "mixture").glob("*.yaml"))
FAMILIES = [*LINEAR, *(f"mixture/{name}" for name in MIXTURES)]


def factory(family: str) -> Any:
    """The factory (d_in, d_out, *, rngs) of a family; a mixture is one of dense layers."""
    folder = "model" if family.startswith("mixture/") else "model/linear"
    built = instantiate(OmegaConf.load(CONF / folder / f"{family}.yaml"), _convert_="all")
    return partial(built, expert=Dense) if family.startswith("mixture/") else built

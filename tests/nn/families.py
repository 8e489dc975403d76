"""Every family of linear layers: the YAML files are the list."""

import functools
from functools import partial
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import OmegaConf

from smallnets.nn.linear import Dense
from smallnets.sweep.build import CHECKED

CONF = Path(__file__).parents[2] / "conf"
LINEAR = sorted(path.stem for path in (CONF / "model" / "linear").glob("*.yaml"))
MIXTURES = sorted(f"mixture/{path.stem}" for path in (CONF / "model" / "mixture").glob("*.yaml"))
FAMILIES = [*LINEAR, *MIXTURES]


@functools.cache
def factory(family: str) -> Any:
    """The factory (d_in, d_out, *, rngs) of a family; a mixture is one of dense layers."""
    folder = "model" if family in MIXTURES else "model/linear"
    config = OmegaConf.load(CONF / folder / f"{family}.yaml")
    built = instantiate(config, _convert_="all", **CHECKED)
    if family in MIXTURES:
        # one partial, not one of another: so `declared` and `assign` find the numbers in it
        return partial(built.func, **built.keywords, expert=Dense)
    return built

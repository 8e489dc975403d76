"""What ``smallnets --help`` says: Hydra's own page composes every group and takes half as long
again as that of an app without any."""

from pathlib import Path

_TEXT = """smallnets: how small can the model be, and what does it really cost?

One run:        smallnets model=low_rank model.width=64 seed=3
A sweep:        smallnets -m model=dense,monarch model.width=16,32,64 'seed=range(5)'
An experiment:  smallnets -m +experiment=mnist1d

What can be chosen, as group=option (with a + for what is not there by default):

{groups}

Any value of the config can be set, as in model.width=32.
smallnets [CHOICES] --cfg job     the config that they give
smallnets --hydra-help            Hydra's own options
"""


def page(conf: Path) -> str:
    """The help, with the groups and options that the folder of configs holds."""
    options: dict[str, list[str]] = {}
    for path in sorted(conf.glob("*/**/*.yaml")):
        options.setdefault(str(path.parent.relative_to(conf)), []).append(path.stem)
    width = max(map(len, options))
    lines = (f"  {group:{width}}  {', '.join(names)}" for group, names in sorted(options.items()))
    return _TEXT.format(groups="\n".join(lines))

"""A network of each YAML of the model's groups, every parameter drawn, as a kept model."""

from pathlib import Path

import numpy as np
from layers import drawn  # pyright: ignore[reportMissingImports]

import smallnets
from smallnets.models import Model

CONF = Path(__file__).parents[2] / "conf" / "model"
SMALL = {"residual": ["model.width=16"], "encoder": ["model.width=16", "model.depth=2"]}
SMALL |= {"transformer": ["model.width=16", "model.depth=2", "task=austen", "task.length=16"]}
SMALL |= {"lenet5": ["model.channels=[4,8]", "model.hidden=[16]"], "perceptron": []}


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def words() -> dict[str, list[str]]:
    """The words of each case: every network, and every YAML of a sub-group once."""
    found = {model: [f"model={model}"] for model in options("")}
    for linear in options("linear"):
        found[f"residual-{linear}"] = ["model=residual", f"model/linear={linear}"]
    for mixture in options("mixture"):
        found[f"encoder-{mixture}"] = ["model=encoder", f"+model/mixture={mixture}"]
        if mixture != "soft":
            found[f"residual-{mixture}"] = ["model=residual", f"+model/mixture={mixture}"]
    found["transformer-dropless"] = ["model=transformer", "+model/mixture=dropless"]
    found["encoder-shared_part"] = ["model=encoder", "model/stack=shared_part"]
    found["residual-deep"] = ["model=residual", "model.depth=12"]
    found["residual-shared"] = ["model=residual", "model.depth=4", "model.unique=1"]
    found["residual-relaxed"] = [*found["residual-shared"], "model.relaxation=2"]
    found["residual-exits"] = ["model=residual", "+model/exits=self_distilled"]
    for group in ("feed_forward", "norm", "connection"):
        for option in options(group):
            found[f"encoder-{option}"] = ["model=encoder", f"model/{group}={option}"]
    for convolution in options("convolution"):
        name = f"convolutional-{convolution}"
        found[name] = ["model=convolutional", f"model/convolution={convolution}"]
    for pooling in options("pooling"):
        found[f"lenet5-{pooling}"] = ["model=lenet5", f"model/pooling={pooling}"]
    return found


WORDS = words()


def built(name: str, cache: Path) -> tuple[Model, np.ndarray]:
    """The model of a case, and 64 raw inputs of its task."""
    said = WORDS[name]
    more = SMALL.get(said[0].removeprefix("model="), [])
    (program,) = smallnets.plan(*said, *more, f"cache={cache}").programs
    network = drawn(program.trainer.network(program.data))
    data = program.data
    model = Model(network, data.preparation, classes=data.names, kind=data.kind)
    return model, data.test.inputs[:64]

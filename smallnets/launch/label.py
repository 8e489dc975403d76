"""The family of a row: the curve that it belongs to."""

from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode

from smallnets.launch.compose import Job, resolve

SIZES = ("width", "hidden", "widths")  # keys of a network that make it larger, not another one


def labels(jobs: list[Job]) -> list[str]:
    """The label of each job: its ``model`` choice, every value of the model that is not that
    choice's own, sizes aside, and the parametrization if it is another. So runs of one label are
    one family at different sizes, wherever a value was set: on the command line, in an experiment,
    by reference.
    """
    plain: dict[str, dict[str, Any]] = {}
    found = []
    for job in jobs:
        choice = job.config.hydra.runtime.choices.model
        if choice not in plain:
            plain[choice] = dict(_leaves(_network(_plain_config(choice))))
        own = plain[choice]
        changed = [
            f"{path}={value}"
            for path, value in sorted(_leaves(_network(job.resolved)))
            if path.rpartition(".")[2] not in SIZES and own.get(path, _leaves) != value
        ]
        found.append(" ".join([choice, *changed]))
    return found


def _network(config: dict[str, Any]) -> dict[str, Any]:
    """The model's node, with what else belongs to a curve."""
    return {**config["model"], "parametrization": config["parametrization"]}


def _plain_config(choice: str) -> dict[str, Any]:
    loader = GlobalHydra.instance().config_loader()
    config = loader.load_configuration("config", [f"model={choice}"], RunMode.RUN)
    return resolve(config)


def _leaves(tree: Any, path: str = "") -> list[tuple[str, Any]]:
    """Dotted paths and values; a target stands for its node, by its last name."""
    if not isinstance(tree, dict):
        return [(path, tree)]
    leaves = []
    for name, branch in tree.items():
        if name == "_target_":
            leaves.append((path or "model", branch.rpartition(".")[2]))
        elif name != "_partial_":
            leaves += _leaves(branch, f"{path}.{name}" if path else name)
    return leaves

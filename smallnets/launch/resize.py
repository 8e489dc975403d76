from collections.abc import Sequence
from functools import partial

from smallnets.budget import Network, Sizes, solve
from smallnets.launch.build import usage
from smallnets.launch.usage import UsageError
from smallnets.tasks.data import Data
from smallnets.train.run import Run
from smallnets.varying import assign


def resize(
    tree: partial[Run], data: Data, family: str, overrides: Sequence[str]
) -> tuple[partial[Run], Sizes]:
    """``tree`` with the sizes of its model that meet its budget, and these; as it is without one.

    Raises UsageError where no size does, and where one that is chosen was also set by hand.
    """
    run = tree()
    budget = run.budget()
    if not budget.asked:
        return tree, {}
    known = tree.keywords["model"].keywords
    knobs = [name for name in budget.by if name in known]
    if not knobs:
        raise UsageError(
            f"{family}: a budget needs one of {', '.join(budget.by)}, but the model has "
            f"{', '.join(known)}: choose a model that has one, or name another size in budget.by"
        )
    for name in knobs:
        if any(override.lstrip("+").startswith(f"model.{name}=") for override in overrides):
            raise UsageError(
                f"a budget chooses model.{name}, but it is set too: leave it out, or leave it out "
                f"of budget.by={list(budget.by)}"
            )

    def network(sizes: Sizes) -> Network:
        return resized(tree, sizes)().network(data)

    with usage(f"{family}: "):
        sizes = solve(budget, network, run.batch(data), knobs=knobs)
    return resized(tree, sizes), sizes


def resized(tree: partial[Run], sizes: Sizes) -> partial[Run]:
    """``tree`` with these sizes of its model."""
    for name, value in sizes.items():
        tree = assign(tree, f"model.{name}", value)
    return tree

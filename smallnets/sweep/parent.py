"""What a job must know of the run that it starts from, or whose answers it learns from."""

from typing import Any, NamedTuple

import jax


class Parent(NamedTuple):
    """A kept run that others start from, or learn from: what they must know of it.

    ``run`` is its key, ``saved`` says which of its models it is: the last and the best are two
    parents. ``shape`` is that of the network in words, ``model`` the config of the network that
    was trained, ``route`` what has been done to it since. ``inputs`` prepares what it reads, and
    ``classes`` are the names of its answers. Where it is ``planned``, it is a run of the same plan:
    its network is abstract, and will lie in ``folder``.
    """

    run: str
    saved: str
    family: str
    model: Any
    network: Any
    shape: str
    folder: str
    route: str = ""
    planned: bool = False
    inputs: Any = None
    classes: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        return f"{self.run}-{self.saved}"


def shape_of(network: Any) -> str:
    """What two networks of one program have in common: their structure and their arrays' shapes."""
    shapes = [f"{leaf.shape} {leaf.dtype}" for leaf in jax.tree.leaves(network)]
    return f"{jax.tree.structure(network)} {shapes}"

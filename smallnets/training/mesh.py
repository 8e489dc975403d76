"""Devices that train a program together, and which of its arrays lie where.

Arrays are given places and XLA partitions the program by them (GSPMD: Xu et al. 2021,
arXiv:2105.04663), so that no layer knows of devices, and numbers are those of one device to
rounding.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from smallnets.nn.mixture import Mixture, SoftMixture
from smallnets.nn.parameter import is_variable
from smallnets.tasks.data import check_whole

DATA, EXPERTS, MODEL = "data", "experts", "model"


@dataclass(frozen=True, kw_only=True)
class Mesh:
    """``data`` x ``experts`` x ``model`` devices, the first that are there.

    ``data`` devices share the runs of a program that are trained side by side (where these are no
    multiple, the last is repeated), or the batch of a run that is trained alone. ``model`` devices
    share each weight array, with what the optimiser keeps of it: the last of its axes that they
    divide. ``experts`` devices share the experts of each mixture. Raises ValueError for what is no
    whole number from 1.
    """

    data: int = 1
    model: int = 1
    experts: int = 1

    def __post_init__(self):
        check_whole({f"mesh.{name}": value for name, value in vars(self).items()}, least=1)

    @property
    def devices(self) -> int:
        return self.data * self.model * self.experts

    @property
    def parts(self) -> int:
        """Into how many the arrays of one network may be cut."""
        return self.model * self.experts

    def check_devices(self) -> None:
        """Raise ValueError where there are too few devices, or a process would have none."""
        there, processes = jax.device_count(), jax.process_count()
        product = f"mesh.data * mesh.experts * mesh.model = {self.devices}"
        if self.devices > there:
            raise ValueError(f"{product} devices are more than the {there} that are here: ask less")
        if processes > 1 and self.devices != there:
            raise ValueError(
                f"{product} devices must be all {there} of the {processes} processes: set them so"
            )

    def check_batch(self, batch_size: int) -> None:
        """Raise ValueError where a batch is not to be shared equally."""
        if batch_size % self.data:
            raise ValueError(
                f"mesh.data={self.data} devices share the batch of a run that is trained alone, "
                f"but do not divide batch_size={batch_size}: choose a divisor"
            )

    def check_network(self, network: Any) -> None:
        """Raise ValueError where a weight array has no axis to be shared, or experts don't divide.

        The arrays of ``network`` may be abstract.
        """
        for path, leaf in _variables(network):
            shape = leaf.shape
            if _is_kernel(leaf) and not any(size % self.model == 0 for size in shape):
                raise ValueError(
                    f"mesh.model={self.model} devices share an axis of each weight array, but "
                    f"divide none of {' x '.join(map(str, shape))}, {'.'.join(path)}: choose a "
                    "divisor of the widths"
                )
        mixtures = _mixtures(network)
        if self.experts > 1 and not mixtures:
            raise ValueError(
                f"mesh.experts={self.experts} devices share experts, but the network has no "
                "mixture: leave it at 1"
            )
        for _, mixture in mixtures:
            if mixture.experts % self.experts:
                raise ValueError(
                    f"mesh.experts={self.experts} devices do not divide a mixture's "
                    f"{mixture.experts} experts: choose a divisor"
                )

    def layout(self, network: Any) -> "Layout | None":
        """Where a program's arrays lie; None for one device, where nothing is to be said."""
        if self.devices == 1:
            return None
        axes: dict[tuple[str, ...], int] = {}
        for path, mixture in _mixtures(network):
            outside = mixture.entropy.ndim - 1  # axes of the stacks that the mixture stands in
            for inner, _ in _variables(mixture.expert):
                axes.setdefault((*path, "expert", *inner), outside)
        grid = np.asarray(jax.devices()[: self.devices])
        grid = grid.reshape(self.data, self.experts, self.model)
        return Layout(self, jax.sharding.Mesh(grid, (DATA, EXPERTS, MODEL)), axes)


@dataclass(frozen=True)
class Layout:
    """A mesh of devices for the programs of one network.

    ``expert_axes`` says, for each parameter of experts by its path, which axis counts them.
    """

    mesh: Mesh
    grid: jax.sharding.Mesh
    expert_axes: dict[tuple[str, ...], int]

    def at_once(self, runs: int, limit: int) -> int:
        """How many of so many runs are trained at once, so that each device has as many.

        Below a limit they are a multiple of the devices, or one, which has its batch shared; with
        all of them the last is repeated.
        """
        data = self.mesh.data
        if limit < runs:
            return limit // data * data or 1
        return runs if runs == 1 else -(-runs // data) * data

    def runs_axis(self, runs: int) -> str | None:
        """The axis of the mesh over which so many runs at once lie."""
        return DATA if runs > 1 and self.mesh.data > 1 else None

    def spread(self, batch: jax.Array) -> jax.Array:
        """The inputs of a batch ``[n, ...]``, over the devices that share it."""
        if len(batch) % self.mesh.data:  # of a held-out split that is smaller
            return batch
        return jax.lax.with_sharding_constraint(batch, self._at(P(DATA)))

    def constrained(self, state: Any) -> Any:
        """What one run carries, each array in its place, inside of a program."""

        def place(path: tuple[str, ...], leaf: Any) -> Any:
            spec = self._spec(path, leaf, leaf.shape)
            if not any(spec):
                return leaf
            at = self._at(spec)
            return jax.tree.map(lambda array: jax.lax.with_sharding_constraint(array, at), leaf)

        return _mapped(place, state)

    def places(self, tree: Any, runs: int) -> Any:
        """The sharding of each leaf of ``tree``, which has a leading axis of so many runs."""
        first = self.runs_axis(runs)

        def place(path: tuple[str, ...], leaf: Any) -> Any:
            at = self._at(P(first, *self._spec(path, leaf, leaf.shape[1:])))
            return jax.tree.map(lambda array: at, leaf)

        return _mapped(place, tree)

    def everywhere(self, tree: Any) -> Any:
        """The sharding of each leaf of what every device has whole."""
        return jax.tree.map(lambda leaf: self._at(P()), tree)

    def _at(self, spec: P) -> NamedSharding:
        return NamedSharding(self.grid, spec)

    def _spec(self, path: tuple[str, ...], leaf: Any, shape: tuple[int, ...]) -> P:
        """Along which axes of the mesh those of one run's array lie."""
        axes: list[str | None] = [None] * len(shape)
        expert = next(
            (
                axis
                for start in range(len(path))
                if (axis := self._expert(path[start:])) is not None
            ),
            None,
        )
        if expert is not None and expert < len(shape) and shape[expert] % self.mesh.experts == 0:
            axes[expert] = EXPERTS
        if _is_kernel(leaf) and self.mesh.model > 1:
            for axis in reversed(range(len(shape))):
                if axes[axis] is None and shape[axis] % self.mesh.model == 0:
                    axes[axis] = MODEL
                    break
        return P(*axes)

    def _expert(self, path: tuple[str, ...]) -> int | None:
        return self.expert_axes.get(path) if self.mesh.experts > 1 else None


def placed(tree: Any, places: Any) -> Any:
    """The leaves as arrays on devices, each process giving those that it has.

    Abstract ones are zeros; those in their place stay.
    """

    def place(leaf: Any, at: NamedSharding) -> jax.Array:
        if isinstance(leaf, jax.Array) and leaf.sharding.is_equivalent_to(at, leaf.ndim):
            return leaf
        if isinstance(leaf, jax.ShapeDtypeStruct):
            sizes = at.shard_shape(leaf.shape)
            zeros: Callable[[Any], Any] = lambda index: np.zeros(sizes, leaf.dtype)  # noqa: E731
            return jax.make_array_from_callback(leaf.shape, at, zeros)
        array = np.asarray(leaf)
        return jax.make_array_from_callback(array.shape, at, lambda index: array[index])

    return jax.tree.map(place, tree, places)


def _mixtures(network: Any) -> list[tuple[tuple[str, ...], Any]]:
    """The mixtures of a network with their paths, the outer ones first."""
    found = [
        (tuple(map(str, path)), module)
        for path, module in nnx.iter_modules(network)
        if isinstance(module, (Mixture, SoftMixture))
    ]
    return sorted(found, key=lambda pair: len(pair[0]))


def _variables(tree: Any) -> list[tuple[tuple[str, ...], nnx.Variable]]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree, is_leaf=is_variable)
    return [(_names(path), leaf) for path, leaf in leaves if is_variable(leaf)]


def _mapped(function: Callable[[tuple[str, ...], Any], Any], tree: Any) -> Any:
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: function(_names(path), leaf), tree, is_leaf=is_variable
    )


def _names(path: Any) -> tuple[str, ...]:
    """A path in a tree as words, whatever kind of node each step is of."""
    return tuple(jax.tree_util.keystr((step,), simple=True) for step in path)


def _is_kernel(leaf: Any) -> bool:
    return is_variable(leaf) and leaf.get_metadata("fan_in", None) is not None

"""Strict everywhere: ranks are not promoted silently, nor are types."""

import gc
import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

# Most of the time would go into compiling what runs once. The launcher compiles its programs by
# options of its own, which are replaced by these but where the marker users_options stands.
QUICKLY = {"xla_backend_optimization_level": "0", "xla_cpu_use_fusion_emitters": False}
os.environ.setdefault("XLA_FLAGS", " ".join(f"--{name}={QUICKLY[name]}" for name in QUICKLY))
gc.set_threshold(100_000)  # tracing leaves few cycles: looking for them took 7 % of the time


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--sample", metavar="COMMIT", help="run a tenth of the tests, drawn by this")


@pytest.hookimpl(tryfirst=True)
def pytest_itemcollected(item: pytest.Item) -> None:
    """Of a test that carries ``breadth`` a tenth of the cases is quick, drawn by their names."""
    if item.get_closest_marker("breadth") and hashlib.sha256(item.name.encode()).digest()[0] % 10:
        item.add_marker("slow")


@pytest.hookimpl(trylast=True)  # after the markers have chosen
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With ``--sample``, keep the tests whose names the commit's hash draws: at least one."""
    commit = config.getoption("--sample")
    if commit is None:
        return
    drawn = {item: hashlib.sha256(f"{commit} {item.nodeid}".encode()).digest() for item in items}
    kept = sorted(items, key=lambda item: drawn[item])[: max(1, len(items) // 10)]
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = [item for item in items if item in kept]


@pytest.fixture(scope="session")
def users_options() -> dict[str, str | bool]:
    """The options of users, taken before any test replaces them, and what XLA_FLAGS changed."""
    from smallnets.training.batch import COMPILER_OPTIONS

    return {"xla_cpu_use_fusion_emitters": True, **COMPILER_OPTIONS["cpu"]}


@pytest.fixture(scope="session")
def labels_trees() -> dict[str, dict]:
    """What labels compare with, of our own YAMLs: of a process, and not of each plan."""
    return {}


@pytest.fixture(autouse=True, scope="module")
def _in_less_time(request: pytest.FixtureRequest):
    if request.path.parent.name == "analysis":
        yield
        return
    from smallnets.sweep.labels import Labels
    from smallnets.training.batch import COMPILER_OPTIONS

    users = request.getfixturevalue("users_options")
    trees = request.getfixturevalue("labels_trees")
    marked = request.node.get_closest_marker("users_options")
    own = Labels.__init__

    def shared(self: Labels, loader: Any) -> None:
        own(self, loader)
        places = {each.provider for each in loader.get_search_path().get_path()}
        if places <= {"hydra", "main", "schema"}:  # a test's own YAMLs may change
            self._composed = trees

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(COMPILER_OPTIONS, "cpu", users if marked else QUICKLY)
        patch.setattr(Labels, "__init__", shared)
        yield


@pytest.fixture(autouse=True)
def _own_compiler_options(request: pytest.FixtureRequest):
    """For a single test that carries ``users_options``."""
    if all(mark.name != "users_options" for mark in getattr(request.node, "own_markers", ())):
        yield
        return
    from smallnets.training.batch import COMPILER_OPTIONS

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(COMPILER_OPTIONS, "cpu", request.getfixturevalue("users_options"))
        yield


@pytest.fixture(autouse=True)
def _strict(request: pytest.FixtureRequest):
    if request.path.parent.name == "analysis":  # that part of the package never loads JAX
        yield
        return
    import jax

    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        yield


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of data and programs for this test run alone."""
    return tmp_path_factory.mktemp("cache")

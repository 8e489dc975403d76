"""Strict everywhere: ranks are not promoted silently, nor are types."""

import os
from pathlib import Path

import pytest

# Most of the time goes into compiling what runs once: so the tests compile as the launcher does.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=1")


@pytest.fixture(autouse=True)
def _strict(request: pytest.FixtureRequest):
    if "analysis" in request.path.parts:  # that part of the package never loads JAX
        yield
        return
    import jax

    import smallnets.nn  # noqa: F401  sets NNX's tree mode

    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        yield


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of data and programs for this test run alone."""
    return tmp_path_factory.mktemp("cache")

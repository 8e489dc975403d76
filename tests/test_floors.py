"""Imports point down only, read from the source, so that no import has to be run to know."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import smallnets

PACKAGE = Path(__file__).parents[1] / "smallnets"

# What each part may import of the package, besides itself; the package's own names count too.
BELOW: dict[str, set[str]] = {
    "files": set(),
    "allowed": set(),
    "new": {"files"},
    "traced": set(),
    "rows": {"files"},
    "nn": {"traced"},
    "tasks": {"files"},
    "training": {"nn", "tasks", "traced"},
    "measure": {"nn"},
    "models": {"allowed", "files", "tasks", "traced", "training"},
    "compress": {"nn", "tasks", "training", "measure"},
    "pretrained": {"nn", "tasks", "models"},
    "decoding": {"nn", "models"},
    "distil": {"nn", "traced", "training", "decoding"},
    "testing": {"nn", "measure", "models"},
    "analysis": {"__version__", "files", "rows"},
    "paper": {"files", "rows", "analysis"},
    "sweep": {"NUMERICS", "allowed", "files", "traced", "rows", "nn", "tasks", "training",
              "measure", "models", "compress", "distil", "analysis", "paper"},
    "deploy": {"allowed", "decoding", "files", "rows", "nn", "tasks", "measure", "models", "sweep"},
    "hybrid": {"allowed", "files", "rows", "nn", "tasks", "measure", "models", "analysis", "sweep"},
    "cli": {"__version__", "sweep"},
    "__main__": {"cli"},
}  # fmt: skip
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")
SHORT = {"__init__.py", "__main__.py", "files.py"}  # by what they are for, not by their length


def part(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Every module that a file imports, at any depth of its code."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path):
    ours = {name.split(".")[1] for name in imported(path) if name.startswith("smallnets.")}
    assert ours <= BELOW[part(path)] | {part(path)}


def test_no_part_is_above_itself():
    def below(name: str) -> set[str]:
        return {each for lower in BELOW.get(name, ()) for each in ({lower} | below(lower))}

    assert not [name for name in BELOW if name in below(name)]


def loaded_by(statement: str) -> set[str]:
    """The modules of a process that has run one statement."""
    code = f"import sys\n{statement}\nprint(*sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(said.stdout.split())


def test_reading_rows_never_loads_jax():
    files = [path for path in FILES if part(path) in ("analysis", "paper", "rows", "files")]
    roots = {each.split(".")[0] for path in files for each in imported(path)}
    assert not roots & {"jax", "jaxlib", "flax", "optax", "orbax"}
    found = loaded_by("import smallnets.analysis.command, smallnets.paper.command")
    assert not found & {"jax", "jaxlib", "flax", "optax", "orbax"}


def test_the_package_itself_loads_nothing_heavy():
    assert not loaded_by("import smallnets") & {"jax", "flax", "numpy", "hydra", "rich"}


def test_no_public_function_is_called_like_a_module_beside_it():
    """Importing such a module would put it in the function's place."""
    beside = {path.stem for path in PACKAGE.iterdir()}
    functions = {name for name in smallnets.__all__ if callable(getattr(smallnets, name))}
    assert {"plan", "train", "load"} <= functions
    assert not functions & beside


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_is_a_noun_neither_too_long_nor_too_short(path: Path):
    assert path.stem not in {"utils", "util", "helpers", "common", "misc"}
    lines = len(path.read_text().splitlines())
    assert lines <= 400
    if part(path) != "analysis" and path.name not in SHORT:
        assert lines >= 30

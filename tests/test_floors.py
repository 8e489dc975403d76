"""Imports point down only, read from the source, so that no import has to be run to know."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "smallnets"

# What each part may import of the package, besides itself.
BELOW = {
    "varying": set(),
    "records": set(),
    "nn": {"varying"},
    "tasks": set(),
    "train": {"nn", "tasks", "varying"},
    "measure": {"nn"},
    "analysis": {"records"},
    "budget": {"nn", "measure"},
    "launch": {"budget", "nn", "tasks", "train", "measure", "analysis", "records", "varying"},
    "run": {"launch"},
    "describe": {"budget", "launch", "measure", "nn", "run", "tasks", "train"},
}
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


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


@pytest.mark.parametrize("name", ["analysis", "records"])
def test_reading_rows_never_loads_jax(name: str):
    files = [path for path in FILES if part(path) == name]
    assert files
    for path in files:
        roots = {each.split(".")[0] for each in imported(path)}
        assert not roots & {"jax", "jaxlib", "flax", "optax", "orbax"}


def test_importing_the_analysis_leaves_jax_out():
    code = "import sys, smallnets.analysis.report, smallnets.rows; print('jax' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "False"


def test_the_package_itself_holds_its_version_alone():
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    assert [type(node) for node in tree.body] == [ast.Expr, ast.Assign]


def test_there_is_no_catch_all_and_no_file_is_too_long():
    for path in FILES:
        assert path.stem not in {"utils", "util", "helpers", "common", "misc"}
        assert len(path.read_text().splitlines()) <= 400, path

"""Converters and runtimes each live in an environment of their own, which ``make deploy`` builds.

Their pins contradict ours and each other's. A file is handed over: the model, or its StableHLO.
What runs there is a module of this folder, found through a link, so that nothing of ours is
installed there and none of our packages is seen beside theirs.
"""

import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import smallnets

ROOT = Path(smallnets.__file__).parents[1]
ENVIRONMENTS = {"onnx": ".venv-onnx", "litert": ".venv-litert"}  # stablehlo needs none but ours


def interpreter(route: str) -> str:
    """The Python that a route's files are made and run by.

    It is looked for in the current folder and beside the package. Raises ValueError where the
    environment is not there, with the command that builds it.
    """
    if route not in ENVIRONMENTS:
        return sys.executable
    name = ENVIRONMENTS[route]
    for folder in (Path.cwd(), ROOT):
        found = folder / name / "bin" / "python"
        if (folder / name / "installed").exists() and found.exists():
            return str(found)
    raise ValueError(
        f"the route {route} runs in an environment of its own, {name}, which is not here: build "
        f"it with make deploy in {ROOT}, or leave the route out of --to"
    )


def run(route: str, module: str, arguments: Sequence[object], allow: Sequence[str] = ()) -> str:
    """What ``python -m smallnets.deploy.MODULE`` prints in a route's environment.

    ``allow`` are packages that it may import too. Raises ValueError with the last line that it
    said where it fails.
    """
    with _command(route, module, arguments, allow) as (command, variables):
        done = subprocess.run(command, env=variables, capture_output=True, text=True)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()] or ["it said nothing"]
        raise ValueError(f"{route}: {said[-1].removeprefix('ValueError: ')}")
    return done.stdout


def attached(route: str, module: str, arguments: Sequence[object]) -> int:
    """The same, speaking for itself until it ends, as a server does; returns its status."""
    with _command(route, module, arguments, ()) as (command, variables):
        child = subprocess.Popen(command, env=variables)
        handlers = {
            signal.SIGINT: lambda number, frame: None,  # of a terminal, which tells the child too
            signal.SIGTERM: lambda number, frame: child.terminate(),
        }
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            return child.wait()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@contextmanager
def _command(
    route: str, module: str, arguments: Sequence[object], allow: Sequence[str]
) -> Iterator[tuple[list[str], dict[str, str]]]:
    """The words and the variables of a process."""
    words = [interpreter(route), "-P", "-m", f"smallnets.deploy.{module}", *map(str, arguments)]
    with linked(("smallnets", *allow)) as folder:
        inherited = os.environ.get("PYTHONPATH", "") if route not in ENVIRONMENTS else ""
        path = os.pathsep.join(filter(None, [str(folder), inherited]))
        yield words, {**os.environ, "PYTHONPATH": path, "JAX_PLATFORMS": "cpu"}


@contextmanager
def linked(packages: Sequence[str]) -> Iterator[Path]:
    """A folder that holds these packages and nothing else."""
    with tempfile.TemporaryDirectory() as folder:
        for name in packages:
            spec = importlib.util.find_spec(name.partition(".")[0])
            if spec is None or spec.origin is None:
                raise ValueError(f"the package {name} is not installed here: install it")
            source = Path(spec.origin)
            source = source.parent if source.name == "__init__.py" else source
            link = Path(folder) / source.name
            if not link.exists():
                link.symlink_to(source)
        yield Path(folder)

"""Files that are whole or not there, whoever reads meanwhile and whatever stops the writer."""

import errno
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def process() -> str:
    """A name that no other process has, on any machine that sees the same folder."""
    return f"{socket.gethostname()}.{os.getpid()}"


def is_gone(name: str) -> bool:
    """Whether a name of :func:`process` is of this machine and its process no longer runs."""
    host, _, number = name.rpartition(".")
    if host != socket.gethostname() or not number.isdigit():
        return False
    try:
        os.kill(int(number), 0)
    except OSError as error:
        return error.errno == errno.ESRCH  # another user's runs
    return False


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A draft beside ``path``, to be written inside; at the end it is renamed onto ``path``.

    So a reader never meets half a file, and many processes may write into one folder, on a network
    disk too. Where the block raises, ``path`` stays as it was and the draft is removed.
    """
    draft = path.with_name(f".{path.name}.{process()}")
    try:
        yield draft
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def check_new(folder: Path) -> None:
    """Raise ValueError where a folder that is to be written is there and not empty."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} is there already and not empty: name another folder")


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A draft beside ``path``, an empty folder to be filled; renamed to ``path`` at the end.

    Raises ValueError where ``path`` is there and not empty. Nothing stays where the block raises.
    """
    path = path.absolute()
    check_new(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as nowhere:
        draft = Path(nowhere, path.name)
        draft.mkdir()
        yield draft
        os.replace(draft, path)  # onto nothing, or onto an empty folder

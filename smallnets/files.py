"""Files that are whole or not there, whoever reads meanwhile and whatever stops the writer."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def process() -> str:
    """A name that no other process has, on any machine that sees the same folder."""
    return f"{socket.gethostname()}.{os.getpid()}"


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

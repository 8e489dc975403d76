"""The folder where prepared data are kept: whole or not there, whoever else writes or dies."""

import logging
import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from filelock import FileLock

if TYPE_CHECKING:
    from tensorflow_datasets.core import DatasetBuilder

Read = TypeVar("Read")
log = logging.getLogger(__name__)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Make ``folder``, and turn what the system refuses inside into a ValueError of one line."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise ValueError(
            f"cache: {folder} must be writable, but: {error.strerror or error}; "
            "name another folder with cache=/path"
        ) from None


def prepare(directory: Path, builder: Callable[[Path], "DatasetBuilder"]) -> Path:
    """Prepare a TFDS dataset as ``directory``, unless it is there; return ``directory``.

    ``builder(folder)`` gives the builder that writes below ``folder``. Processes that call this at
    once wait for the first. The dataset is written beside its name and renamed onto it, so that a
    directory that exists is whole; what a killed process left is removed by the next. Raises
    ValueError if the folder can't be written.
    """
    if directory.exists():
        return directory
    draft = directory.with_name(f"{directory.name}.draft")
    with writing(directory.parent), FileLock(directory.with_name(f"{directory.name}.lock")):
        if directory.exists():
            return directory
        log.info("preparing %s (once)", directory)
        _write(builder(draft), draft).rename(directory)
        shutil.rmtree(draft)
    return directory


class DamagedError(ValueError):
    """What is kept is not whole: prepared again, it is."""


def prepare_and_read(
    directory: Path, builder: Callable[[Path], "DatasetBuilder"], read: Callable[[Path], Read]
) -> Read:
    """What ``read`` makes of ``directory``, prepared as by :func:`prepare`.

    Where it raises :class:`DamagedError`, the directory is removed and prepared anew, and a warning
    says so. Raises ValueError as :func:`prepare` and ``read`` do.
    """
    try:
        return read(prepare(directory, builder))
    except DamagedError:
        pass
    with writing(directory.parent), FileLock(directory.with_name(f"{directory.name}.lock")):
        try:
            return read(directory)  # another process has made it anew meanwhile
        except DamagedError:
            warnings.warn(f"{directory} is damaged, and is made anew", stacklevel=2)
        shutil.rmtree(directory) if directory.is_dir() else directory.unlink()
    return read(prepare(directory, builder))


def _write(builder: "DatasetBuilder", draft: Path) -> Path:
    with quiet():
        builder.download_and_prepare(download_dir=draft / "downloads")
    return Path(builder.data_path)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence TFDS inside, up to errors, and leave its settings at their defaults after."""
    import tensorflow_datasets as tfds

    absl = logging.getLogger("absl")
    level = absl.level
    absl.setLevel(logging.ERROR)
    tfds.disable_progress_bar()
    try:
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
            yield
    finally:
        tfds.enable_progress_bar()
        absl.setLevel(level)

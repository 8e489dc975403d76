"""TFDS without its prints, progress bars and log lines; our own log says what is prepared."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout


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

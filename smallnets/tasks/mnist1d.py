"""MNIST-1D: ten classes of signals of 40 positions, made offline in a second."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from smallnets.tasks.cache import prepare_and_read
from smallnets.tasks.data import Data, check_share, hold_out
from smallnets.tasks.tfds import read

if TYPE_CHECKING:
    from smallnets.tasks.mnist1d_builder import Mnist1d


def load(*, cache: str, validation: float) -> Data:
    """Signals ``[n, 40, 1]`` exactly as the package ``mnist1d`` makes them, rounded to float32.

    4,000 train examples, of which the share ``validation`` is held out, and 1,000 test examples,
    10 classes. The package itself centres and scales all 5,000 signals together to mean 0 and
    variance 1, and published results are on these, so they are not standardised again. Source:
    Greydanus & Kobak 2020, arXiv:2011.14439.

    What is damaged in the cache is made anew. Raises ValueError for a share outside ``[0, 1)`` or a
    cache that can't be written.
    """
    check_share(validation)
    folder = Path(cache).expanduser()
    raw = prepare_and_read(folder / "mnist1d-1.0.0", _builder, partial(read, cache=folder))
    return replace(hold_out(raw, validation), licence="Apache-2.0")


def _builder(folder: Path) -> "Mnist1d":
    from smallnets.tasks.mnist1d_builder import Mnist1d

    return Mnist1d(data_dir=folder, file_format="array_record")

"""The six novels of Jane Austen, to be predicted token by token; the text is in the package."""

import itertools
import lzma
from dataclasses import replace
from pathlib import Path

from smallnets.tasks.data import Data
from smallnets.tasks.text import language_model, parts

FILE = Path(__file__).parent / "texts" / "austen.txt.xz"
TITLES = (  # each a line of its own, where its novel begins
    "EMMA",
    "MANSFIELD PARK",
    "NORTHANGER ABBEY",
    "Persuasion",
    "PRIDE AND PREJUDICE",
    "SENSE AND SENSIBILITY",
)
HELD_OUT = 0.05  # of each novel for validation, and as much for the test


def load(*, cache: str, length: int, vocabulary: int | None = None) -> Data:
    """Windows of ``length`` tokens ``[n, T]`` and the tokens one further on, ``[n, T]``.

    Of each novel the first 90 % are for training, the next 5 % for validation and the last 5 % for
    the test, cut at the end of a line: 3.6, 0.2 and 0.2 million bytes. So a model is tested on how
    the novels end whose beginnings it knows, by one author: not on other text. Tokens are bytes, or
    ``vocabulary`` of them learned from the train split:
    see :func:`smallnets.tasks.text.language_model`, also for what raises ValueError.
    """
    texts = {"train": [], "validation": [], "test": []}
    for novel in novels():
        for name, part in zip(texts, parts(novel, HELD_OUT, HELD_OUT), strict=True):
            texts[name].append(part)
    data = language_model(
        texts, length=length, vocabulary=vocabulary, cache=Path(cache).expanduser()
    )
    return replace(data, licence="public domain")


def novels() -> list[str]:
    """The texts of the six novels, titles included, in the order of ``TITLES``."""
    whole = lzma.decompress(FILE.read_bytes()).decode()
    starts = [0, *(whole.index(f"\n{title}\n") + 1 for title in TITLES[1:]), len(whole)]
    return [whole[a:b] for a, b in itertools.pairwise(starts)]

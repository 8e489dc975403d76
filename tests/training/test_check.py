"""A run is checked before anything is computed: also that the network has a row for each token."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from smallnets.sweep.plan import plan
from smallnets.tasks.data import Data, Split
from smallnets.training import Trainer


def trainer_of(cache: Path, words: str, **options) -> Trainer:
    """The trainer of a command line, with further options of its model, in batches of four."""
    (program,) = plan(*words.split(), "batch_size=4", f"cache={cache}").programs
    return replace(program.trainer, model=partial(program.trainer.model, **options))


def tokens(*, highest: int, labels: tuple[int, ...]) -> Data:
    """Four examples of six tokens up to ``highest``, of eight classes."""
    split = Split(np.full((4, 6), highest, np.int32), np.zeros((4, *labels), np.int32))
    return Data(split, split, split, outputs=8)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "labels", "said"),
    [
        (
            "model=transformer task=random_hierarchy",
            (6,),
            r"tokens must lie in \[0, 8\), .* run from 9 to 9",
        ),
        pytest.param(
            "model=encoder",
            (),
            r"tokens must lie in \[0, 8\), .* set model.vocabulary",
            marks=pytest.mark.slow,
        ),
        ("model=residual", (), "the network embeds none"),
        pytest.param("model=perceptron", (), "the network embeds none", marks=pytest.mark.slow),
    ],
)
def test_tokens_that_no_table_has_get_one_line(words, labels, said, cache):
    with pytest.raises(ValueError, match=said) as raised:
        trainer_of(cache, words).check(tokens(highest=9, labels=labels))
    assert "\n" not in str(raised.value)


@pytest.mark.slow
def test_tokens_that_the_table_has_are_taken(cache):
    decoder = trainer_of(cache, "model=transformer task=random_hierarchy")
    decoder.check(tokens(highest=7, labels=(6,)))
    encoder = trainer_of(cache, "model=encoder", vocabulary=10)
    encoder.check(tokens(highest=9, labels=()))

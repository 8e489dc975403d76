"""A run is checked before anything is computed: also that the network has a row for each token."""

from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir

from smallnets.sweep.jobs import resolve
from smallnets.sweep.plan import build
from smallnets.tasks.data import Data, Split

CONF = Path(__file__).parents[2] / "conf"


def check(overrides: str, *, highest: int, labels: tuple[int, ...], classes: int):
    """The check of a command line on four examples of six tokens up to ``highest``."""
    inputs = np.full((4, 6), highest, np.int32)
    split = Split(inputs, np.zeros((4, *labels), np.int32))
    with initialize_config_dir(str(CONF), version_base="1.3"):
        words = [*overrides.split(), "batch_size=4"]
        config = compose("config", words, return_hydra_config=True)
    return build(resolve(config))().check(Data(split, split, split, classes=classes))


@pytest.mark.parametrize(
    ("overrides", "labels", "said"),
    [
        ("model=transformer", (6,), r"tokens must lie in \[0, 8\), .* run from 9 to 9"),
        ("model=encoder", (), r"tokens must lie in \[0, 8\), .* set model.vocabulary"),
        ("model=residual", (), "the network embeds none"),
        ("model=perceptron", (), "the network embeds none"),
    ],
)
def test_tokens_that_no_table_has_get_one_line(overrides, labels, said):
    with pytest.raises(ValueError, match=said) as raised:
        check(overrides, highest=9, labels=labels, classes=8)
    assert "\n" not in str(raised.value)


def test_tokens_that_the_table_has_are_taken():
    check("model=transformer", highest=7, labels=(6,), classes=8)
    check("model=encoder model.vocabulary=10", highest=9, labels=(), classes=8)

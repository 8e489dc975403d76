"""A network that no memory holds: refused by arithmetic, before its folder is made."""

from pathlib import Path

import pytest

from smallnets.nn.linear import divisors
from smallnets.sweep.execute import train
from smallnets.sweep.plan import plan

HUGE = [
    ("model.depth=1000000", "alone take 33,024,013,056 bytes"),
    ("family=mixture model.mixture.experts=100000000", "alone take"),
]
LARGER = [
    "model.width=1000000000",
    "model.width=1000000000 family=low_rank model.linear.ratio=0.9",
    "model.width=1000000000 family=monarch",
    "model=perceptron model.widths=[1000000000,1000000000]",
]


@pytest.mark.slow
@pytest.mark.parametrize(("words", "said"), HUGE)
def test_parameters_beyond_the_memory_are_refused_before_anything_is_written(
    words, said, cache, tmp_path: Path
):
    here = [f"cache={cache}", f"hydra.sweep.dir={tmp_path / 'out'}"]
    found = plan(*words.split(), "hydra.launcher.memory_limit=1_000_000_000", *here)
    with pytest.raises(ValueError, match="one run must fit into memory") as raised:
        train(found)
    assert said in str(raised.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.breadth
@pytest.mark.parametrize("words", LARGER)
def test_an_array_beyond_any_memory_is_refused_at_once(words, cache):
    with pytest.raises(ValueError, match=r"a weight array may hold up to 2\^40 numbers"):
        plan(*words.split(), f"cache={cache}")


def test_divisors_of_a_large_number_are_found_at_once():
    assert divisors(36) == [1, 2, 3, 4, 6, 9, 12, 18, 36]
    assert divisors(2**30) == [2**k for k in range(31)]

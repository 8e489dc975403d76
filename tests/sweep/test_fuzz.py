"""Words drawn at random: each command composes and is checked, or gets one line of rules."""

import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from smallnets.sweep import CONF, VERSION_BASE
from smallnets.sweep.plan import plan

BASES = [
    ["model=logistic"],
    ["model=residual", "model.width=8"],
    ["model=residual", "family=low_rank", "model.width=8"],
    ["model=residual", "family=monarch", "model.width=8"],
    ["model=residual", "family=mixture", "model.width=8"],
    ["model=convolutional", "model.width=4"],
    ["model=encoder", "model.width=8", "+model/exits=self_distilled"],
    ["model=transformer", "task=random_hierarchy", "task.train=99", "model.width=8"],
    ["model=logistic", "task=sparse_parity", "task.train=99"],
    ["model=encoder", "task=mqar", "task.train=99"],
    ["model=logistic", "task=modular_addition", "task.modulus=17"],
    ["model=logistic", "task=teacher_student", "task.train=99", "optimizer=muon"],
    ["model=logistic", "optimizer=adafactor", "+optimizer/clipping=global_norm"],
]
VALUES = [
    *("true", "false", "null", "abc", "''", "???", "${nope}", "${seed}", "{a:1}", "[]", "[1,2]"),
    *("[x]", "0", "-1", "1", "2", "3", "8", "3.5", "0.5", "-0.5", "1e-46", "1e39", "nan", "inf"),
    *("1000000000", "2147483648", "99999999999999999999", "1,2", "range(2)", "choice(1,2)", "é"),
]
MALFORMED = ["=3", "model.=3", "model.width=[", "model..width=3", "a.b.c=1", "+=1", "model.width"]
INTERNAL = re.compile(r"\b(?!ValueError|Lexer)[A-Z]\w*(Error|Exception): ")


def paths(config: DictConfig, at: str = "") -> Iterator[str]:
    for name in config:
        path = f"{at}{name}"
        yield path
        node = config._get_node(name)
        if isinstance(node, DictConfig) and not node._is_none():
            yield from paths(node, f"{path}.")


def drawn(number: int) -> list[str]:
    """The words of a command: a sound one and one or two words beside it."""
    draw = random.Random(number)
    base = draw.choice(BASES)
    with initialize_config_dir(str(CONF), **VERSION_BASE):
        known = [path for path in paths(compose("config", base)) if path != "cache"]
    words = []
    for _ in range(draw.choice([1, 1, 2])):
        path = draw.choice(known)
        path = draw.choice([path] * 6 + [f"{path}x", f"+{path}", f"++{path}", f"{path}.more"])
        word = f"{path}={draw.choice(VALUES)}"
        words.append(draw.choice([word] * 18 + [f"~{path}", draw.choice(MALFORMED)]))
    return [*base, *words]


@pytest.mark.parametrize(
    "number",  # one in forty is quick
    [pytest.param(n, marks=[pytest.mark.slow] * bool(n % 40)) for n in range(400)],
)
def test_words_drawn_at_random_compose_or_get_one_line(number, cache: Path):
    words = drawn(number)
    try:
        plan(*words, f"cache={cache}")
    except ValueError as error:
        said = str(error)
    else:
        return
    assert said, words
    assert "\n" not in said, words
    assert not INTERNAL.search(said), f"{' '.join(words)}: {said}"

"""Values that are none of the annotated type, or that train though they mean nothing: one line."""

from pathlib import Path

import pytest

from smallnets.sweep.plan import plan

WHOLE = [
    "steps=true",
    "batch_size=true",
    "evaluations=true",
    "model.width=true",
    "model.depth=true",
    "model.hidden=false",
    "family=low_rank model.linear.rank=true model.linear.ratio=null",
    "family=mixture model.mixture.experts=true",
    "model=transformer task=austen model.attention.head_dim=true",
    "task=sparse_parity task.bits=true",
    "seed=true",
    "steps=2147483648",
]
WRONG = [
    ("task.validation=false", "task.validation must be a finite number, but is False"),
    ("optimizer.weight_decay=true", "optimizer.weight_decay must be a number, but is True"),
    ("model=perceptron model.widths=8", "model.widths must be a list, each item a whole number"),
    ("model=perceptron model.widths=[8,x]", "model.widths must be a list, each item a whole"),
    ("family=mixture model.mixture.capacity_factor=nan", "a finite number or null, but is nan"),
    ("save=3", "save must be text, but is 3"),
    ("optimizer.learning_rate=-1", "optimizer.learning_rate must not be below 0, but is -1"),
    ("objective.label_smoothing=1.5", "label_smoothing must lie in [0, 1), but is 1.5"),
    ("optimizer.learning_rate=1e-46", "learning_rate must be 0 or from 1.2e-38 on"),
    ("optimizer.weight_decay=-0.1", "optimizer.weight_decay must not be below 0, but is -0.1"),
    ("family=mixture model.mixture.balance_weight=-1", "balance_weight must not be below 0"),
    ("optimizer=sgd optimizer.rule.momentum=-0.9", "momentum must be 0 or more, but is -0.9"),
    (
        "+optimizer/clipping=global_norm optimizer.clipping.max_norm=-1",
        "max_norm must be above 0, but is -1",
    ),
]


def refusal(words: str, cache: Path) -> str:
    with pytest.raises(ValueError) as raised:  # noqa: PT011  the callers match it
        plan(*words.split(), f"cache={cache}")
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.breadth
@pytest.mark.parametrize("words", WHOLE)
def test_what_is_no_whole_number_is_no_count(words, cache):
    key, _, value = words.split()[-1 if "rank" not in words else 1].partition("=")
    said = refusal(words, cache)
    assert said.startswith(f"{key} must be a whole number")
    assert value.title() in said


@pytest.mark.breadth
@pytest.mark.parametrize(("words", "said"), WRONG)
def test_what_would_train_and_mean_nothing_is_refused(words, said, cache):
    assert said in refusal(words, cache)


def test_no_cache_is_refused_before_anything_is_written(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="cache must be a folder, but is empty"):
        plan("cache=")
    assert not list(tmp_path.iterdir())

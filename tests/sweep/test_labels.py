"""What is one label is one network but for its sizes, however it was written, and the reverse."""

import contextlib
import itertools
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hydra.errors import HydraException

from smallnets.sweep import CONF
from smallnets.sweep.build import build
from smallnets.sweep.jobs import compose
from smallnets.sweep.labels import Labels
from smallnets.sweep.plan import Plan, plan
from smallnets.traced import calls, public_name
from smallnets.training import Trainer

NETWORKS = sorted(path.stem for path in (CONF / "model").glob("*.yaml"))
FAMILIES = sorted(path.stem for path in (CONF / "family").glob("*.yaml"))
OPTIONAL = ("mixture", "exits")  # groups of which no network has one by default
GROUPS = {  # of each group, how its files are chosen
    folder.name: [
        f"{'+' if folder.name in OPTIONAL else ''}model/{folder.name}={path.stem}"
        for path in sorted(folder.glob("*.yaml"))
    ]
    for folder in sorted((CONF / "model").iterdir())
    if folder.is_dir()
}
ALONE = [
    [],
    ["model.unique=1"],
    ["model.depth=4", "model.unique=1"],
    ["model.width=16", "model.hidden=3"],
    ["model.feed_forward.expansion=4"],
    ["model.linear.ratio=0.25", "family=low_rank"],
    ["model.linear.ratio=0.5", "family=low_rank"],
    ["+model.mixture=null"],
    ["model=perceptron", "model.widths=[8,9]"],
    ["model=perceptron", "model.widths=[8]"],
    ["model=perceptron", "model.widths=[]"],
    ["model=encoder", "model.causal=true"],
    ["model=transformer", "model.causal=false", "model.tied=false", "model.depth=2"],
    ["model=transformer", "model.attention.head_dim=4", "model.attention.rotary_base=null"],
    ["model=transformer", "+model.mixture.capacity_factor=1.25", "family=mixture"],
]
QUICK = [*ALONE[:7], *(["model=residual", f"family={family}"] for family in FAMILIES)]
WORDS = [
    *QUICK,
    *ALONE[7:],
    *([choice] for choices in GROUPS.values() for choice in choices),
    *([f"model={network}", f"family={family}"] for network in NETWORKS for family in FAMILIES),
    *(["model=convolutional", choice] for choice in GROUPS["convolution"]),
    *(["model=encoder", choices[0]] for choices in GROUPS.values()),
    *(["model=transformer", choices[0]] for choices in GROUPS.values()),
]


class Labelled(NamedTuple):
    words: str
    tree: partial[Trainer]
    family: str
    task: str


@pytest.fixture(scope="module")
def one(cache: Path) -> tuple[Plan, Labels]:
    """A plan, whose configs others are composed of, and labels that remember what they compared."""
    made = plan(f"cache={cache}")
    loader: Any = made.context.config_loader
    return made, Labels(loader)


def label(one: tuple[Plan, Labels], *words: str) -> Labelled:
    """The labels of a job of these words; raises where they build nothing."""
    made, labels = one
    (job,) = compose(made.context.config_loader, made.config, [words], [0])
    tree = build({**job.resolved, "task": {**job.resolved["task"], **_given(job.resolved["task"])}})
    return Labelled(" ".join(words), tree, labels.family(job, tree), labels.task(job, tree))


def _given(task: dict[str, Any]) -> dict[str, Any]:
    return {name: "somewhere" for name, value in task.items() if value == "???"}


@pytest.fixture(
    scope="module",
    params=[QUICK, pytest.param(WORDS, marks=pytest.mark.slow)],
    ids=["quick", "all"],
)
def labelled(one, request) -> list[Labelled]:
    """Of all combinations those that build."""
    found = []
    for words in request.param:
        with contextlib.suppress(ValueError, HydraException):  # a network has no place for a group
            found.append(label(one, *words))
    return found


def said_of(tree: partial[Trainer]) -> tuple[tuple[str, str], ...]:
    """All that a model's calls say, without its sizes: another way to the same than the label's."""
    said = {}
    for path, value in calls(tree.keywords["model"], "model"):
        *_, name = path.split(".")
        if name == "widths":
            said[path] = f"{len(value)} of them"
        elif name not in ("width", "hidden"):
            said[path] = public_name(value) if callable(value) else repr(value)
    return tuple(sorted(said.items()))


@pytest.mark.slow
def test_two_networks_that_differ_beyond_sizes_never_share_a_label(labelled):
    by_label = defaultdict(set)
    for each in labelled:
        by_label[each.family].add(said_of(each.tree))
    assert len(labelled) > 10
    assert not {name: said for name, said in by_label.items() if len(said) > 1}


@pytest.mark.slow
def test_the_same_calls_have_one_label_however_they_were_written(labelled):
    by_calls = defaultdict(set)
    for each in labelled:
        by_calls[said_of(each.tree)].add(each.family)
    assert not [names for names in by_calls.values() if len(names) > 1]


@pytest.mark.slow
def test_every_network_and_family_is_called_by_its_choices(labelled):
    found = {each.words: each.family for each in labelled}
    pairs = [
        (network, family)
        for network, family in itertools.product(NETWORKS, FAMILIES)
        if f"model={network} family={family}" in found
    ]
    assert {family for _, family in pairs} == set(FAMILIES)
    for network, family in pairs:
        name = "perceptron" if network == "lenet_300_100" else network  # its widths alone differ
        assert found[f"model={network} family={family}"] == f"{name} {family}"


@pytest.mark.breadth
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("family=mixture", "residual mixture"),
        ("+model/mixture=top_k", "residual mixture"),
        ("model/linear=low_rank", "residual low_rank"),
        ("family=low_rank model.linear.ratio=0.5", "residual low_rank linear.ratio=0.5"),
        ("family=low_rank ++model.width=8", "residual low_rank"),
        ("family=shared model.depth=6", "residual shared depth=6"),
        ("model=perceptron model.widths=[8,8]", "perceptron dense"),
        ("model=lenet_300_100", "perceptron dense"),
        ("model=lenet_300_100 family=low_rank", "perceptron low_rank"),
        ("model=perceptron model.widths=[]", "logistic dense"),
        ("model/linear=kronecker", "residual dense linear=Kronecker linear.blocks=2"),
        (
            "parametrization=maximal_update",
            "residual dense parametrization=maximal_update parametrization.base_fan_in=64",
        ),
    ],
)
def test_labels_by_example(one, words, expected):
    assert label(one, *words.split()).family == expected


@pytest.mark.slow
def test_a_model_of_ones_own_may_start_from_what_is_no_model(cache: Path, tmp_path: Path):
    """Of the defaults of its YAML the schema is passed over, and the network is the parent."""
    (tmp_path / "model").mkdir()
    (tmp_path / "schema.yaml").write_text("# @package model\nwidths: [8]\n")
    (tmp_path / "model" / "mine.yaml").write_text(
        "defaults:\n  - /schema\n  - /model/perceptron@_here_\n  - _self_\nwidths: [9, 9]\n"
    )
    (program,) = plan("model=mine", f"cache={cache}", config_dir=tmp_path).programs
    assert program.families == ["perceptron dense"]


@pytest.mark.slow
def test_a_task_is_its_choice_and_what_was_changed(one):
    plain, changed = label(one, "task=random_hierarchy"), label(one, "+experiment=known_asymptote")
    assert plain.task == "random_hierarchy"
    assert changed.task == "random_hierarchy rules=2 symbols=8"
    assert label(one, "task.validation=0").task == "mnist1d validation=0"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("task=fashion_mnist task.source=/a/b/idx", "fashion_mnist source=idx"),
        ("task=fashion_mnist task.source=/a/b/idx/", "fashion_mnist source=idx"),
        ("task=tfds task.directory=/a/b/name/1.0.0", "tfds directory=name/1.0.0"),
        ("task=images task.source=/a/b/x task.metrics=[auc]", "images source=x"),
        ("cache=/another", "mnist1d"),
        ("task.cache=/another", "mnist1d"),
    ],
)
def test_no_path_of_this_machine_stands_in_a_task(one, words, expected):
    assert label(one, *words.split()).task == expected


@pytest.mark.slow
def test_a_run_and_its_plan_say_the_same(cache: Path):
    """Also of numbers that a program holds in 32 bits, where 0.01 is another one."""
    words = ["family=mixture", "model.mixture.balance_weight=0.01,0.02", "model.width=8"]
    (program,) = plan(*words, f"cache={cache}").programs
    assert program.families == [
        "residual mixture",
        "residual mixture mixture.balance_weight=0.02",
    ]

"""A search: what it draws, what of that is the front, and the command to its answer."""

import json
from pathlib import Path

import pytest
from command import folders, smallnets

from smallnets import rows
from smallnets.sweep.search import FRESH, NAME, Trial, front
from smallnets.sweep.space import Interval, drawn, space

PARAMS = {"family": "dense,low_rank", "rate": "tag(log, interval(1e-3, 1e-1))", "depth": "2"}
ONLY = {"family=low_rank": {"ratio": "0.25,0.5", "depth": "4"}}


def test_draws_are_of_the_choices_and_of_what_comes_with_them():
    within, seeds = space(PARAMS, ONLY, ["width=8", "seed=range(2)"])
    assert seeds == ["0", "1"]
    assert within.always["rate"] == Interval(1e-3, 1e-1, log=True)
    found = drawn(within, networks=200, rates=3, seed=0)
    assert found == drawn(within, networks=200, rates=3, seed=0)
    assert found != drawn(within, networks=200, rates=3, seed=1)
    rates = []
    for network in found:
        assert len(network) == 3
        for words in network:
            said = dict(word.split("=") for word in words)
            rates.append(float(said.pop("rate")))
            assert said.pop("width") == "8"
            if said.pop("family") == "dense":
                assert said == {"depth": "2"}
            else:
                assert said.pop("ratio") in ("0.25", "0.5")
                assert said == {"depth": "4"}
        fixed = {tuple(word for word in words if "rate=" not in word) for words in network}
        assert len(fixed) == 1  # of one network the rate alone differs: one program
    assert 60 < sum("family=dense" in network[0] for network in found) < 140
    assert 1e-3 <= min(rates) < 1.2e-3
    assert 8e-2 < max(rates) <= 1e-1
    assert 0.4 < sum(rate < 1e-2 for rate in rates) / len(rates) < 0.6  # uniform in the logarithm


def test_what_is_said_takes_the_place_of_what_would_be_drawn():
    within, _ = space(PARAMS, ONLY, ["family=low_rank", "ratio=0.125", "rate=1e-2,2e-2"])
    assert within.always["family"] == ["family=low_rank"]
    assert "ratio" not in within.always
    assert within.only["family=low_rank"]["ratio"] == ["ratio=0.125"]
    assert within.always["rate"] == ["rate=0.01", "rate=0.02"]


@pytest.mark.parametrize(
    ("params", "arguments", "said"),
    [
        ({}, ["family=dense"], "draws from choices and intervals, but none is given"),
        (PARAMS, ["seed=interval(0, 9)"], "seeds are trained, not drawn"),
        (PARAMS, ["rate=tag(log, interval(0, 1))"], "with the tag log above 0"),
        (PARAMS, ["rate=interval(2, 1)"], "whose start lies below its end"),
    ],
)
def test_a_space_that_is_none_is_one_line(params: dict, arguments: list[str], said: str):
    with pytest.raises(ValueError, match=said):
        space(params, {}, arguments)


@pytest.mark.parametrize("counts", [{"networks": 0, "rates": 1}, {"networks": 2, "rates": True}])
def test_counts_are_at_least_one(counts: dict):
    with pytest.raises(ValueError, match="is a count of at least 1"):
        drawn(space(PARAMS, ONLY)[0], **counts, seed=0)


def test_a_cost_that_rows_have_not_is_one_line_before_anything_is_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "study"
    with pytest.raises(SystemExit):
        smallnets(
            "-m", "+experiment=search", "hydra.sweeper.search.costs=[joy]", f"hydra.sweep.dir={out}"
        )
    said = capsys.readouterr().err
    assert "search.costs names joy, but a network's counted costs are params," in said
    assert not out.exists()


class Point(Trial):
    """A trial whose score and FLOPs are its words."""

    @property
    def score(self) -> float:
        return float(self.words[0])

    @property
    def costs(self) -> dict[str, float]:
        return {"flops": float(self.words[1])}


def test_the_front_is_what_no_other_beats_in_both():
    points = ((0.5, 1), (0.4, 2), (0.4, 2), (0.45, 3), (0.3, 9), (float("inf"), 0), (0.6, 1))
    trials: list[Trial] = [Point([str(score), str(flops)], []) for score, flops in points]
    found = [trials.index(each) for each in front(trials, ["flops"])]
    assert found == [0, 1, 4]
    assert front(trials, []) == [trials[4]]


TINY = ["steps=10", "evaluations=1", "batch_size=16", "budget.params=600"]
SEARCH = ["networks=3", "rates=2", "fresh=2", "finalists=1"]


@pytest.mark.slow
def test_the_command_from_a_budget_to_the_answer(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = folders(cache, tmp_path / "study")
    options = [f"hydra.sweeper.search.{each}" for each in SEARCH]
    few = ["family=dense,low_rank", "model.linear.ratio=choice(0.25)", "model.depth=1"]
    words = ["-m", "+experiment=search", *few, *TINY, *options, *out]
    smallnets(*words, report=True)
    said = " ".join(capsys.readouterr().out.split())
    assert "Chosen by validation scores alone" in said
    record = json.loads((tmp_path / "study" / NAME).read_text())
    assert f"the answer: {record['command']}" in said
    assert record["search"]["draws"] == record["search"]["runs"] == 6
    assert record["fresh_seeds"]["runs"] == 2
    kept = {row.key: row for row in rows.load(tmp_path / "study")}
    tried = [row for row in kept.values() if row.seed < FRESH]
    assert record["search"]["joules"] == pytest.approx(sum(r.energy["joules"] for r in tried))
    assert all(row.parameters <= 600 for row in kept.values())
    (answer,) = [each for each in record["front"] if each["answer"]]
    assert answer["search_score"] == min(row.metrics["validation_error"] for row in tried)
    fresh = [kept[key] for key in answer["runs"]]
    assert [row.seed for row in fresh] == [FRESH, FRESH + 1]
    assert answer["test"] == [row.metrics["test_error"] for row in fresh]
    points = [(each["costs"]["flops"], each["search_score"]) for each in record["front"]]
    assert points == sorted(points, key=lambda point: (point[0], -point[1]))

    before = sorted(kept)
    smallnets(*words, report=True)  # the same command trains nothing anew
    assert sorted(row.key for row in rows.load(tmp_path / "study")) == before
    with pytest.raises(SystemExit):  # another would take the record's place
        smallnets(*words, "model.depth=2", report=True)
    assert "is of a search that was asked for otherwise" in capsys.readouterr().err
    assert json.loads((tmp_path / "study" / NAME).read_text()) == record


@pytest.mark.slow
def test_networks_that_no_budget_admits_are_passed_over_and_counted(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = folders(cache, tmp_path / "study")
    options = [
        *(f"hydra.sweeper.search.{each}=1" for each in ("rates", "fresh")),
        "hydra.sweeper.search.networks=8",
    ]
    words = ["family=dense", "model.depth=1,4_000", *TINY, *options, *out]
    smallnets("-m", "+experiment=search", *words, report=True)
    said = capsys.readouterr().out
    assert "of 8 networks can't be, and are passed over" in said
    assert all(row.config["model"]["depth"] == 1 for row in rows.load(tmp_path / "study"))

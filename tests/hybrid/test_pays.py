"""When a small model has paid: the ratio and its interval, whose joules count, and the command."""

import dataclasses
import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from command import TINY, folders
from command import smallnets as command

import smallnets
from smallnets import rows
from smallnets.analysis.break_even import (
    BUSY_CORE_WATTS,
    break_even,
    made_of,
    paid,
    training_flops,
)
from smallnets.hybrid.pays import main
from smallnets.measure.energy import BUSY_CORE
from smallnets.rows import Row

ROW = Row(
    family="dense",
    task="mnist1d",
    seed=0,
    parameters=10,
    status="finished",
    metrics={},
    curves={},
    seconds=1.0,
    compile_seconds=1.0,
    execution="map",
    members=1,
    device="cpu",
    commit="",
    costs={"flops": 100.0},
    config={"steps": 10, "batch_size": 4, "start": None, "teacher": None},
)


def row(key: str, joules: float | None, **said: Any) -> Row:
    energy = {"joules": joules, "source": "model", "covers": "busy cores"}
    return dataclasses.replace(ROW, key=key, energy=energy, **said)


def written(folder: Path, each: Row) -> Path:
    (folder / each.key).mkdir(parents=True)
    rows.write(each, folder / each.key)
    return folder / each.key


def test_the_number_of_answers_is_what_was_spent_over_what_an_answer_saves():
    found = break_even([30.0, 50.0], [[0.1] * 3, [0.3] * 3])
    assert found.answers == pytest.approx(40 / 0.2)
    assert (found.low, found.high) == pytest.approx((50 / 0.3, 30 / 0.1))  # the ends of two seeds
    assert found.never == 0
    assert str(break_even([30.0], [[0.1]])) == "after 300 answers"


def test_the_interval_is_that_of_a_mean_where_savings_are_equal():
    bills = np.random.default_rng(1).normal(100, 10, size=40)
    found = break_even(bills, np.full((40, 1), 2.0))
    half = 1.96 * bills.std() / math.sqrt(40) / 2
    assert found.low == pytest.approx(found.answers - half, rel=0.01)
    assert found.high == pytest.approx(found.answers + half, rel=0.01)


def test_the_rounds_of_a_measurement_count_for_one_seed():
    rounds = np.random.default_rng(1).normal(1, 0.2, size=(1, 25))
    found = break_even([10.0], rounds)
    assert found.low < found.answers < found.high < 15


def test_what_saves_nothing_never_pays_and_what_may_has_no_upper_end():
    never = break_even([5.0], [[-0.1, -0.1]])
    assert math.isinf(never.answers)
    assert str(never) == "never"
    open_ended = break_even([5.0, 5.0, 5.0], [[1.0], [1.0], [-0.4]])
    assert math.isinf(open_ended.high)
    assert 0.025 < open_ended.never < 0.5
    assert "without an upper end" in str(open_ended)
    assert "perhaps after" in str(break_even([5.0, 5.0, 5.0], [[0.4], [-1.0], [0.4]]))


def test_all_that_led_to_a_run_is_found_once(tmp_path: Path):
    written(tmp_path / "large", row("large", 8.0))
    for name in ("a", "b"):
        written(tmp_path / "teachers", row(name, 2.0))
    written(tmp_path / "chain", row("pass", 0.5, parent="large-last", route="factorise"))
    last = row("last", 1.0, parent="pass-last", teacher="a+b+large-ensemble", route="x")
    folder = written(tmp_path / "chain", last)
    assert made_of(last, folder).keys() == {"last", "pass", "large", "a", "b"}
    far = tmp_path / "far" / "away" / "c"
    written(far.parent, row("c", 1.0))
    taught = row(
        "taught", 1.0, teacher="c-last", config={"start": None, "distil": {"teacher": str(far)}}
    )
    assert made_of(taught, written(tmp_path / "chain", taught)).keys() == {"taught", "c"}
    lost = row("lost", 1.0, parent="gone-last")
    with pytest.raises(ValueError, match="made from the run gone, which is not there"):
        made_of(lost, written(tmp_path / "chain", lost))


def test_flops_of_training_are_three_forward_passes_of_each_example():
    assert training_flops(row("a", 1.0)) == 3 * 10 * 4 * 100
    assert training_flops(row("a", 1.0, config={"steps": 0, "batch_size": 4})) == 0
    assert math.isnan(training_flops(row("a", 1.0, costs={})))


def test_the_report_says_of_each_chain_when_it_has_paid():
    lines = []
    for seed in (0, 1):
        for name, before, joules, ms, parent_ms in (
            ("one", "root", 2.0, 0.5, 1.0),
            ("two", "one", 4.0, 0.4, 0.8),  # timed anew: half of its parent's time again
        ):
            lines.append(
                {
                    "family": f"dense > {name}",
                    "key": f"{name}{seed}",
                    "route": name,
                    "parent": f"{before}{seed}-last",
                    "energy.joules": joules,
                    "energy.source": "model",
                    "costs.latency_ms": ms,
                    "costs.parent_latency_ms": parent_ms,
                }
            )
    (said,) = paid(pl.DataFrame(lines))
    answers = 6 / (BUSY_CORE_WATTS * 1e-3 * (1 - 0.25))
    assert said.startswith("dense > two has paid for its compression")
    assert f"after {answers:,.0f} answers" in said
    assert BUSY_CORE.middle_watts == BUSY_CORE_WATTS
    metered = [{**line, "energy.source": "meter"} for line in lines]
    assert not paid(pl.DataFrame(metered))
    assert not paid(pl.DataFrame({"family": ["dense"]}))


@pytest.mark.slow
def test_the_page_of_a_folder_of_chains_holds_the_sentence(tmp_path: Path, capsys):
    for size, seed in itertools.product((100, 200, 400, 800), (0, 1, 2)):
        said = row(
            f"{size}-{seed}",
            1.0 + seed,
            parent="large-last",
            seed=seed,
            parameters=size,
            family="residual dense > units",
            route="units keep=0.5",
            metrics={"test_error": 0.1 + size**-0.5 + 1e-3 * seed, "validation_error": 0.2},
            costs={"latency_ms": 0.5, "parent_latency_ms": 1.5},
        )
        written(tmp_path, said)
    command("analyse", tmp_path)
    sentence = "has paid for its compression, in joules of a busy core (model)"
    assert sentence in capsys.readouterr().out
    assert sentence in (tmp_path / "report.html").read_text()


def test_what_is_wrong_is_one_line(tmp_path: Path):
    one, two = (written(tmp_path / "study", row(name, 1.0)) for name in ("one", "two"))
    other = written(tmp_path / "other", row("three", 1.0, seed=5))
    unknown = written(tmp_path / "unknown", row("four", None))
    for small, large, said in (
        (one, one, "is named as both"),
        (tmp_path / "study", one, "must hold one run for each seed, but for seed=0"),
        (tmp_path / "nowhere", one, "holds no run"),
        (unknown, two, "joules of the run four's training are not known"),
    ):
        with pytest.raises(ValueError, match=said):
            main([str(small), str(large)])
    rows.write(dataclasses.replace(rows.read(two), seed=9), two)
    with pytest.raises(ValueError, match="of the large ones none has seed=5"):
        main([str(other), str(tmp_path / "study")])
    with pytest.raises(ValueError, match="--price is a number of at least 0"):
        main([str(one), str(other), "--price", "-1"])


@pytest.mark.slow
def test_the_command_from_two_runs_to_the_sentence(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    def trained(name: str, *words: str) -> Path:
        out = tmp_path / name
        smallnets.train(smallnets.plan("seed=0,1", *words, *TINY, *folders(cache, out)))
        return out

    large = trained("large", "model.width=256", "model.depth=4")
    chain = ["compress=[units,finetune]", "compress.units.keep=0.05", "calibration=64"]
    small = trained("small", f"start={large}", *chain)
    capsys.readouterr()
    command("pays", small, large, "--price", ".3", "--carbon", "400")
    said = capsys.readouterr().out
    assert said.count("where the large one is trained anyway") == 2
    assert "in money" in said
    assert "g of CO2" in said
    assert "in the numbers of answers it cancels" in said
    command("pays", small, large, "--json")
    found = json.loads(capsys.readouterr().out)
    bills = found["bills_joules"]
    joules = {key: r.energy["joules"] for place in (small, large) for key, r in keyed(place)}
    assert bills["alone"] == pytest.approx(sum(joules.values()) / 2)
    assert bills["beside"] == pytest.approx(sum(joules[key] for key, _ in keyed(small)) / 2)
    for each in found["answers"]:
        saved = each["large_joules"] - each["small_joules"]
        assert each["small_joules"] > 0
        if saved > 0:
            assert each["alone"]["answers"] > each["beside"]["answers"]
    many = found["answers"][1]  # of 19 times fewer hidden units and many examples: well apart
    assert many["beside"]["answers"] < math.inf


def keyed(folder: Path) -> list[tuple[str, Row]]:
    return [(each.key, each) for each in rows.load(folder)]

"""A chain of passes as a line from the trained run to the last stage, by the command's report."""

import base64
import gzip
import json
import re
from itertools import accumulate
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from smallnets.analysis.command import main
from smallnets.analysis.paths import stages
from smallnets.analysis.study import analyse
from smallnets.analysis.table import from_rows
from smallnets.rows import Row, write

SEEDS = range(3)
# stage: bytes of its file, its error, its milliseconds over those of the stage before
STAGES = {
    "factorise ratio=0.5": (50_000, 0.34, 0.8),
    "factorise ratio=0.25": (26_000, 0.42, 0.6),
    "finetune": (50_000, 0.28, 1.0),
    "quantise": (9_000, 0.29, 1.5),
    "quantise code=ternary": (6_000, 0.40, 2.0),
}
CHAINS = (
    ("factorise ratio=0.5", "finetune", "quantise"),
    ("factorise ratio=0.5", "finetune", "quantise code=ternary"),
    ("factorise ratio=0.25",),
)


def written(place: Path, key: str, **values) -> None:
    folder = place / key
    folder.mkdir(parents=True, exist_ok=True)
    common = {
        "task": "mnist1d", "parameters": 20_000, "status": "finished", "curves": {}, "seconds": 1.0,
        "compile_seconds": 1.0, "execution": "map", "members": 1, "device": "cpu", "commit": "1",
    }  # fmt: skip
    write(Row(**{**common, **values, "key": key}), folder)


@pytest.fixture
def chains(tmp_path: Path) -> Path:
    """A study of chains; the runs that they began with lie in another."""
    study, before = tmp_path / "chains", tmp_path / "before"
    for seed in SEEDS:
        root = f"root{seed}"
        written(
            before, root, family="residual dense", seed=seed, metrics={"test_error": 0.25},
            costs={"file_bytes": 100_000}, config={"start": None},
        )  # fmt: skip
        for chain in CHAINS:
            parent, start = root, str(before / root)
            for route in accumulate(chain, lambda one, other: f"{one} > {other}"):
                stage = route.rpartition(" > ")[2]
                size, error, ratio = STAGES[stage]
                drift = 1 + seed  # of the machine: what is taken at another hour takes longer
                labels = [word.replace(" ratio=0.5", "") for word in route.split(" > ")]
                written(
                    study, f"{route} {seed}", family=" > ".join(["residual dense", *labels]),
                    seed=seed, parent=f"{parent}-last", route=route, config={"start": start},
                    metrics={"test_error": error + 0.01 * seed},
                    costs={"file_bytes": size, "latency_ms": ratio * drift,
                           "parent_latency_ms": float(drift)},
                )  # fmt: skip
                parent, start = f"{route} {seed}", str(study / f"{route} {seed}")
    return study


@pytest.mark.slow
def test_the_report_draws_each_chain_from_what_it_began_with(chains: Path):
    main([str(chains)])
    html = (chains / "report.html").read_text()
    assert "path.pdf" in html
    packed = re.search(r'id="figures">([^<]*)<', html)
    assert packed
    figures = json.loads(gzip.decompress(base64.b64decode(packed[1])))["figures"]
    drawn = [layer for panel in figures["path"]["panels"] for layer in panel["layer"]]
    lines = [each["data"]["values"] for each in drawn if each["mark"]["type"] == "line"]
    over_bytes, over_time = lines
    best = [line for line in over_bytes if line["family"].endswith("finetune > quantise")]
    assert [line["stage"].split()[0] for line in sorted(best, key=lambda line: line["place"])] == [
        "start",
        "factorise",
        "finetune",
        "quantise",
    ]
    assert [line["x"] for line in best] == [100_000, 50_000, 50_000, 9_000]
    first = 2.0  # the median of the parents', and each stage by its ratio
    times = [line["x"] for line in over_time if line["family"] == best[0]["family"]]
    np.testing.assert_allclose(times, np.array([1, 0.8, 0.8, 1.2]) * first)
    words = [each["data"]["values"] for each in drawn if each["mark"]["type"] == "text"]
    assert {line["stage"] for line in words[0]} == {"start", "factorise", "finetune", "quantise"}
    assert (chains / "path.png").stat().st_size > 10_000


def test_stages_say_how_much_less_and_what_it_costs_in_pairs(chains: Path):
    found = stages(analyse(from_rows(chains)))
    assert found["chain"].n_unique() == 3
    last = found.filter(pl.col("stage") == "quantise").row(0, named=True)
    assert (last["bytes"], last["runs"], last["place"]) == (9_000, 3, 3)
    assert last["difference"] == pytest.approx(0.05)
    half = 4.3027 * 0.01 / np.sqrt(3)  # Student's t of two degrees of freedom
    assert (last["low"], last["high"]) == pytest.approx((0.05 - half, 0.05 + half), rel=1e-4)
    assert found["chain"][0].endswith("quantise")  # the best end is named first


@pytest.mark.slow  # two reports
def test_bytes_and_milliseconds_are_axes_of_fronts(chains: Path, capsys):
    for axis, best in (("costs.file_bytes", 6_000), ("costs.latency_ms", 1.2)):
        main([str(chains), "--cost", axis])
        table = json.loads((chains / "analysis.json").read_text())
        assert table["columns"]["size"] == axis
        front = [each["cost"] for each in table["pareto"] if each["front"]]
        assert min(front) == pytest.approx(best), axis
    said = " ".join(capsys.readouterr().out.split())
    assert (
        "finetune > quantise: 11.11 times fewer bytes on disk, 1.2 times the milliseconds" in said
    )
    assert "Each family has a single size" in said


def test_without_the_runs_that_it_began_with_a_path_begins_at_its_first_stage(chains: Path):
    for place in (chains.parent / "before").glob("*"):
        (place / "row.json").unlink()
    found = stages(analyse(from_rows(chains)))
    assert found["place"].min() == 1
    assert found["difference"].null_count() == len(found)

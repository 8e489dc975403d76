"""Files as people have them: each is read as it was meant, or refused by naming the cell."""

import gzip
import json

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smallnets.analysis import analyse, read
from smallnets.analysis.table import numbers

RUNS = [
    {"params": n, "loss": round(3.0 * n**-0.2 + 0.001 * seed, 6), "family": name, "seed": seed}
    for name in ("mlp", "cnn")
    for n in (1000, 4000, 16000, 64000)
    for seed in (0, 1)
]
HEAD = "params,loss,family,seed"
LINES = [",".join(map(str, run.values())) for run in RUNS]


def text(*lines: str, head: str = HEAD) -> bytes:
    return "\n".join([head, *lines, ""]).encode()


def changed(place: int, line: str, head: str = HEAD) -> bytes:
    return text(*LINES[:place], line, *LINES[place + 1 :], head=head)


def jsonl(runs: list[dict]) -> bytes:
    return "\n".join(map(json.dumps, runs)).encode()


def with_sizes(sizes: list[str]) -> bytes:
    return text(*(f"{n},{line.split(',', 1)[1]}" for n, line in zip(sizes, LINES, strict=True)))


SHORT = [f"{run['params'] / 1000:g}K" for run in RUNS]
LATE = [f"{run['params']}.5" if i == 15 else str(run["params"]) for i, run in enumerate(RUNS)]
HUGE = [str(run["params"] * 10**16) for run in RUNS]
READ = {  # name of the file, its bytes, the first size
    "plain.csv": (text(*LINES), 1000),
    "packed.csv.gz": (gzip.compress(text(*LINES), mtime=0), 1000),
    "tabs.tsv": (text(*LINES).replace(b",", b"\t"), 1000),
    "semicolons.csv": (text(*LINES).replace(b",", b";"), 1000),
    "bars.txt": (text(*LINES).replace(b",", b"|"), 1000),
    "mark.csv": (b"\xef\xbb\xbf" + text(*LINES), 1000),
    "utf16.csv": (text(*LINES).decode().encode("utf-16"), 1000),
    "windows.csv": (text(*LINES).replace(b"\n", b"\r\n"), 1000),
    "old_mac.csv": (text(*LINES).replace(b"\n", b"\r"), 1000),
    "blank_lines.csv": (text(*LINES).replace(b"\n", b"\n\n"), 1000),
    "spaces.csv": (text(*LINES).replace(b",", b" , "), 1000),
    "lines.jsonl": (jsonl(RUNS), 1000),
    "lines.jsonl.gz": (gzip.compress(jsonl(RUNS), mtime=0), 1000),
    "suffixes.csv": (with_sizes(SHORT), 1000),
    "billions.csv": (with_sizes([f"{run['params'] / 1000:g}B" for run in RUNS]), 1e9),
    "thousands.csv": (with_sizes([f'"{run["params"]:,}.50"' for run in RUNS]), 1000.5),
    "late_decimal.csv": (with_sizes(LATE), 1000),
    "beyond_int64.csv": (with_sizes(HUGE), 1e19),
    "beyond_int64.jsonl": (jsonl([run | {"params": run["params"] * 10**16} for run in RUNS]), 1e19),
    "no_family.csv": (
        text(*(f"{i},{line.rsplit(',', 2)[0]}" for i, line in enumerate(LINES)),
             head="seed,params,loss"), 1000),
    "no_seed.csv": (text(*(line.rsplit(",", 1)[0] for line in LINES), head=HEAD[:-5]), 1000),
    "numeric_task.csv": (text(*(f"{line},7" for line in LINES), head=f"{HEAD},task"), 1000),
    "numeric_status.csv": (text(*(f"{line},0" for line in LINES), head=f"{HEAD},status"), 1000),
    "missing_score.csv": (changed(15, "64000,,cnn,1"), 1000),
    "na_score.csv": (changed(15, "64000,N/A,cnn,1"), 1000),
    "numbered_families.csv": (text(*LINES).replace(b"mlp", b"10").replace(b"cnn", b"9"), 1000),
}  # fmt: skip
REFUSED = {
    "word.csv": (changed(2, "many,0.5,mlp,0"), r"row 3, column params: 'many' is no number"),
    "percent.csv": (changed(4, "16000,12 %,mlp,0"), r"row 5, column loss: '12 %' is no number"),
    "either.csv": (changed(0, '"1,014",0.7,mlp,0'), r"row 1, column params: '1,014' is 1014 or"),
    "no_size.csv": (changed(3, ",0.5,mlp,1"), "params is missing in 1 of 16 runs: .* row 4"),
    "ragged.csv": (changed(5, "16000,0.4,mlp"), "line 7 of ragged.csv has 3 cells, the header 4"),
    "latin.csv": (text(*LINES).replace(b"cnn", b"caf\xe9"), "line 10 of .*latin.csv is not UTF-8"),
    "half.csv": (text(*LINES).decode().encode("utf-16")[:-1], "half.csv is not UTF-16"),
    "twice.csv": (text(*LINES, head="params,loss,loss,seed"), "several columns named loss"),
    "broken.jsonl": (jsonl(RUNS)[:-5], "line 16 of broken.jsonl is no JSON object"),
    "misspelt.csv": (text(*LINES, head="param,loss,family,seed"), "no column params: is param"),
    "cut.csv.gz": (gzip.compress(text(*LINES), mtime=0)[:60], "can't be unpacked"),
    "header.csv": (text(), "holds no runs"),
    "empty.csv": (b"", "holds no runs"),
    "picture.png": (b"\x89PNG", "only folders of rows, .csv"),
}


@pytest.mark.parametrize("name", READ)
def test_a_file_is_read_as_it_was_meant(tmp_path, name):
    content, smallest = READ[name]
    (tmp_path / name).write_bytes(content)
    study = analyse(read(tmp_path / name), size="params", score="loss")
    whole = np.asarray(study.runs["params"], float)
    assert whole.min() == pytest.approx(smallest, rel=1e-12)
    assert len(study.runs) == (15 if "score" in name else 16)
    assert len(study.curves) == (1 if name == "no_family.csv" else 2)
    assert [curve.choice is not None for curve in study.curves] == [True] * len(study.curves)
    said = {"missing_score.csv": "row 16", "na_score.csv": "row 16",
            "no_family.csv": "one family", "no_seed.csv": "run of its own"}  # fmt: skip
    assert said.get(name, "") in " ".join(study.notes)
    if name == "numbered_families.csv":
        assert [curve.family for curve in study.curves] == ["9", "10"]


@pytest.mark.parametrize("name", REFUSED)
def test_or_it_is_refused_by_naming_the_cell(tmp_path, name):
    content, message = REFUSED[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        analyse(read(tmp_path / name), size="params", score="loss")
    assert "\n" not in str(caught.value)


@given(st.integers(1, 10**15), st.sampled_from(["{:d}", "{:,d}.0", "{:e}", " {:d} ", "{:d}."]))
def test_a_number_is_the_same_however_it_is_written(value, form):
    cell = form.format(value)
    found = numbers(pl.Series("size", [cell]), pl.Series([1]))
    assert found[0] == pytest.approx(value, rel=1e-6)


def test_types_come_from_the_whole_file(tmp_path):
    lines = [f"{i},{i}" for i in range(300)] + ["300,x"]
    (tmp_path / "late.csv").write_text("\n".join(["a,b", *lines]))
    table = read(tmp_path / "late.csv")
    assert table.schema == {"a": pl.Int64, "b": pl.String}


@pytest.mark.parametrize("kind", ["polars", "lazy", "pandas"])
def test_frames_of_polars_and_pandas_are_analysed(kind):
    table = pl.DataFrame(RUNS)
    if kind == "pandas":
        frame = pytest.importorskip("pandas").DataFrame(RUNS)
    else:
        frame = table.lazy() if kind == "lazy" else table
    study = analyse(frame, size="params", score="loss")
    assert [curve.family for curve in study.curves] == ["cnn", "mlp"]
    assert study.runs.select(table.columns).equals(table.sort("family", "params", "seed"))
    with pytest.raises(ValueError, match="a table is a polars or pandas frame, not dict"):
        analyse({}, size="params", score="loss")


def test_a_condition_keeps_a_part_and_a_wrong_one_is_said():
    table = pl.DataFrame(RUNS)
    study = analyse(table, size="params", score="loss", where="params > 1000 and family = 'cnn'")
    assert len(study.runs) == 6
    for condition, message in (
        ("width > 3", "width"), ("params >", "can't be applied"), ("params < 0", "no run fulfils"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            analyse(table, size="params", score="loss", where=condition)


def test_a_misspelt_setting_and_an_empty_cost_are_said():
    table = pl.DataFrame(RUNS).with_columns(
        ms=pl.when(pl.int_range(16) == 2).then(None).otherwise(pl.col("params") * 2.0)
    )
    with pytest.raises(ValueError, match="no column sed: is seeds meant"):
        analyse(table.rename({"seed": "seeds"}), size="params", score="loss", seed="sed")
    with pytest.raises(ValueError, match="no column mss: is ms meant"):
        analyse(table, size="params", score="loss", setting="mss")
    study = analyse(table, size="params", score="loss", cost="ms")
    assert any("without ms" in note and "row 3" in note for note in study.notes)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"task": "x"}, "no column task"),
        ({"validation": "los"}, "no column los: is loss meant"),
        ({"seed": "params"}, "column params can't be size and seed at once"),
        ({"score": "params"}, "column params can't be size and score at once"),
        ({"cost": "loss"}, "column loss can't be score and cost at once"),
        ({"where": ""}, "the condition '' can't be applied"),
        ({"where": "parms > 1"}, "no column parms: is params meant\\? there are params, loss, "),
    ],
)
def test_a_column_that_is_not_there_or_is_two_things_is_said(words, message):
    with pytest.raises(ValueError, match=message) as caught:
        analyse(pl.DataFrame(RUNS), **{"size": "params", "score": "loss"} | words)
    assert len(str(caught.value)) < 200


def test_tasks_may_be_the_families():
    table = pl.DataFrame(RUNS).rename({"family": "task"})
    study = analyse(table, size="params", score="loss", family="task")
    assert [curve.family for curve in study.curves] == ["cnn", "mlp"]

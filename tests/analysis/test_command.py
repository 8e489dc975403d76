import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from command import smallnets

from smallnets import rows


def runs(**change) -> pl.DataFrame:
    lines = [
        {"arch": arch, "params": n, "seed": seed, "loss": 0.5 + scale * n**-0.3 + 0.01 * seed}
        for arch, scale in (("mlp", 3.0), ("cnn", 2.0))
        for n in (10, 30, 100, 300, 1000)
        for seed in (0, 1, 2)
    ]
    return pl.DataFrame(lines).with_columns(**change)


@pytest.fixture
def call(capsys):
    def run(*arguments: object) -> tuple[int, str, str]:
        try:
            smallnets("analyse", *arguments)
            status = 0
        except SystemExit as exit_:
            status = exit_.code if isinstance(exit_.code, int) else 1
        out, err = capsys.readouterr()
        return status, out, err

    return run


NAMES = ("--size", "params", "--score", "loss", "--family", "arch", "--seed", "seed")


@pytest.mark.slow
def test_rows_of_ours_need_no_option(write_study, call):
    folder = write_study(sizes=4, seeds=1)
    status, out, _ = call(folder)
    assert status == 0
    assert out.rstrip().endswith("report.html")
    assert (folder / "curves.pdf").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss": pl.lit(None, dtype=pl.Float64)}, "missing"),
        ({"loss": -pl.col("loss")}, "negative"),
        ({"loss": pl.lit(float("inf"))}, "infinite"),
        ({"seed": pl.lit(0)}, "share their"),
        ({"params": pl.lit(10), "seed": pl.int_range(30)}, "single params"),
    ],
)
def test_bad_data_end_in_one_line_status_two_and_no_file(tmp_path, call, change, message):
    runs(**change).write_parquet(tmp_path / "runs.parquet")
    status, out, err = call(tmp_path / "runs.parquet", *NAMES)
    assert status == 2
    assert out == ""
    assert err.startswith("smallnets: ")
    assert message in err
    assert err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["runs.parquet"]


def test_an_output_that_cannot_be_written_ends_in_one_line(tmp_path, call):
    runs().write_csv(tmp_path / "runs.csv")
    (tmp_path / "file").write_text("")
    status, _, err = call(tmp_path / "runs.csv", *NAMES, "--out", tmp_path / "file")
    assert status == 2
    assert err.count("\n") == 1


@pytest.fixture
def file(tmp_path):
    random = np.random.default_rng(0)
    table = runs().with_columns(loss=pl.col("loss") * np.exp(0.02 * random.standard_normal(30)))
    table.write_csv(tmp_path / "runs.csv")
    return tmp_path / "runs.csv"


@pytest.mark.parametrize(
    ("words", "texts"),
    [
        (
            ("--predict", ".1M", "--holdout", "2"),
            ("mlp at 100000: 0.", "of the mean", "of one run"),
        ),
        (("--law", "power"), ("A N^-alpha",)),
        (("--pin", "E=0.5"), ("0.5 + A N^-alpha",)),
        (("--at", "1.2"), ("at loss 1.2", "by interpolation")),
        (("--weights", "params"), ("E + A N^-alpha",)),
        (("--next", "cnn vs mlp at loss 1.2 by 2"), ("To show cnn needing 2 times less", "power")),
        (("--law", "none"), ("report: ",)),
    ],
)
def test_each_option_has_its_line(file, call, words, texts, monkeypatch):
    monkeypatch.setattr("smallnets.analysis.report.write", lambda *_, **__: "nowhere")
    status, out, err = call(file, *NAMES, *words)
    assert (status, err) == (0, "")
    flat = " ".join(out.split())
    for text in texts:
        assert text in flat


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--pin", "E"), "--pin takes a parameter and a number"),
        (("--pin", "A=1"), "can't be pinned"),
        (("--predict", "big"), "--predict takes a size"),
        (("--predict", "-1"), "positive number"),
        (("--pin", "E=.1", "--pin", "E=.2"), "E is pinned twice"),
        (("--at", "0"), "at a positive score"),
        (("--level", "high"), "argument --level: invalid float value"),
        (("--levels", "0.9"), "unrecognized arguments: --levels 0.9; smallnets analyse --help"),
        (("--next", "who wins"), "--next takes a question"),
        (("--next", "cnn vs rnn at loss 1.2 by 2"), "no law of a family rnn"),
        (("--next", "cnn vs mlp at loss 9 by 2"), "extrapolated"),
        (("--holdout", "0"), "one size or more"),
        (("--setting", "rate"), "no column rate"),
        (("--weights", "none"), "no column none"),
        (("--law", "size-and-data"), "name its column with --data"),
        (("--law", "power", "--data", "params"), "leave --data out"),
    ],
)
def test_a_mistake_in_an_option_is_one_line(file, call, words, message, monkeypatch):
    monkeypatch.setattr("smallnets.analysis.report.write", None)  # nothing is written
    status, out, err = call(file, *NAMES, *words)
    assert (status, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.slow
def test_an_incomplete_sweep_is_refused_and_analysed_when_asked(write_study, call):
    folder = write_study(sizes=5, seeds=2, rates=(3e-3,))
    done = sorted(path.parent.name for path in folder.rglob("row.json"))
    for key in done:
        rows.write(replace(rows.read(folder / key), key=key), folder / key)
    plan = [{"number": i, "key": key, "words": [key]} for i, key in enumerate(done)]
    (folder / "jobs.jsonl").write_text("\n".join(map(json.dumps, plan)))
    assert call(folder)[0] == 0
    (folder / done[0] / "row.json").unlink()
    row = rows.read(folder / done[1])
    rows.write(replace(row, status="failed", error="KeyError: 'x'"), folder / done[1])
    before = (folder / "analysis.json").read_bytes()
    status, out, err = call(folder)
    assert (status, out) == (2, "")
    assert "of the 20 runs" in err
    assert "1 is missing and 1 failed (the first by KeyError: 'x')" in err
    assert "--partial" in err
    assert err.count("\n") == 1
    assert (folder / "analysis.json").read_bytes() == before
    status, out, err = call(folder, "--partial")
    assert (status, err) == (0, "")
    said = "Not complete: of the 20 runs"
    assert said in out
    assert said in json.loads((folder / "analysis.json").read_text())["notes"][0]


def test_anyones_file_gives_the_answer_the_warnings_and_a_report(tmp_path, call):
    table = runs(
        arch=pl.when(pl.col("arch") == "mlp").then(pl.lit("[red]mlp[/red]")).otherwise("arch")
    )
    table.write_csv(tmp_path / "runs.csv")
    status, out, err = call(tmp_path / "runs.csv", *NAMES, "--where", "seed < 2", "--level", "0.9")
    assert (status, err) == (0, "")
    assert "E + A N^-alpha" in out
    assert (tmp_path / "runs-report" / "report.html").stat().st_size > 3e5
    assert "For the same loss, cnn needs" in out
    assert "Best run, by loss: cnn with 1,000 params, seed 0: loss 0." in out
    assert "[red]mlp[/red]" in out
    assert "90% interval" in out
    assert "hold-out" in out
    assert "other laws" in out
    found = json.loads((tmp_path / "runs-report" / "analysis.json").read_text())
    assert found["runs"] == 2 * 5 * 2


def test_of_many_families_without_a_multiplier_some_are_printed(tmp_path, call, monkeypatch):
    monkeypatch.setattr("smallnets.analysis.report.write", lambda *_, **__: "nowhere")
    scale = pl.col("arch").str.slice(1).cast(pl.Float64)
    many = pl.concat(runs(arch=pl.lit(f"f{i}")) for i in range(9)).unique(
        ["arch", "params", "seed"]
    )
    many.with_columns(loss=pl.col("loss") * 9**scale).write_csv(tmp_path / "runs.csv")
    status, out, _ = call(tmp_path / "runs.csv", *NAMES)
    assert status == 0
    assert out.count("no multiplier of") == 5
    assert "3 other families have none either" in out


@pytest.mark.slow
def test_what_is_piped_is_not_wrapped_and_head_ends_it_silently(tmp_path):
    runs(arch=pl.col("arch") + pl.lit("-with-a-long-name" * 12)).write_csv(tmp_path / "runs.csv")
    words = [sys.executable, "-m", "smallnets", "analyse", str(tmp_path / "runs.csv"), *NAMES]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as done:
        assert done.stdout is not None
        assert done.stderr is not None
        first = done.stdout.readline()
        done.stdout.close()  # as head does
        assert done.stderr.read() == ""
    assert done.returncode in (0, 1)
    assert len(first) > 250
    assert (tmp_path / "runs-report" / "report.html").exists()

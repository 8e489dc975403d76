"""Rows that are damaged in every way: named, counted, passed over; and rows of a later version."""

import errno
import json
import os
import warnings
from pathlib import Path

import pytest
from command import smallnets

from smallnets import rows
from smallnets.analysis.table import from_rows

ROW = {
    "family": "dense",
    "task": "toy",
    "seed": 0,
    "parameters": 1000,
    "status": "finished",
    "metrics": {"validation_error": 0.5, "test_error": 0.5},
    "curves": {"step": [1.0], "test_error": [0.5]},
    "seconds": 1.0,
    "compile_seconds": 0.5,
    "execution": "map",
    "members": 1,
    "device": "cpu",
    "commit": "abc",
    "versions": {"jax": "0"},
    "config": {"optimizer": {"learning_rate": 0.01}},
    "costs": {"params": 1000, "flops": 2000.0},
    "energy": {"joules": None, "source": None},
}
OTHER = [None, True, [], {}, "text", 1.5, 10**30, [None], {"a": [1]}, {"a": "text"}]


def whole() -> dict:
    return json.loads(json.dumps(ROW))


def damages() -> dict[str, bytes]:
    """Contents of files that are no rows, by the damage."""
    text = json.dumps(ROW)
    found = {
        "empty": b"",
        "binary": bytes(range(256)),
        "null": b"null",
        "a list": b"[]",
        "a number": b"1",
        "nested too deeply": b"[" * 100_000,
        "cut": text[: len(text) // 2].encode(),
        "cut by one": text[:-1].encode(),
        "two": (text + text).encode(),
        "a metric like a field": json.dumps({**ROW, "metrics": {"seed": 1.0}}).encode(),
        "seed nan": text.replace('"seed": 0', '"seed": NaN').encode(),
    }
    for name in ROW:
        fewer = {other: value for other, value in ROW.items() if other != name}
        if name not in ("versions", "config", "costs", "energy"):
            found[f"{name} missing"] = json.dumps(fewer).encode()
        for value in OTHER:
            changed = {**ROW, name: value}
            found[f"{name}={value}"] = json.dumps(changed).encode()
    return found


def written(folder: Path, content: bytes, name: str) -> Path:
    (folder / name).mkdir(parents=True)
    (folder / name / rows.NAME).write_bytes(content)
    return folder / name


def refusal(run: Path) -> str:
    try:
        rows.read(run)
    except ValueError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("kind", damages())
def test_a_row_is_sound_or_named(kind, tmp_path: Path):
    """Nothing but ValueError, of one line with the path; and what is taken can be tabled."""
    run = written(tmp_path, damages()[kind], "run")
    written(tmp_path, json.dumps(ROW).encode(), "sound")
    said = refusal(run)
    if not said:
        assert len(from_rows(tmp_path)) == 2
        return
    assert str(run / rows.NAME) in said
    assert "\n" not in said
    with pytest.warns(rows.DamagedRow, match=r"1 of 2 rows are damaged .*run/row\.json"):
        assert len(from_rows(tmp_path)) == 1


def test_of_other_types_only_what_a_field_allows_is_sound(tmp_path: Path):
    taken = set()
    for kind, content in damages().items():
        if not refusal(written(tmp_path, content, f"run{len(list(tmp_path.iterdir()))}")):
            taken.add(kind)
    numbers = {"seconds=1.5", "compile_seconds=1.5"}
    texts = {
        f"{name}=text" for name in ("family", "task", "status", "execution", "device", "commit")
    }
    nothing = {
        f"{name}={{}}" for name in ("metrics", "curves", "versions", "config", "costs", "energy")
    }
    free = {
        f"{name}={{'a': {value}}}" for name in ("config", "energy") for value in ([1], "'text'")
    }
    assert taken == numbers | texts | nothing | free | {
        "curves={'a': [1]}",
        "versions={'a': 'text'}",
    }


def test_a_folder_in_a_row_s_place_and_a_file_that_is_not_there(tmp_path: Path):
    (tmp_path / "run" / rows.NAME).mkdir(parents=True)
    for name in ("run", "absent"):
        with pytest.raises(ValueError, match=f"{name}/row.json can't be read"):
            rows.read(tmp_path / name)


def test_a_row_of_a_later_version_is_read(tmp_path: Path):
    row = rows.read(written(tmp_path, json.dumps({**ROW, "later": [1]}).encode(), "run"))
    assert (row.family, row.key) == ("dense", "")
    assert not hasattr(row, "later")


@pytest.mark.slow
def test_analyse_passes_over_damaged_rows_and_says_so(tmp_path: Path, capfd):
    for seed in range(2):
        for size in (1000, 2000, 4000):
            row = {**whole(), "seed": seed, "parameters": size, "family": "[/x]:smile:$a^$b"}
            row["metrics"] = {"validation_error": 100 / size, "test_error": 100 / size}
            written(tmp_path, json.dumps(row).encode(), f"{seed}-{size}")
    for name in ("cut", "binary"):
        written(tmp_path, damages()[name], name)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        smallnets("analyse", tmp_path)
    captured = capfd.readouterr()
    (line,) = captured.err.splitlines()
    assert line.startswith("smallnets: warning: 2 of 8 rows are damaged and passed over")
    assert str(tmp_path / "binary" / "row.json") in line
    assert "[/x]:smile:$a^$b" in captured.out
    assert (tmp_path / "report.html").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".html", ".pdf"])
def test_a_disk_that_fills_during_the_report_is_one_line_of_its_own_status(
    suffix, tmp_path: Path, capfd, monkeypatch
):
    for size in (1000, 2000, 4000):
        row = {**whole(), "parameters": size}
        row["metrics"] = {"validation_error": 100 / size, "test_error": 100 / size}
        written(tmp_path, json.dumps(row).encode(), str(size))
    before = {*tmp_path.rglob("*")}
    replace = os.replace

    def full(draft: Path, path: Path) -> None:
        if Path(path).suffix == suffix:
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(draft, path)

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(SystemExit) as ended:
        smallnets("analyse", tmp_path)
    assert ended.value.code == 74
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("smallnets: the disk is full")
    left = {path.name for path in {*tmp_path.rglob("*")} - before}
    assert not any(name.startswith(".") for name in left)
    assert not {f"report{suffix}", f"curves{suffix}"} & left


def test_where_all_runs_diverged_the_report_says_so(tmp_path: Path, capfd):
    for size in (1000, 2000):
        row = {**whole(), "parameters": size, "status": "diverged"}
        row["metrics"] = {"validation_error": None, "test_error": None}
        written(tmp_path, json.dumps(row).encode(), str(size))
    with pytest.raises(SystemExit):
        smallnets("analyse", tmp_path)
    (line,) = capfd.readouterr().err.splitlines()
    assert "all 2 runs diverged, so that there is no curve" in line

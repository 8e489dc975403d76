"""What other programs read: analysis.json and the CSVs, as SCHEMA.md says they are."""

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import smallnets.analysis
from smallnets.analysis import report
from smallnets.analysis.compare import claims
from smallnets.analysis.figures import figures
from smallnets.analysis.report import as_dict
from smallnets.analysis.study import analyse
from smallnets.analysis.table import digest, from_rows

SCHEMA = Path(report.__file__).with_name("SCHEMA.md").read_text(encoding="utf-8")


def documented() -> set[str]:
    """The keys of analysis.json that SCHEMA.md names, ``.low`` after ``a.b`` being ``a.low``."""
    found = set()
    for line in SCHEMA.split("## curves.csv")[0].splitlines():
        if line.startswith("| `"):
            first = ""
            for name in re.findall(r"`([^`]+)`", line.split("|")[1]):
                first = name if not name.startswith(".") else first
                found.add(name if not name.startswith(".") else first.rsplit(".", 1)[0] + name)
    return found


def keys(value, path: str = "") -> set[str]:
    """Every path to something that is no object, ``[]`` standing for elements."""
    if isinstance(value, dict):
        return {each for name, one in value.items() for each in keys(one, f"{path}.{name}")}
    if isinstance(value, list):
        return {each for one in value for each in keys(one, f"{path}[]")}
    return {path.removeprefix(".")}


def test_analysis_json_holds_what_the_schema_names_and_no_more(reported):
    found = json.loads((reported / "analysis.json").read_text())
    named = documented()
    for path in keys(found):
        general = re.sub(r"(versions|parameters|as_power_law)\.\w[\w-]*", r"\1.*", path)
        inside = re.sub(r"multipliers\[\]\..*", "multipliers[]", general)
        assert {general, inside, general.removesuffix("[]")} & named, path
    present = {
        re.sub(r"(versions|parameters|as_power_law)\.\w[\w-]*", r"\1.*", path)
        for path in keys(found)
    }
    optional = {"input", "best_run", "multipliers[]", "families[].law", "budgets[].left_out[]"}
    asked = ("predictions", "as_power_law", "compute_optimal")  # only where there are any
    asked = tuple(f"families[].{name}" for name in asked)
    quiet = {name for name in named if name.endswith("notes[]") or name.startswith(asked)}
    quiet |= optional
    lists = {path.rsplit("[]", 1)[0] + "[]" for path in present if "[]" in path}
    assert named <= present | lists | quiet, named - present


def test_the_numbers_are_those_of_the_analysis(reported):
    found = json.loads((reported / "analysis.json").read_text())
    study = analyse(from_rows(reported))
    for family, curve in zip(found["families"], study.curves, strict=True):
        for interval in curve.intervals:
            said = family["law"]["parameters"][interval.parameter]
            assert (said["estimate"], said["low"], said["high"]) == pytest.approx(
                (interval.estimate, interval.low, interval.high), rel=1e-9
            )
    (pair,) = claims(study).comparisons
    assert found["comparisons"][0]["times_fewer"] == pytest.approx(pair.answer[0], rel=1e-9)
    assert found["answer"][0].startswith("For the same test error, monarch needs ")
    assert found["input"] == digest(reported)
    rows = b"".join(path.read_bytes() for path in sorted(reported.rglob("row.json")))
    assert found["input"]["sha256"] == hashlib.sha256(rows).hexdigest()


def test_the_csvs_have_the_columns_that_the_schema_names(reported):
    for name in ("curves", "laws", "multipliers"):
        part = SCHEMA.split(f"## {name}.csv")[1].split("## ")[0]
        columns = pl.read_csv(reported / f"{name}.csv").columns
        assert set(columns) <= set(re.findall(r"`(\w+)`", part))
    curves = pl.read_csv(reported / "curves.csv")
    assert len(curves) == 2 * 6
    assert (curves["mean_low"] < curves["law"]).all()
    assert (curves["run_high"] > curves["mean_high"]).all()


def test_a_law_in_size_and_data_has_its_keys_too():
    table = pl.DataFrame(
        [
            {"family": "x", "n": n, "tokens": d, "loss": 1.7 + 400 * n**-0.34 + 900 * d**-0.3}
            for n in np.geomspace(1e6, 1e8, 4)
            for d in np.geomspace(1e7, 1e9, 4)
        ]
    )
    study = analyse(table, size="n", score="loss", data="tokens", predict=[(1e9, 2e10)])
    found = as_dict(study, claims(study))
    assert found["columns"]["data"] == "tokens"
    (family,) = found["families"]
    assert family["compute_optimal"]["size"]["exponent"] == pytest.approx(0.3 / 0.64, abs=1e-3)
    assert family["predictions"][0]["at"] == [1e9, 2e10]
    assert list(figures(study, claims(study))) == ["curves", "pareto", "residuals"]
    assert found["answer"][0].startswith("The loss of x falls with its n N as E + A N^-alpha + B")
    assert "beta = 0.3 (" in found["answer"][0]
    assert "can't be tested by these data" in found["answer"][1]
    said = {path for path in keys(found) if "compute_optimal" in path or "predictions" in path}
    assert said <= documented() | {"families[].predictions[].at[]"}


@pytest.mark.slow
def test_the_readme_way_from_a_frame_to_a_report(tmp_path):
    table = pl.DataFrame(
        [
            {"params": n, "loss": n**-0.2 + 0.001 * seed, "arch": "mlp", "seed": seed}
            for n in (10, 100, 1000, 10_000)
            for seed in (0, 1)
        ]
    )
    study = smallnets.analysis.analyse(table, size="params", score="loss", family="arch")
    page = smallnets.analysis.write(study, tmp_path / "report")
    assert page.read_text().startswith("<!doctype html>")
    found = json.loads((tmp_path / "report" / "analysis.json").read_text())
    assert found["input"] is None
    assert found["multipliers"] == []
    assert found["delta"] is None

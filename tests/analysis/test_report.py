import base64
import gzip
import json
import re
import resource
import subprocess
import sys
import time
from dataclasses import replace
from html import escape
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from smallnets.analysis.answer import best_run
from smallnets.analysis.compare import claims
from smallnets.analysis.figures import figures
from smallnets.analysis.panels import COLOURS, MARKERS, ticks
from smallnets.analysis.report import build, page, write
from smallnets.analysis.study import analyse
from smallnets.analysis.table import from_rows
from smallnets.analysis.tables import asymptote_lines, number


def unpacked(html: str, name: str) -> str:
    found = re.search(rf'id="{name}">([^<]*)<', html)
    assert found
    return gzip.decompress(base64.b64decode(found[1])).decode()


def layers(html: str) -> dict[str, list[dict]]:
    figures = json.loads(unpacked(html, "figures"))["figures"]
    return {
        name: [layer for panel in figure["panels"] for layer in panel["layer"]]
        for name, figure in figures.items()
    }


@pytest.mark.slow
def test_the_page_holds_every_run_and_needs_no_network(reported):
    html = (reported / "report.html").read_text()
    assert not re.search(r'(src|href)\s*=\s*"?(https?:)?//', html)
    assert "vegaEmbed" in unpacked(html, "vega") or "vega-embed" in unpacked(html, "vega")
    drawn = layers(html)
    assert list(drawn) == ["curves", "multiplier", "pareto", "sweep", "residuals"]
    dots = [
        (line, [tip["title"] for tip in layer["encoding"]["tooltip"]])
        for layer in drawn["curves"]
        if layer["mark"]["type"] == "circle"
        for line in layer["data"]["values"]
    ]
    assert len(dots) == 2 * 6 * 3
    for line, titles in dots:
        assert "seed" in titles
        assert "learning rate" not in titles  # the same for all that are drawn
        assert line["c" + str(titles.index("test error"))].startswith("0.")


def test_the_page_states_what_a_reviewer_asks_for(reported):
    html = (reported / "report.html").read_text()
    for text in (
        "6 sizes \N{MULTIPLICATION SIGN} 3 seeds",
        "least squares on the log score",
        "E + A N^-alpha",
        "size means",
        "commit 0123456",
        "jax: 0.10.2",
        "model._target_",
        "optimizer.learning_rate: 0.001, 0.003, 0.01",
        "p (Holm)",
    ):
        assert text in html


def test_every_family_has_its_law_with_asymptote_and_the_interval_holds_the_truth(reported):
    lines = asymptote_lines(analyse(from_rows(reported)))
    assert lines["family"].to_list() == ["dense", "monarch"]
    for interval in lines["E, 95% interval"]:
        low, high = map(float, interval.split(" to "))
        assert 0.1 < low < 0.2 < high < 0.3
    assert "The law with asymptote" in (reported / "report.html").read_text()


@pytest.mark.slow
def test_print_files_lie_beside_it_and_equal_studies_give_equal_files(reported, tmp_path):
    folder = reported
    build(folder, tmp_path / "again" / "deep")
    names = ("curves", "multiplier", "pareto", "sweep", "residuals")
    for name in names:
        assert (folder / f"{name}.pdf").read_bytes().startswith(b"%PDF")
        for suffix in ("pdf", "png"):
            file = f"{name}.{suffix}"
            assert (folder / file).read_bytes() == (tmp_path / "again" / "deep" / file).read_bytes()
    written = {path.name for path in (tmp_path / "again" / "deep").iterdir()}
    others = {"report.html", "analysis.json", "curves.csv", "laws.csv", "multipliers.csv"}
    assert written == others | {f"{n}.{s}" for n in names for s in ("pdf", "png")}
    for name in others:
        assert (folder / name).read_bytes() == (tmp_path / "again" / "deep" / name).read_bytes()
    with Image.open(folder / "curves.png") as picture:
        assert picture.width > 1500
        assert np.ptp(np.asarray(picture.convert("L"))) > 200


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"sizes": 3, "seeds": 1}, marks=pytest.mark.slow),
        pytest.param({"sizes": 2, "seeds": 1, "rates": (1e-3,)}, marks=pytest.mark.slow),
        pytest.param({"families": {"dense": (0.2, 0.6, 0.5)}}, marks=pytest.mark.slow),
        pytest.param({"families": {"<b>&": (0.2, 0.6, 0.5)}, "sizes": 5}, marks=pytest.mark.slow),
        pytest.param({"diverged": lambda family, *_: family == "dense"}, marks=pytest.mark.slow),
        {"diverged": lambda family, size, rate, seed: seed == 0 and size > 50_000},
    ],
    ids=["few", "two", "single family", "odd name", "family diverged", "size diverged"],
)
def test_thin_studies_still_give_a_report_that_says_so(write_study, change):
    html = build(write_study(**change)).read_text()
    assert "<b>&" not in html
    if "diverged" in change or change.get("sizes", 6) < 5:
        assert 'class="notes"' in html


def test_nothing_is_written_where_the_rows_cannot_carry_a_report(tmp_path, write_study):
    folder = write_study(sizes=1)
    with pytest.raises(ValueError, match="single parameters"):
        build(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_five_thousand_rows_in_twenty_seconds_and_two_megabytes(write_study):
    families = {f"f{i}": (0.2, 0.4 + 0.1 * i, 0.5) for i in range(5)}
    folder = write_study(
        families=families, sizes=10, seeds=20, rates=(1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2)
    )
    began = time.process_time()
    html = build(folder)
    assert time.process_time() - began < 20
    assert html.stat().st_size < 2e6
    runs = from_rows(folder).filter(pl.col("config.optimizer.learning_rate") == 4e-3)
    many = [runs.with_columns(pl.col("seed") + 20 * i) for i in range(5)]
    study = analyse(pl.concat(many))
    assert len(study.runs) == 5000
    compared = claims(study)
    assert len(page(study, compared, figures(study, compared))) < 2e6


def test_neighbouring_families_differ_in_grey_and_all_in_marker_or_colour():
    def grey(colour: str) -> float:
        return sum(
            w * int(colour[i : i + 2], 16) / 255 for w, i in ((0.2126, 1), (0.7152, 3), (0.0722, 5))
        )

    greys = [grey(colour) for colour in COLOURS]
    assert all(abs(a - b) > 0.1 for a, b in pairwise(greys))
    looks = {
        (COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)])
        for i in range(len(COLOURS) * len(MARKERS))
    }
    assert len(looks) == len(COLOURS) * len(MARKERS)


@given(st.floats(1e-9, 1e14), st.floats(1.001, 1e14))
def test_an_axis_has_two_to_seven_round_ticks_within_its_ends(low, ratio):
    found = ticks(low, low * ratio)
    assert 1 <= len(found) <= 7
    assert all(low * (1 - 1e-9) <= value <= low * ratio * (1 + 1e-9) for value in found)
    assert found == sorted(set(found))


def random_study(families: list[str], *, sizes: int, seeds: int = 1) -> pl.DataFrame:
    random = np.random.default_rng(0)
    return pl.DataFrame(
        [
            {"family": name, "parameters": int(n), "seed": seed, "test_error": float(error)}
            for i, name in enumerate(families)
            for n in np.geomspace(1e3, 1e5, sizes)
            for seed in range(seeds)
            for error in [(1 + i % 5) * n**-0.3 * np.exp(0.01 * random.standard_normal())]
        ]
    )


@pytest.mark.slow
def test_sixty_one_families_have_seven_colours_and_the_others_are_grey(tmp_path):
    table = random_study([f"f{i}" for i in range(61)], sizes=3)
    study = analyse(table)
    assert [curve.family for curve in study.curves][:12] == [f"f{i}" for i in range(12)]
    html = write(study, tmp_path / "out").read_text()
    (legend,) = {
        tuple(layer["encoding"]["shape"]["scale"]["domain"])
        for layer in layers(html)["curves"]
        if "shape" in layer["encoding"]
    }
    assert len(legend) == 7
    assert "the other 54 are grey" in html
    grey = [lay for lay in layers(html)["curves"] if lay["mark"].get("color") == "#c4c4c4"]
    assert len({line["family"] for lay in grey for line in lay["data"]["values"]}) == 54
    with Image.open(tmp_path / "out" / "curves.png") as picture:
        assert picture.height < 1400


def test_columns_may_have_any_name_and_hold_lists():
    table = random_study(["a", "b"], sizes=5, seeds=2).rename({"parameters": "runs"})
    table = table.with_columns(curve=pl.concat_list("test_error", "test_error"))
    study = analyse(table, size="runs")
    compared = claims(study)
    html = page(study, compared, figures(study, compared))
    assert "<th>runs (size)</th><th>runs</th>" in html


@pytest.mark.slow
def test_names_are_text_in_every_door(tmp_path):
    names = ["[red]a[/red] :smile:", "<b>b</b> & $x_1^2$", "=SUM(A1:A9)"]
    study = analyse(random_study(names, sizes=4, seeds=2))
    html = write(study, tmp_path / "out").read_text()
    assert "<b>b</b>" not in html
    for name in names:
        assert escape(name) in html
    found = json.loads((tmp_path / "out" / "analysis.json").read_text())
    assert {family["family"] for family in found["families"]} == set(names)
    assert set(pl.read_csv(tmp_path / "out" / "curves.csv")["family"]) == set(names)
    titles = [p["title"]["text"] for p in figures(study, claims(study))["residuals"].panels]
    assert sorted(titles) == sorted(names)


def test_without_an_asymptote_there_is_no_second_panel(tmp_path):
    study = analyse(random_study(["a"], sizes=5))
    drawn = figures(study, claims(study))
    assert len(drawn["curves"].panels) == 1
    assert "less the fitted E" not in drawn["curves"].caption


def test_an_open_band_stretches_no_axis():
    table = random_study(["a", "b"], sizes=6, seeds=2)
    study = analyse(table)
    compared = claims(study)
    (family,) = compared.multipliers
    m = compared.multipliers[family]
    wide = replace(m, low=m.low * 1e-12, high=np.full_like(m.high, np.inf))
    drawn = figures(study, replace(compared, multipliers={family: wide}))
    (panel,) = drawn["multiplier"].panels
    ends = [
        layer["encoding"]["y"]["scale"]["domain"]
        for layer in panel["layer"]
        if "scale" in layer["encoding"].get("y", {})
    ]
    assert ends[0][1] < 5  # the values lie about 0.1, and 1 is always shown
    assert ends[0][0] > m.value.min() / 5


def test_a_size_is_said_in_three_digits_from_a_million_on():
    said = [number(value) for value in (1014, 999_999, 1_500_000, 70e9, 112_474_676_905_540)]
    assert said == ["1,014", "1 M", "1.5 M", "70 B", "112 T"]


def test_the_best_run_and_its_command_are_named(write_study):
    folder = write_study(sizes=4, seeds=2, rates=(3e-3,))
    words = ["family=monarch", "seed=1", "note=two words"]
    job = json.dumps({"number": 0, "key": "", "words": words})  # of rows of before, without a key
    (folder / "jobs.jsonl").write_text(f'{job}\n{{"number": 1, "ke')
    best = best_run(analyse(from_rows(folder)))
    assert best is not None
    assert best.sentence.startswith("Best run, by test error: monarch with 100,000 parameters")
    assert best.command == "smallnets family=monarch seed=1 'note=two words'"
    study = analyse(random_study(["a"], sizes=4))
    best = best_run(study)
    assert best is not None
    assert best.command == ""


def test_figures_of_an_earlier_report_go_where_none_takes_their_place(tmp_path, monkeypatch):
    def touch(folder, name, *_, **__):
        for kind in ("pdf", "png"):
            (folder / f"{name}.{kind}").touch()

    monkeypatch.setattr("smallnets.analysis.panels.save", touch)
    fewer = random_study(["a", "b"], sizes=4)
    drawn = figures(analyse(fewer), claims(analyse(fewer)))
    assert "each_family" not in drawn
    (tmp_path / "each_family.pdf").write_bytes(b"mine")
    write(analyse(fewer), tmp_path)
    assert (tmp_path / "each_family.pdf").exists()  # no report was here that it could be of
    write(analyse(fewer), tmp_path)
    assert not (tmp_path / "each_family.pdf").exists()
    assert all((tmp_path / f"{name}.{kind}").exists() for name in drawn for kind in ("pdf", "png"))


def test_of_many_points_one_stands_for_those_that_it_would_cover():
    many = random_study([f"f{i}" for i in range(60)], sizes=50)
    study = analyse(many, laws=())
    drawn = figures(study, claims(study))["pareto"].panels[0]["layer"]
    grey = [each for each in drawn if each["mark"].get("color") == "#aaa"]
    assert 100 < len(grey[0]["data"]["values"]) < 1000  # of 2,650
    front = claims(study).points.filter("front")
    dots = [each for each in drawn if each["mark"].get("size") == 22]
    assert sum(len(each["data"]["values"]) for each in dots) == len(front)


@pytest.mark.slow
def test_sixty_families_of_two_hundred_runs_are_read_in_bounded_memory(tmp_path):
    """In the shape of experiments/benchmarks/analysis_size.py, which takes more."""
    table = random_study([f"f{i}" for i in range(60)], sizes=40, seeds=5)
    table.write_csv(tmp_path / "runs.csv")
    words = [sys.executable, "-m", "smallnets", "analyse", str(tmp_path / "runs.csv")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
    assert peak < 1.2
    assert len(done.stdout.splitlines()) < 150
    found = json.loads((tmp_path / "runs-report" / "analysis.json").read_text())
    assert len(found["families"]) == 60
    assert len(found["comparisons"]) == 59  # with the reference, not 1,770
    assert (tmp_path / "runs-report" / "report.html").stat().st_size < 4e6


def test_of_many_sizes_so_many_are_marked_that_markers_stand_apart():
    study = analyse(random_study(["a", "b"], sizes=100))
    drawn = figures(study, claims(study))
    (marks,) = [
        each
        for each in drawn["curves"].panels[0]["layer"]
        if each["mark"]["type"] == "point" and "shape" in each["encoding"]
    ]
    assert 2 * 15 < len(marks["data"]["values"]) <= 2 * 30
    assert "of at most 30 sizes" in drawn["curves"].caption

import base64
import gzip
import json
import re
import time
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from matplotlib.image import imread

from smallnets.analysis.claims import claims
from smallnets.analysis.report import build, page
from smallnets.analysis.study import analyse
from smallnets.analysis.style import COLOURS, MARKERS, style
from smallnets.analysis.table import from_rows
from smallnets.analysis.tables import asymptote_lines


def unpacked(html: str, name: str) -> str:
    found = re.search(rf'id="{name}">([^<]*)<', html)
    assert found
    return gzip.decompress(base64.b64decode(found[1])).decode()


def test_the_page_holds_every_run_and_needs_no_network(reported):
    html = (reported / "report.html").read_text()
    assert not re.search(r'(src|href)\s*=\s*"?(https?:)?//', html)
    assert unpacked(html, "plotly").startswith("/**\n* plotly.js")
    figures = json.loads(unpacked(html, "figures"))
    assert list(figures) == ["curves", "multiplier", "pareto", "sweep", "residuals"]
    texts = [
        text
        for trace in figures["curves"]["data"]
        for text in trace.get("customdata", [])
        if isinstance(text, str) and "seed" in text
    ]
    assert len(texts) == 2 * 6 * 3
    assert all("test error: 0." in text and "learning rate" not in text for text in texts)


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


def test_print_files_lie_beside_it_and_equal_studies_give_equal_files(reported, tmp_path):
    folder = reported
    build(folder, tmp_path / "again" / "deep")
    names = ("curves", "multiplier", "pareto", "sweep", "residuals")
    for name in names:
        assert (folder / f"{name}.pdf").read_bytes().startswith(b"%PDF")
        for suffix in ("pdf", "png"):
            file = f"{name}.{suffix}"
            assert (folder / file).read_bytes() == (tmp_path / "again" / "deep" / file).read_bytes()
    html = (folder / "report.html").read_text()
    assert html == (tmp_path / "again" / "deep" / "report.html").read_text()
    written = {path.name for path in (tmp_path / "again" / "deep").iterdir()}
    assert written == {"report.html"} | {f"{n}.{s}" for n in names for s in ("pdf", "png")}
    picture = imread(folder / "curves.png")
    assert picture.shape[1] > 1500
    assert np.ptp(picture[..., :3]) == pytest.approx(1)


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
def test_five_thousand_rows_in_twenty_seconds_and_five_megabytes(write_study):
    families = {f"f{i}": (0.2, 0.4 + 0.1 * i, 0.5) for i in range(5)}
    folder = write_study(
        families=families, sizes=10, seeds=20, rates=(1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2)
    )
    began = time.process_time()
    html = build(folder)
    assert time.process_time() - began < 20
    assert html.stat().st_size < 5e6
    runs = from_rows(folder).filter(pl.col("config.optimizer.learning_rate") == 4e-3)
    many = [runs.with_columns(pl.col("seed") + 20 * i) for i in range(5)]
    study = analyse(pl.concat(many))
    assert len(study.runs) == 5000
    assert len(page(study, claims(study))) < 5e6


def test_neighbouring_families_differ_in_grey_and_all_in_marker_or_colour():
    def grey(colour: str) -> float:
        return sum(
            w * int(colour[i : i + 2], 16) / 255 for w, i in ((0.2126, 1), (0.7152, 3), (0.0722, 5))
        )

    greys = [grey(colour) for colour in COLOURS]
    assert all(abs(a - b) > 0.1 for a, b in pairwise(greys))
    looks = [style(place) for place in range(len(COLOURS) * len(MARKERS))]
    assert len(set(looks)) == len(looks)

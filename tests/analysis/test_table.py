import warnings
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smallnets.analysis.report import build
from smallnets.analysis.study import analyse
from smallnets.analysis.table import from_rows, lower_is_better, read, short_labels
from smallnets.rows import DamagedRow


def test_a_row_becomes_a_line_with_dotted_columns(write_study):
    table = from_rows(write_study(sizes=2, seeds=2))
    assert len(table) == 2 * 2 * 3 * 2
    line = table.row(0, named=True)
    assert line["config.optimizer.learning_rate"] in (1e-3, 3e-3, 1e-2)
    assert line["config.optimizer.betas"] == "[0.9, 0.99]"
    assert line["versions.jax"] == "0.10.2"
    assert line["test_error"] > 0
    assert "curves" not in table.columns


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_files_of_anyone_give_the_same_table(tmp_path, suffix):
    table = pl.DataFrame({"params": [10, 20], "loss": [2.0, 1.5]})
    path = tmp_path / f"runs.{suffix}"
    table.write_csv(path) if suffix == "csv" else table.write_parquet(path)
    assert read(path).equals(table)


def test_what_cannot_be_read_says_so_in_one_line(tmp_path):
    (tmp_path / "runs.csv").write_text("size,score\n")
    (tmp_path / "runs.parquet").write_text("not a parquet file")
    (tmp_path / "runs.xlsx").write_text("1 2 3")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "row.json").write_text('{"family": "dense"')
    (tmp_path / "empty").mkdir()
    cases = {
        "runs.csv": "no runs",
        "runs.parquet": "can't be read as parquet",
        "runs.xlsx": "only folders",
        "absent.csv": "is not there",
        "broken": "holds no row.json that is sound",
        "empty": "holds no row.json that is sound",
    }
    for name, message in cases.items():
        with (
            warnings.catch_warnings(action="ignore", category=DamagedRow),
            pytest.raises(ValueError, match=message) as caught,
        ):
            read(tmp_path / name)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["residual dense", "residual low_rank"], ["dense", "low_rank"]),
        (
            ["residual dense", "residual low_rank linear.ratio=0.5"],
            ["dense", "low_rank linear.ratio=0.5"],
        ),
        (
            ["encoder dense depth=3", "encoder low_rank depth=3 linear.ratio=0.5"],
            ["dense", "low_rank linear.ratio=0.5"],
        ),
        (
            ["residual low_rank linear.ratio=0.5", "residual low_rank linear.ratio=0.125"],
            ["linear.ratio=0.5", "linear.ratio=0.125"],
        ),
        (["residual dense", "encoder dense"], ["residual", "encoder"]),
        (
            ["residual dense", "residual dense depth=4", "encoder dense"],
            ["residual", "residual depth=4", "encoder"],
        ),
        (["logistic dense", "perceptron dense", "perceptron monarch"], None),
        (["transformer dense attention.head_dim=2 depth=2"], ["dense"]),
        (["residual dense", "residual dense depth=4"], ["dense", "dense depth=4"]),
        # of before a label had no network
        (["dense", "low_rank linear.ratio=0.5"], None),
        (["dense", "low_rank", "low_rank linear.ratio=0.5"], None),
        (["dense"], None),
        ([], None),
    ],
)
def test_a_label_is_short_where_the_study_says_the_rest(labels, expected):
    found = short_labels(labels)
    assert list(found) == labels
    assert list(found.values()) == (labels if expected is None else expected)


LABELS = st.tuples(
    st.sampled_from(["residual", "encoder"]),
    st.sampled_from(["dense", "low_rank", "mixture"]),
    st.sampled_from(["", " depth=2", " depth=3"]),
    st.sampled_from(["", " linear.ratio=0.5"]),
).map(lambda words: "{} {}{}{}".format(*words))


@given(st.lists(LABELS, min_size=1, max_size=6, unique=True))
def test_short_labels_stay_distinct_and_are_never_empty(labels):
    found = list(short_labels(labels).values())
    assert len(set(found)) == len(labels)
    assert all(found)


def test_rows_of_a_study_get_short_labels(write_study):
    families = {"residual dense": (0.2, 0.6, 0.5), "residual monarch": (0.2, 0.4, 0.5)}
    table = from_rows(write_study(families=families, sizes=2, seeds=1))
    assert set(table["family"]) == {"dense", "monarch"}


BEFORE = Path(__file__).parent / "rows_before"


def test_rows_of_before_are_read_and_reported(tmp_path):
    """Those of commit 7d283dd: without key, parent or kept model, and with other class names."""
    table = read(BEFORE)
    assert len(table) == 16
    assert set(table["family"]) == {"dense", "monarch"}
    assert set(table["key"]) == {""}
    study = analyse(table)
    assert [curve.family for curve in study.curves] == ["dense", "monarch"]
    assert all(set(curve.runs["config.model.width"]) == {16, 32} for curve in study.curves)
    assert build(BEFORE, tmp_path).stat().st_size > 3e5


def test_of_a_metric_of_which_more_is_better_the_distance_from_its_best_is_taken():
    table = pl.DataFrame({"test_auc": [0.9, 0.75], "perfect.auc": [1.0, 1.0], "test_loss": [2, 1]})
    found, score = lower_is_better(table, "test_auc")
    assert score == "1 - test_auc"
    assert found[score].to_list() == pytest.approx([0.1, 0.25])
    assert lower_is_better(table, "test_loss")[1] == "test_loss"
    assert lower_is_better(table, "test_error")[1] == "test_loss"  # of targets there is no error

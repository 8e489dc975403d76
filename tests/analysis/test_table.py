import polars as pl
import pytest

from smallnets.analysis.table import from_rows, read


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
    (tmp_path / "runs.txt").write_text("1 2 3")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "row.json").write_text('{"family": "dense"')
    (tmp_path / "empty").mkdir()
    cases = {
        "runs.csv": "no runs",
        "runs.parquet": "can't be read as parquet",
        "runs.txt": "only folders",
        "absent.csv": "is not there",
        "broken": "can't be read",
        "empty": "holds no row.json",
    }
    for name, message in cases.items():
        with pytest.raises(ValueError, match=message) as caught:
            read(tmp_path / name)
        assert "\n" not in str(caught.value)

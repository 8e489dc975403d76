"""Own text, from a file or a folder to a kept model that reads it."""

from pathlib import Path

import numpy as np
import pytest
from command import TINY, folders, smallnets

from smallnets import load as load_model
from smallnets import plan, rows
from smallnets.tasks.text import load, parts

BOOK = "".join(f"line {i} of a book\n" for i in range(400))
SMALL = ["model=transformer", "model.width=8", "model.depth=1", "task.length=8"]


def of(path: Path, cache: Path, **options):
    return load(source=str(path), cache=str(cache), length=8, **options)


@pytest.mark.slow  # compiles a decoder
def test_a_model_of_characters_is_trained_kept_and_reads_text(tmp_path, cache):
    (tmp_path / "book.txt").write_text(BOOK + "é?é\n" * 60)  # at the end, so unseen in training
    source = f"task.source={tmp_path / 'book.txt'}"
    out = folders(cache, tmp_path / "out")
    smallnets("task=text", source, "task.vocabulary=characters", *SMALL, *TINY, *out)
    (row,) = rows.load(tmp_path / "out")
    assert 0 < row.metrics["test_bits_per_byte"] < 8
    model = load_model(tmp_path / "out" / row.key)
    assert model("line 12").shape == (7, len({*BOOK}) + 1)
    with pytest.raises(ValueError, match="but 'é' is none of them"):
        model("é")


def test_characters_are_numbered_in_order_and_unseen_ones_are_in_no_label(tmp_path, cache, caplog):
    for name, text in (("train", "£ab" * 20), ("validation", "ab£" * 9), ("test", "abzb" * 9)):
        (tmp_path / f"{name}.txt").write_text(text)
    data = of(tmp_path, cache, vocabulary="characters")
    assert data.outputs == 4
    np.testing.assert_array_equal(data.train.inputs[0], [2, 0, 1, 2, 0, 1, 2, 0])
    assert data.train.bytes == sum(len("ab£"[i].encode()) for i in data.train.labels.reshape(-1))
    np.testing.assert_array_equal(data.test.inputs[0], [0, 1, 3, 1, 0, 1, 3, 1])
    np.testing.assert_array_equal(data.test.labels[0], [1, -1, 1, 0, 1, -1, 1, 0])
    assert data.test.bytes == (data.test.labels >= 0).sum()
    assert "9 held-out characters are in no train text" in caplog.text
    (tmp_path / "test.txt").write_text("abab" * 9)
    assert of(tmp_path, cache, vocabulary="characters").outputs == 3


@pytest.mark.slow
def test_the_command_finds_its_words(tmp_path, cache):
    (tmp_path / "book.txt").write_text(BOOK)
    words = ["task=text", f"task.source={tmp_path / 'book.txt'}", *SMALL, f"cache={cache}"]
    (program,) = plan(*words, "task.vocabulary=characters", "task.test=0.1").programs
    assert program.data.outputs == len({*BOOK})
    assert program.task == "text length=8 source=book.txt test=0.1 vocabulary=characters"


def test_a_folder_without_validation_gives_the_end_of_its_train_text(tmp_path, cache):
    for name in ("train", "test"):
        (tmp_path / f"{name}.txt").write_text(BOOK)
    data = of(tmp_path, cache, validation=0.25)
    assert len(data.validation) / len(data.train) == pytest.approx(1 / 3, rel=0.02)
    assert not len(of(tmp_path, cache, validation=0).validation)


def test_parts_are_the_text_and_end_with_lines_where_there_are_any():
    for text in (BOOK, "x" * 1000, ""):
        for shares in ((0.05, 0.05), (0, 0.3), (0.3, 0), (0, 0)):
            found = parts(text, *shares)
            assert "".join(found) == text
            lengths = [len(part) / max(len(text), 1) for part in found[1:]]
            np.testing.assert_allclose(lengths, shares if text else 0, atol=0.005)
            assert "\n" not in text or all(p.endswith("\n") for p in found if p)


REFUSED = {
    "no file": (None, {}, "but No such file or directory"),
    "not UTF-8": (b"abc\xe9" * 99, {}, "must be in UTF-8, but byte 3 is not"),
    "nothing": (b"", {}, "that of train has '' alone"),
    "one character": (b"a" * 999, {}, "that of train has 'a' alone"),
    "one token": (b"ab\n", {"validation": 0}, "length must leave a window"),
    "too short": (b"ab\n" * 30, {}, "length=8 and the longest text of test has"),
    "all held out": (b"ab\n" * 999, {"validation": 0.5, "test": 0.5}, "must leave text"),
    "a share": (b"ab\n" * 999, {"test": "0.1"}, "test must be a share"),
    "a vocabulary": (b"ab\n" * 999, {"vocabulary": "words"}, "choose more, characters, or null"),
}


@pytest.mark.parametrize(("content", "options", "said"), REFUSED.values(), ids=REFUSED)
def test_what_can_not_be_read_is_refused_by_name(tmp_path, cache, content, options, said):
    path = tmp_path / "book.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=said) as raised:
        of(path, cache, **options)
    assert str(raised.value).startswith(str(path)) or "share" in said or "leave text" in said
    assert "\n" not in str(raised.value)

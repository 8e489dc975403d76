"""Text becomes windows whose labels are the next tokens, and whose bytes are counted exactly."""

import hashlib
import math
import sys

import numpy as np
import pytest

from smallnets.tasks import austen
from smallnets.tasks.data import Split
from smallnets.tasks.text import encoder, language_model, learned, parts, spell, windows

TEXTS = {
    "train": ["it is a truth universally acknowledged, " * 20, "£20,000 a year; " * 20],
    "validation": ["a truth universally acknowledged"],
    "test": ["twenty thousand a year", "it is"],
}


def small(tmp_path, **options):
    return language_model(TEXTS, **{"length": 4, "vocabulary": None, "cache": tmp_path, **options})


def test_labels_are_the_tokens_one_further_on_and_windows_do_not_overlap():
    split = windows("train", [spell("abcdefghij"), spell("ABCDE")], 4)
    assert [bytes(row.astype(np.uint8)) for row in split.inputs] == [b"abcd", b"efgh", b"ABCD"]
    assert [bytes(row.astype(np.uint8)) for row in split.labels] == [b"bcde", b"fghi", b"BCDE"]
    assert split.bytes == 12


def test_bytes_have_256_classes_and_a_letter_may_have_two(tmp_path):
    data = small(tmp_path)
    assert data.outputs == 256
    train = (40 * 20 - 1) // 4 + (17 * 20 - 1) // 4
    assert [len(each) for each in (data.train, data.validation, data.test)] == [train, 7, 6]
    assert "£".encode()[0] in data.train.inputs
    assert data.train.bytes == data.train.labels.size


def test_bits_per_byte_of_a_distribution_that_is_known():
    """Tokens of which a quarter each spell 1, 1, 2 and 4 bytes, uniform: 2 bits for 2 bytes."""
    inputs = np.tile(np.arange(4, dtype=np.int32), (3, 2))
    split = Split(inputs, inputs, bytes=3 * 2 * (1 + 1 + 2 + 4))
    assert split.bits_per_byte(math.log(4)) == pytest.approx(1.0)
    assert math.isnan(Split(inputs, inputs).bits_per_byte(math.log(4)))


def test_a_learned_vocabulary_spells_every_text_and_counts_its_bytes(tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    encode = encoder(learned(TEXTS["train"], 280, tmp_path), 280)
    (kept,) = (tmp_path / "vocabularies").iterdir()
    tokenizer = tokenizers.Tokenizer.from_file(str(kept))
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    for text in (*TEXTS["train"], *TEXTS["test"], "Ünseen ✓ 日本\n\n  ok"):
        tokens = encode(text)
        assert tokenizer.decode(tokens.ids.tolist()) == text
        assert tokens.bytes.sum() == len(text.encode())
    assert len(encode(TEXTS["train"][0]).ids) < 0.5 * len(TEXTS["train"][0])


@pytest.mark.parametrize("content", [b"", b"{", b"\xff"])
def test_a_damaged_vocabulary_is_learned_anew(content, tmp_path):
    one = small(tmp_path, vocabulary=280)
    (kept,) = (tmp_path / "vocabularies").iterdir()
    kept.write_bytes(content)
    with pytest.warns(UserWarning, match="is damaged, and is made anew"):
        again = small(tmp_path, vocabulary=280)
    np.testing.assert_array_equal(again.train.inputs, one.train.inputs)


def test_a_vocabulary_is_learned_from_the_train_split_alone_once_and_the_same(tmp_path):
    pytest.importorskip("tokenizers")
    one = small(tmp_path / "one", vocabulary=280)
    other = language_model(
        {**TEXTS, "test": ["quite another text"]},
        length=4,
        vocabulary=280,
        cache=tmp_path / "one",
    )
    again = small(tmp_path / "two", vocabulary=280)
    files = [*(tmp_path / "one").rglob("*.json"), *(tmp_path / "two").rglob("*.json")]
    assert (
        [hashlib.sha256(file.read_bytes()).hexdigest() for file in files].count(
            hashlib.sha256(files[0].read_bytes()).hexdigest()
        )
        == len(files)
        == 2
    )
    for data in (other, again):
        np.testing.assert_array_equal(one.train.inputs, data.train.inputs)
    assert one.outputs == 280


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"length": 0}, "length must be a whole number"),
        ({"length": "8"}, "length must be a whole number"),
        ({"length": 31}, "length=31 and the longest text of test has 22 tokens"),
        ({"vocabulary": 256}, "vocabulary must be above 256"),
        ({"vocabulary": 2.5}, "vocabulary must be above 256"),
    ],
)
def test_bad_options_get_one_line_and_write_nothing(tmp_path, options, said):
    with pytest.raises(ValueError, match=said) as raised:
        small(tmp_path / "cache", **options)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "cache").exists()


def test_more_tokens_than_the_texts_give_get_one_line(tmp_path):
    pytest.importorskip("tokenizers")
    with pytest.raises(ValueError, match="vocabulary must not exceed what the texts give"):
        small(tmp_path / "cache", vocabulary=5000)
    assert not (tmp_path / "cache").exists()


def test_without_the_library_the_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ValueError, match=r"pip install 'smallnets\[text\]'"):
        small(tmp_path, vocabulary=280)


def test_the_novels_are_whole_and_each_begins_with_its_title():
    novels = austen.novels()
    assert [novel.splitlines()[0] for novel in novels] == list(austen.TITLES)
    assert sum(len(novel.encode()) for novel in novels) == 4_025_033
    assert hashlib.sha256("".join(novels).encode()).hexdigest().startswith("ae4140c6e5ab543c")


def test_each_novel_is_parted_at_line_ends_into_90_5_and_5_percent():
    for novel in austen.novels():
        found = parts(novel, 0.05, 0.05)
        assert "".join(found) == novel
        assert all(part.endswith("\n") for part in found[:2])
        shares = [len(part) / len(novel) for part in found]
        np.testing.assert_allclose(shares, [0.9, 0.05, 0.05], atol=1e-3)


def test_austen_in_bytes(tmp_path):
    data = austen.load(cache=str(tmp_path), length=128)
    shapes = [each.inputs.shape for each in (data.train, data.validation, data.test)]
    assert shapes == [(28297, 128), (1571, 128), (1572, 128)]
    np.testing.assert_array_equal(data.train.inputs[0, 1:], data.train.labels[0, :-1])
    assert bytes(data.train.inputs[0, :6].astype(np.uint8)) == b"EMMA\n\n"
    assert not list(tmp_path.iterdir())

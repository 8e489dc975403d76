"""What a trained model does to raw inputs is what the task did to its examples."""

import jax
import numpy as np
import pytest

from smallnets.tasks import mqar
from smallnets.tasks.data import Data, Preparation, Split, hold_out, standardise
from smallnets.tasks.text import encoder, language_model, learned

TEXTS = {
    "train": ["it is a truth universally acknowledged, £5; " * 20],
    "validation": ["it is a truth"],
}
TEXTS["test"] = TEXTS["validation"]


def raw() -> Data:
    draw = np.random.default_rng(0)
    inputs = draw.integers(0, 256, (50, 4, 3)).astype(np.float32)
    inputs[..., 2] = 7  # a channel that is constant
    train = Split(inputs, np.arange(50, dtype=np.int32) % 5)
    test = Split(inputs[:7] + 1, train.labels[:7])
    return Data(train=train, validation=Split(inputs[:0], train.labels[:0]), test=test, outputs=5)


def test_it_standardises_raw_inputs_as_the_splits_were():
    parted = hold_out(raw(), 0.2)
    data = standardise(parted)
    for name in ("train", "validation", "test"):
        found = data.preparation(getattr(parted, name).inputs)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, getattr(data, name).inputs, rtol=1e-5, atol=1e-6)


def test_raw_inputs_may_be_of_any_number_type():
    data = standardise(raw())
    whole = raw().train.inputs.astype(np.uint8)
    found = data.preparation(whole)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, data.train.inputs, rtol=1e-5, atol=1e-6)


def test_it_is_a_function_that_compiles_and_its_numbers_are_no_parameters():
    preparation = standardise(raw()).preparation
    assert len(jax.tree.leaves(preparation)) == 2  # mean and scale
    x = raw().test.inputs
    compiled = jax.jit(lambda preparation, x: preparation(x))(preparation, x)
    np.testing.assert_allclose(compiled, preparation(x), rtol=1e-6, atol=1e-6)


def test_without_numbers_it_sets_the_type_alone():
    np.testing.assert_array_equal(Preparation()(np.arange(3)), np.arange(3, dtype=np.float32))
    assert Preparation()(np.arange(3)).dtype == np.float32
    options = {"vocabulary": 16, "length": 24, "pairs": 3, "power": 0.5}
    data = mqar.load(seed=0, **options, train=4, validation=0, test=1)
    assert data.preparation(data.train.inputs.astype(np.int64)).dtype == np.int32


@pytest.mark.parametrize("vocabulary", [None, 280])
def test_a_text_becomes_the_tokens_that_the_task_made_of_it(tmp_path, vocabulary):
    if vocabulary is not None:
        pytest.importorskip("tokenizers")
    data = language_model(TEXTS, length=4, vocabulary=vocabulary, cache=tmp_path)
    text = "£5"
    tokens = data.preparation.tokens(text)
    assert tokens.dtype == np.int32
    if vocabulary is None:
        assert bytes(tokens.astype(np.uint8)) == text.encode()
    else:
        encode = encoder(learned(TEXTS["train"], vocabulary, tmp_path), vocabulary)
        np.testing.assert_array_equal(tokens, encode(text).ids)


def test_what_is_no_text_of_the_window_gets_one_line(tmp_path):
    text = language_model(TEXTS, length=4, vocabulary=None, cache=tmp_path).preparation
    for refused, words, said in (
        (raw().preparation, "it", "reads arrays"),
        (text, "", "reads 1 to 4 tokens at once, but the text has 0"),
        (text, "it is", "reads 1 to 4 tokens at once, but the text has 5"),
    ):
        with pytest.raises(ValueError, match=said) as raised:
            refused.tokens(words)
        assert "\n" not in str(raised.value)

"""Language modelling: texts become windows of tokens, which are bytes or learned from the texts."""

import hashlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from smallnets.files import replacing
from smallnets.tasks.cache import writing
from smallnets.tasks.data import Data, Split, check_whole
from smallnets.tasks.preparation import Preparation

if TYPE_CHECKING:
    from tokenizers import Tokenizer

BYTES = 256  # a byte is a token where no vocabulary is learned


class Tokens(NamedTuple):
    """A text in tokens: ``ids[n]``, and of how many bytes each is, ``bytes[n]``."""

    ids: np.ndarray
    bytes: np.ndarray


Encode = Callable[[str], Tokens]


def language_model(
    texts: Mapping[str, Sequence[str]], *, length: int, vocabulary: int | None, cache: Path
) -> Data:
    """Predict each next token: windows of ``length`` tokens that do not overlap.

    ``texts`` are those of ``train``, ``validation`` and ``test``. ``inputs[n, T]`` are a window's
    tokens and ``labels[n, T]`` those one further on. Windows do not cross from one text to another;
    a text's first token is in no label, and what is left after its last whole window in neither.
    Each window is read from its start without what came before, so bits per byte fall as ``length``
    grows; at one ``length`` a larger vocabulary sees more text.

    Tokens are the text's bytes (UTF-8), 256 classes, or the ``vocabulary`` of a byte-level BPE that
    is trained on the train texts alone and kept in ``cache``; either way every text has an exact
    length in bytes, by which a split gives bits per byte.

    Raises ValueError for a length that leaves a split without a window, for a vocabulary that is
    not above 256 or more than the texts give, and where the library ``tokenizers`` is wanted and
    not installed.
    """
    check_whole({"length": length}, least=1)
    tokenizer, encode = "bytes", spell
    if vocabulary is not None:
        tokenizer = learned(texts["train"], vocabulary, cache)
        encode = encoder(tokenizer, vocabulary)
    train, validation, test = (
        windows(name, [encode(text) for text in texts[name]], length)
        for name in ("train", "validation", "test")
    )
    return Data(
        train,
        validation,
        test,
        classes=BYTES if vocabulary is None else vocabulary,
        preparation=Preparation(dtype="int32", tokenizer=tokenizer, window=length),
    )


def windows(name: str, texts: Sequence[Tokens], length: int) -> Split:
    """The windows of a split, text by text, and the bytes that its labels spell."""
    counts = [(len(text.ids) - 1) // length for text in texts]
    if not any(count > 0 for count in counts):
        longest = max((len(text.ids) for text in texts), default=0)
        raise ValueError(
            f"length must leave a window in each text split, but length={length} and the longest "
            f"text of {name} has {longest} tokens: "
            + (f"choose length < {longest}" if longest > 1 else "give longer texts")
        )

    def cut(shift: int) -> np.ndarray:
        rows = [
            text.ids[shift : shift + count * length].reshape(count, length)
            for text, count in zip(texts, counts, strict=True)
        ]
        return np.concatenate(rows).astype(np.int32)

    spelled = sum(
        int(text.bytes[1 : 1 + count * length].sum())
        for text, count in zip(texts, counts, strict=True)
    )
    return Split(cut(0), cut(1), spelled)


def spell(text: str) -> Tokens:
    """The bytes of a text in UTF-8."""
    ids = np.frombuffer(text.encode(), np.uint8).astype(np.int32)
    return Tokens(ids, np.ones_like(ids))


def learned(texts: Sequence[str], vocabulary: int, cache: Path) -> str:
    """The JSON of a byte-level BPE of ``vocabulary`` tokens, trained on ``texts``, or kept.

    The first 256 tokens are the bytes, so that any text can be spelled. Source: Sennrich et al.
    2015, arXiv:1508.07909; on bytes: Radford et al. 2019 (GPT-2), section 2.2.
    """
    if not isinstance(vocabulary, int) or vocabulary <= BYTES:
        raise ValueError(
            f"vocabulary must be above {BYTES}, the bytes, but is {vocabulary!r}: choose more, or "
            "null for bytes"
        )
    try:
        import tokenizers
    except ImportError:
        raise ValueError(
            f"vocabulary={vocabulary} needs the library tokenizers, which is not installed: "
            "pip install 'smallnets[text]', or set vocabulary to null for bytes"
        ) from None
    digest = hashlib.sha256(repr((tokenizers.__version__, vocabulary, list(texts))).encode())
    kept = cache / "vocabularies" / f"{digest.hexdigest()}.json"
    if not _is_whole(kept, vocabulary):
        if kept.exists():
            warnings.warn(f"{kept} is damaged, and is made anew", stacklevel=2)
        trained = _train(texts, vocabulary).to_str()
        with writing(kept.parent), replacing(kept) as draft:
            draft.write_text(trained)
    return kept.read_text()


def encoder(tokenizer: str, vocabulary: int) -> Encode:
    """What a tokenizer, by its JSON, makes of a text."""
    from tokenizers import Tokenizer

    loaded = Tokenizer.from_str(tokenizer)
    # Byte-level tokens are written with one letter for each byte.
    letters = {index: len(token) for token, index in loaded.get_vocab().items()}
    lengths = np.asarray([letters[index] for index in range(vocabulary)], np.int32)

    def encode(text: str) -> Tokens:
        ids = np.asarray(loaded.encode(text).ids, np.int32)
        return Tokens(ids, lengths[ids])

    return encode


def _is_whole(kept: Path, vocabulary: int) -> bool:
    """Whether a tokenizer of this vocabulary is kept there."""
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_str(kept.read_text()).get_vocab_size() == vocabulary
    except Exception:  # the library raises nothing narrower for what it can't parse
        return False


def _train(texts: Sequence[str], vocabulary: int) -> "Tokenizer":
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    if (found := tokenizer.get_vocab_size()) != vocabulary:
        raise ValueError(
            f"vocabulary must not exceed what the texts give, but is {vocabulary} for {found}: "
            f"choose at most {found}"
        )
    return tokenizer

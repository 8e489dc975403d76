"""Language modelling: texts become windows of tokens: bytes, characters, or learned from the texts.

``load`` is the task of one's own text; other texts come by :func:`language_model`.
"""

import hashlib
import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from smallnets.files import replacing
from smallnets.tasks.cache import writing
from smallnets.tasks.data import Data, Split, check_whole
from smallnets.tasks.examples import SPLITS, say_shared
from smallnets.tasks.preparation import CHARACTERS, Preparation

if TYPE_CHECKING:
    from tokenizers import Tokenizer

log = logging.getLogger(__name__)

BYTES = 256  # a byte is a token where no vocabulary is learned
Vocabulary = int | Literal["characters"] | None


class Tokens(NamedTuple):
    """A text in tokens: ``ids[n]``, and of how many bytes each is, ``bytes[n]``.

    A token of 0 bytes is none that could be predicted: it is in no label.
    """

    ids: np.ndarray
    bytes: np.ndarray


Encode = Callable[[str], Tokens]


def load(
    *,
    source: str,
    cache: str,
    length: int,
    vocabulary: Vocabulary = None,
    validation: float = 0.05,
    test: float = 0.05,
    metrics: Sequence[str] = (),
) -> Data:
    """Windows of ``length`` tokens ``[n, T]`` of one's own text, and those one further on.

    ``source`` is a text file in UTF-8, whose last share ``test`` is for the test and the share
    ``validation`` before it for validation, cut at ends of lines; or a folder of ``train.txt`` and
    ``test.txt``, with ``validation.txt`` or else the end of ``train.txt``. For ``vocabulary`` see
    :func:`language_model`. Raises ValueError, naming the file, for one that is not there or not in
    UTF-8, for shares that leave nothing, and as :func:`language_model`.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        whole = {name: read(path / f"{name}.txt") for name in ("train", "test")}
        if (path / "validation.txt").exists():
            whole["validation"] = read(path / "validation.txt")
        else:
            whole["train"], whole["validation"], _ = parts(whole["train"], validation, 0)
    else:
        whole = dict(zip(SPLITS, parts(read(path), validation, test), strict=True))
    texts = {name: [whole[name]] if whole[name] else [] for name in SPLITS}
    try:
        data = language_model(
            texts, length=length, vocabulary=vocabulary, cache=Path(cache).expanduser()
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    say_shared(path, data)
    return replace(data, metrics=tuple(metrics))


def read(path: Path) -> str:
    """The text of a file; raises ValueError where it is not there, or not in UTF-8."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        reason = error.strerror
        raise ValueError(f"{path}: a text file is needed, but {reason}: name one") from None
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: the text must be in UTF-8, but byte {error.start} is not: convert it, as "
            "with iconv -t utf-8"
        ) from None


def parts(text: str, validation: float, test: float) -> tuple[str, str, str]:
    """A text's parts for training, validation and test; together they are the text.

    The shares are of its characters, and are cut at the end of the line before; in a text without
    lines where they fall. Raises ValueError for shares that leave nothing to train on.
    """
    for name, share in (("validation", validation), ("test", test)):
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share < 1:
            raise ValueError(f"{name} must be a share in [0, 1), but is {share!r}: give one")
    if validation + test >= 1:
        raise ValueError(
            f"validation and test must leave text to train on, but are {validation} and {test}: "
            "choose smaller shares"
        )
    first, second = (
        text.rfind("\n", 0, at) + 1 or at
        for at in (round(share * len(text)) for share in (1 - (validation + test), 1 - test))
    )
    first, second = first if validation + test else len(text), second if test else len(text)
    return text[:first], text[first:second], text[second:]


def language_model(
    texts: Mapping[str, Sequence[str]], *, length: int, vocabulary: Vocabulary, cache: Path
) -> Data:
    """Predict each next token: windows of ``length`` tokens that do not overlap.

    ``texts`` are those of ``train``, ``validation`` (which may be none) and ``test``.
    ``inputs[n, T]`` are a window's
    tokens and ``labels[n, T]`` those one further on. Windows do not cross from one text to another;
    a text's first token is in no label, and what is left after its last whole window in neither.
    Each window is read from its start without what came before, so bits per byte fall as ``length``
    grows; at one ``length`` a larger vocabulary sees more text.

    Tokens are the text's bytes (UTF-8), 256 classes; with ``vocabulary="characters"`` the distinct
    characters of the train texts; or the ``vocabulary`` of a byte-level BPE that is trained on the
    train texts alone and kept in ``cache``. Every text has an exact length in bytes, by which a
    split gives bits per byte. Characters that only held-out texts have are one token more, which is
    in no label: they are read, but neither predicted nor scored, and it is said how many.

    Raises ValueError for a length that leaves a split without a window, for train texts of one
    character, for a vocabulary that is not above 256 or more than the texts give, and where the
    library ``tokenizers`` is wanted and not installed.
    """
    check_whole({"length": length}, least=1)
    characters = "".join(sorted(set().union(*texts["train"])))
    if len(characters) < 2:
        raise ValueError(
            f"a text of at least two characters is needed, but that of train has {characters!r} "
            "alone: give another"
        )
    tokenizer, encode, outputs = "bytes", spell, BYTES
    if vocabulary == "characters":
        tokenizer, encode = f"{CHARACTERS}{characters}", speller(characters)
        outputs = len(characters) + _unseen([*texts["validation"], *texts["test"]], characters)
    elif vocabulary is not None:
        tokenizer, outputs = learned(texts["train"], vocabulary, cache), vocabulary
        encode = encoder(tokenizer, vocabulary)
    train, test = (windows(n, list(map(encode, texts[n])), length) for n in ("train", "test"))
    validation = Split(train.inputs[:0], train.labels[:0])
    if texts["validation"]:
        validation = windows("validation", list(map(encode, texts["validation"])), length)
    return Data(
        train,
        validation,
        test,
        outputs=outputs,
        preparation=Preparation(dtype="int32", tokenizer=tokenizer, window=length),
    )


def _unseen(texts: Sequence[str], characters: str) -> bool:
    """Whether held-out texts have characters that no train text has; how many is said."""
    known = {*characters}
    count = sum(character not in known for text in texts for character in text)
    if count:
        log.warning(
            "%d held-out characters are in no train text: they are read, but not scored", count
        )
    return count > 0


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

    def cut(arrays: Sequence[np.ndarray], shift: int) -> np.ndarray:
        rows = [
            array[shift : shift + count * length].reshape(count, length)
            for array, count in zip(arrays, counts, strict=True)
        ]
        return np.concatenate(rows).astype(np.int32)

    spelled = sum(
        int(text.bytes[1 : 1 + count * length].sum())
        for text, count in zip(texts, counts, strict=True)
    )
    labels = [np.where(text.bytes > 0, text.ids, -1) for text in texts]
    return Split(cut([text.ids for text in texts], 0), cut(labels, 1), spelled)


def spell(text: str) -> Tokens:
    """The bytes of a text in UTF-8."""
    ids = np.frombuffer(text.encode(), np.uint8).astype(np.int32)
    return Tokens(ids, np.ones_like(ids))


def speller(characters: str) -> Encode:
    """What makes tokens of a text: the places of its characters in the sorted ``characters``.

    Another character is the token ``len(characters)``, of 0 bytes.
    """
    letters = np.asarray([ord(character) for character in characters])
    lengths = np.asarray([len(character.encode()) for character in characters])

    def encode(text: str) -> Tokens:
        codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
        places = np.minimum(np.searchsorted(letters, codes), len(letters) - 1)
        known = letters[places] == codes
        return Tokens(
            np.where(known, places, len(letters)).astype(np.int32),
            np.where(known, lengths[places], 0),
        )

    return encode


def learned(texts: Sequence[str], vocabulary: int, cache: Path) -> str:
    """The JSON of a byte-level BPE of ``vocabulary`` tokens, trained on ``texts``, or kept.

    The first 256 tokens are the bytes, so that any text can be spelled. Source: Sennrich et al.
    2015, arXiv:1508.07909; on bytes: Radford et al. 2019 (GPT-2), section 2.2.
    """
    if not isinstance(vocabulary, int) or vocabulary <= BYTES:
        raise ValueError(
            f"vocabulary must be above {BYTES}, the bytes, but is {vocabulary!r}: choose more, "
            "characters, or null for bytes"
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

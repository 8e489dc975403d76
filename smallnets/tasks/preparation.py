"""What turns raw inputs into a network's: kept with a trained model, and inside its program."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

CHARACTERS = "characters "


class Preparation(nnx.Module):
    """Raw inputs x[n, ...] to those of a network, (x - mean) / scale as ``dtype``.

    Without ``mean`` and ``scale`` only the type is set. Of text, ``tokenizer`` is ``bytes``, the
    word ``characters`` and after a space all characters in the order of their numbers, or the JSON
    of a tokenizer of the library tokenizers, and ``window`` the length in tokens that the network
    was trained on.
    """

    def __init__(
        self,
        *,
        dtype: str = "float32",
        mean: np.ndarray | None = None,
        scale: np.ndarray | None = None,
        tokenizer: str | None = None,
        window: int | None = None,
    ):
        self.dtype, self.tokenizer, self.window = dtype, tokenizer, window
        self.mean = None if mean is None else nnx.Variable(jnp.asarray(mean))
        self.scale = None if scale is None else nnx.Variable(jnp.asarray(scale))

    def __call__(self, x: Any) -> jax.Array:
        x = jnp.asarray(x).astype(self.dtype)
        if self.mean is None or self.scale is None:
            return x
        mean, scale = (jnp.broadcast_to(each[...], x.shape) for each in (self.mean, self.scale))
        return (x - mean) / scale

    def tokens(self, text: str) -> np.ndarray:
        """The tokens of a text, ``[T]``.

        Raises ValueError where the network does not read text, for an empty text, for one that is
        longer than its window, and for characters that the text it was trained on has not.
        """
        if self.tokenizer is None:
            raise ValueError("this model reads arrays x[n, ...], not text: give it numbers")
        if self.tokenizer == "bytes":
            ids = np.frombuffer(text.encode(), np.uint8)
        elif self.tokenizer.startswith(CHARACTERS):
            characters = self.tokenizer.removeprefix(CHARACTERS)
            if unseen := sorted({*text} - {*characters}):
                raise ValueError(
                    f"this model reads the characters of its train text, but {unseen[0]!r} is none "
                    "of them: leave it out"
                )
            ids = np.asarray([characters.index(character) for character in text])
        else:
            from tokenizers import Tokenizer

            ids = np.asarray(Tokenizer.from_str(self.tokenizer).encode(text).ids)
        if not 1 <= len(ids) <= (self.window or len(ids)):
            raise ValueError(
                f"this model reads 1 to {self.window} tokens at once, but the text has {len(ids)}: "
                "give a shorter one"
            )
        return ids.astype(np.int32)

    def spelling(self) -> list[bytes]:
        """The bytes of each token, the inverse of :meth:`tokens`.

        A token that stands for what no text of training has is the replacement character. Raises
        ValueError where the network does not read text.
        """
        if self.tokenizer is None:
            raise ValueError("this model reads arrays x[n, ...], not text: give it numbers")
        if self.tokenizer == "bytes":
            return [bytes([byte]) for byte in range(256)]
        if self.tokenizer.startswith(CHARACTERS):
            characters = self.tokenizer.removeprefix(CHARACTERS)
            return [character.encode() for character in f"{characters}\ufffd"]
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_str(self.tokenizer)
        letters = _letters()
        names = map(tokenizer.id_to_token, range(tokenizer.get_vocab_size()))
        return [bytes(letters[letter] for letter in name or "") for name in names]


def _letters() -> dict[str, int]:
    """The byte of each letter by which a byte-level tokenizer writes it.

    Printable bytes of Latin-1 are their own letters, the others in turn those from U+0100. Source:
    Radford et al. 2019 (GPT-2), its published encoder.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {
        chr(0x100 + place): byte for place, byte in enumerate(others)
    }


class Targets(nnx.Module):
    """A network's answers y[n, targets] in the units of the targets: y * scale + mean.

    Both are [targets], of the train split, so that a network is asked for numbers of variance 1.
    """

    def __init__(self, *, mean: np.ndarray, scale: np.ndarray):
        self.mean, self.scale = (nnx.Variable(jnp.asarray(each)) for each in (mean, scale))

    def __call__(self, y: jax.Array) -> jax.Array:
        mean, scale = (jnp.broadcast_to(each[...], y.shape) for each in (self.mean, self.scale))
        return y * scale + mean

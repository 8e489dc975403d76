"""The card of an artefact, ``card.json``: what it is, was measured to be, and each file's hash.

The card has a hash too, of itself with that hash's digits as zeros, so that a flipped byte in any
file of the folder is found, and named.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

NAME = "card.json"
FORMAT = "1"  # raised when a card of before can't be read any more
BLANK = "0" * 64


def write(card: dict[str, Any], folder: Path) -> None:
    """Write the card of all that is in a folder, with the hash and the bytes of each file."""
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        entry = card["files"].setdefault(path.name, {})
        entry |= {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    whole = json.dumps({"format": FORMAT, **card, "sha256": BLANK}, indent=1, allow_nan=False)
    (folder / NAME).write_text(_sealed(whole))


def _sealed(whole: str) -> str:
    head, tail = whole.rsplit(BLANK, 1)
    return head + hashlib.sha256(whole.encode()).hexdigest() + tail


def read(folder: str | Path) -> dict[str, Any]:
    """The card of a folder in which every file is what the card says.

    Nothing of a file is used before its hash is known. Raises ValueError, one line that names the
    file, where one is damaged, missing or not on the card.
    """
    folder = Path(folder)
    path = folder / NAME
    if not path.is_file():
        raise ValueError(
            f"{folder} is no artefact, it has no {NAME}: name a folder that smallnets export wrote"
        )
    try:
        whole = path.read_text()
        card = json.loads(whole)
        sound = isinstance(card, dict) and _sealed(whole.replace(card["sha256"], BLANK)) == whole
    except (ValueError, KeyError, TypeError):
        sound, card = False, {}
    if not sound:
        raise ValueError(f"{path} is damaged, it and its SHA-256 differ: take a copy")
    if card["format"] != FORMAT:
        raise ValueError(
            f"{path} has format {card['format']}, this smallnets reads {FORMAT}: use the version "
            "that wrote it"
        )
    there = {each.name for each in folder.iterdir()} - {NAME}
    for name, entry in card["files"].items():
        if name not in there:
            raise ValueError(f"{folder / name} is on the card but not there: take a whole copy")
        if hashlib.sha256((folder / name).read_bytes()).hexdigest() != entry["sha256"]:
            raise ValueError(
                f"{folder / name} is damaged, it and the card's SHA-256 differ: take a copy"
            )
    if unknown := sorted(there - set(card["files"])):
        raise ValueError(f"{folder / unknown[0]} is not on the card: take it out of the folder")
    return card

"""The verb ``generate``: text with which a kept decoder goes on from a prompt."""

import argparse
import sys
from collections.abc import Sequence

from smallnets import models
from smallnets.decoding.cached import stream
from smallnets.decoding.speculation import speculate
from smallnets.models import Model


def main(arguments: list[str]) -> None:
    """The verb: prints the prompt and what the model goes on with, token by token."""
    parser = argparse.ArgumentParser(
        "smallnets generate", description="Text with which a kept decoder goes on from a prompt."
    )
    parser.add_argument("run", help="the folder of a run, or its model.safetensors")
    parser.add_argument("prompt", help="the text to go on from")
    parser.add_argument("--tokens", type=int, default=200, help="how many to make (200)")
    parser.add_argument(
        "--temperature", type=float, default=1.0, help="0 takes the likeliest token (1)"
    )
    parser.add_argument(
        "--top-p", type=float, default=1.0, help="draw from the likeliest tokens of this share (1)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn (0)")
    parser.add_argument(
        "--draft", metavar="SMALL", help="a run whose model drafts what this one verifies"
    )
    parser.add_argument("--drafts", type=int, default=4, help="tokens drafted at once (4)")
    parser.add_argument("--allow", action="append", default=[], help="a package of its classes")
    said = parser.parse_args(arguments)
    model = decoder(said.run, said.allow)
    drawing = {name: getattr(said, name) for name in ("tokens", "temperature", "top_p", "seed")}
    if said.draft is not None:
        small = decoder(said.draft, said.allow)
        text = speculate(small, model, said.prompt, drafts=said.drafts, **drawing)
        print(f"{said.prompt}{text}")
        return
    pieces = stream(model, said.prompt, **drawing)
    sys.stdout.write(said.prompt + next(pieces))  # what is refused prints nothing
    for piece in pieces:
        sys.stdout.write(piece)
        sys.stdout.flush()
    sys.stdout.write("\n")


def decoder(run: str, allow: Sequence[str]) -> Model:
    """The kept model of a run; raises ValueError for what is no model of ours."""
    model = models.load(run, allow=tuple(allow))
    if not isinstance(model, Model):
        raise ValueError(
            f"{run} holds a {type(model).__name__}, not a model of text: name a run of a decoder"
        )
    return model

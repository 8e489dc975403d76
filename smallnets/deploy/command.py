"""The verb ``export``: write an artefact of a run, or check one."""

import argparse
from pathlib import Path

from smallnets import models
from smallnets.deploy.artefact import NOT_STATED, ROUTES, Wanted, export
from smallnets.deploy.check import check


def main(arguments: list[str]) -> None:
    """Prints a line for each file; what is wrong raises ValueError, which the command prints."""
    parser = argparse.ArgumentParser("smallnets export", description=__doc__)
    parser.add_argument("run", nargs="?", help="the folder of a run that kept its model")
    parser.add_argument("--to", default=",".join(ROUTES), help=f"of {','.join(ROUTES)},web")
    parser.add_argument("--out", help="the folder to write, which must not be there")
    parser.add_argument("--int8", action="store_true", help="files of 8-bit weights too")
    parser.add_argument("--int4", action="store_true", help="of litert a file of 4-bit weights too")
    parser.add_argument("--partial", action="store_true", help="though most products stay float")
    parser.add_argument("--check", metavar="FOLDER", help="verify an artefact instead")
    parser.add_argument("--allow", action="append", default=[], help="a package of the model")
    parser.add_argument("--weights-licence", default=NOT_STATED, help="stands on the card")
    parser.add_argument("--data-licence", default="", help="stands on the card")
    said = parser.parse_args(arguments)
    allow = tuple(said.allow)
    if said.check:
        if said.run or said.out:
            raise ValueError("--check verifies a folder and exports nothing: leave the run out")
        print("\n".join(check(said.check, allow=allow)))
        return
    if not said.run or not said.out:
        raise ValueError("export needs a run and a folder: smallnets export RUN --out FOLDER")
    wanted = Wanted(
        to=tuple(name for name in said.to.split(",") if name),
        int8=said.int8,
        int4=said.int4,
        partial=said.partial,
        weights_licence=said.weights_licence,
        data_licence=said.data_licence,
    )
    card = export(Path(said.run), Path(said.out), wanted, allow=allow)
    kept = card["files"][models.NAME]["bytes"]
    for name, entry in card["files"].items():
        print(_line(name, entry, kept))
    print(f"check it with: smallnets export --check {said.out}")


def _line(name: str, entry: dict, kept: int) -> str:
    line = f"{name:18}{entry['bytes']:>12,} bytes"
    if "parity" not in entry:
        return line
    line += f", {entry['bytes'] / kept:.2f} of the kept model's"
    scores = ", ".join(f"{k} {v:.4f}" for k, v in entry.get("scores", {}).get("1", {}).items())
    if "same_tokens" in entry:
        scores = f"{entry['same_tokens']:.0%} of its tokens are the model's own"
    line += f"  within {max(entry['parity'].values()):.1g} of the model; {scores}"
    if "products" in entry:
        counted = entry["products"]
        line += f"; {counted['integer']} of {counted['of_weights']} products take integers"
    if "1" in entry.get("seconds", {}):
        line += f"; {entry['seconds']['1']['lowest'] * 1e6:.0f} µs"
    return line

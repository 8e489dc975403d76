"""The verb ``paper``: init, freeze, build, check and artifact."""

from argparse import ArgumentParser
from pathlib import Path

from smallnets.paper import artifact, build, frozen, init


def main(words: list[str]) -> None:
    """The verb; raises ValueError or OSError, one line, for what is wrong."""
    parser = ArgumentParser(prog="smallnets paper", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    each = verbs.add_parser("init", help="write a paper's folder for studies of your own")
    each.add_argument("folder", type=Path)
    each.add_argument("sweeps", type=Path, nargs="+", metavar="SWEEP", help="a study's folder")
    each = verbs.add_parser("freeze", help="pack and hash a study's rows into a paper's folder")
    each.add_argument("paper", type=Path)
    each.add_argument("sweep", type=Path, help="a study's folder")
    each.add_argument("--name", default="", help="of the study (default: its folder's)")
    each = verbs.add_parser("build", help="numbers, tables, figures and, with LaTeX, main.pdf")
    each.add_argument("paper", type=Path)
    each = verbs.add_parser("check", help="fail where generated/ is not what the rows make")
    each.add_argument("paper", type=Path)
    each = verbs.add_parser("artifact", help="an archive that installs and runs offline")
    each.add_argument("paper", type=Path)
    each.add_argument("out", type=Path, help="the archive, .tar.gz")
    each.add_argument("--anonymous", action="store_true", help="without names, hosts and paths")
    each.add_argument("--wheels", type=Path, help="gather all that is locked here, and pack it too")
    each.add_argument(
        "--models", type=Path, action="append", default=[], metavar="STUDY",
        help="a study's folder, whose models are packed for each run that an analysis rests on",
    )  # fmt: skip
    given = parser.parse_args(words)
    if given.verb == "init":
        init.write(given.folder, given.sweeps)
        print(f"{given.folder}: change queries.toml and main.tex; make -C {given.folder} paper")
    elif given.verb == "freeze":
        study = frozen.freeze(given.sweep, given.paper, given.name)
        counts = ", ".join(f"{count:,} {status}" for status, count in study.status.items())
        print(f"frozen: {counts}, of {', '.join(study.commits)}, NUMERICS {study.numerics}")
    elif given.verb == "build":
        _build(given.paper)
    elif given.verb == "check":
        if names := build.stale(given.paper):
            raise ValueError(
                f"{given.paper / 'generated' / names[0]} is not what the rows and queries make"
                + (f", nor are {len(names) - 1} more" if len(names) > 1 else "")
                + f": smallnets paper build {given.paper} makes them again"
            )
        print("generated/ is what the rows and queries make")
    else:
        path = artifact.write(
            given.paper,
            given.out,
            anonymous=given.anonymous,
            wheels=given.wheels,
            studies=given.models,
        )
        print(f"artefact: {path} ({path.stat().st_size / 1e6:.1f} MB)")


def _build(paper: Path) -> None:
    written = build.build(paper)
    print(f"made of the rows: {len(written)} files in {paper / 'generated'}")
    pdf = build.typeset(paper)
    if pdf is None:
        print(f"LaTeX is not here, so there is no main.pdf; on Debian: {build.DEBIAN}")
    else:
        print(f"paper: {pdf}")

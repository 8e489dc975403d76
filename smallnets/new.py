"""The verb ``new``: a package of one's own layers and tasks, as plain files to be changed."""

import importlib.util
import keyword
from argparse import ArgumentParser
from pathlib import Path

from smallnets.files import check_new, new_folder

_HERE = Path(__file__).parent
TEMPLATE = next(path for path in (_HERE / "template", _HERE.parent / "template") if path.is_dir())
NAME = "mypackage"  # what the template's package is called, in its files and their paths


def main(words: list[str]) -> None:
    """The verb: the folder's name. Raises ValueError for what is wrong."""
    parser = ArgumentParser(
        prog="smallnets new", description="Write a package of one's own layers and tasks."
    )
    parser.add_argument("folder", type=Path, help="its last name is that of the package")
    folder = parser.parse_args(words).folder
    write(folder)
    print(f"{folder}: change its layers, tasks and configs; README.md says how to run them")


def write(folder: Path) -> None:
    """Write the template as ``folder``, whole or not at all, named by the folder.

    Raises ValueError where the folder is there and not empty, and where its name can't be that of
    a package or is that of one which is installed.
    """
    folder = folder.absolute()
    name = folder.name
    check_new(folder)
    if not name.isidentifier() or keyword.iskeyword(name) or name == "tests":
        raise ValueError(
            f"the folder's name is that of the package, so it is letters, digits and underscores, "
            f"but is {name!r}: name it for example {NAME}"
        )
    found = importlib.util.find_spec(name)
    if found and found.origin:  # an empty folder is found too, without an origin
        raise ValueError(f"a package {name!r} is installed here already: name the folder otherwise")
    with new_folder(folder) as draft:
        for path in sorted(TEMPLATE.rglob("*")):
            if path.is_dir() or "__pycache__" in path.parts:
                continue
            target = Path(draft, str(path.relative_to(TEMPLATE)).replace(NAME, name))
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(path.read_text().replace(NAME, name))

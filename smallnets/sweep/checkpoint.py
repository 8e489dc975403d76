"""Checkpoints of runs in training: written by Orbax, whole or not there, and known by checksums.

They lie in the study's folder, ``.checkpoints/RUNS/EVALUATIONS``: ``state``, which is Orbax's, and
``about.json``, which says whose state it is and holds a SHA-256 of every file of it, since Orbax
restores a flipped bit without a word. The newest two are kept, so that one that is damaged leaves
the one before. Several processes may train the same runs: what one removes or replaces, another
passes over.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Set
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from smallnets.files import is_gone, process, replacing
from smallnets.sweep.hosts import agreed, leads, wait

FOLDER, ABOUT, STATE, DRAFT = ".checkpoints", "about.json", "state", "draft"
KEPT = 2


@dataclass(frozen=True)
class Checkpoints:
    """Those of the runs that ``identity`` describes, in a folder of their own below ``study``.

    ``identity`` is JSON of all on which the bits of the state depend: another one's checkpoint is
    not used. ``say`` takes a line about each that is passed over.
    """

    study: Path
    identity: dict[str, Any]
    say: Callable[[str], None]

    @property
    def folder(self) -> Path:
        return self.study / FOLDER / _digest(self.identity["keys"])[:16]

    def save(self, done: int, carry: Any, spent: float) -> None:
        """Keep the carry after ``done`` evaluations, which took ``spent`` seconds."""
        import orbax.checkpoint as ocp  # which takes a second, and most sweeps need none

        draft, path = self.folder / f"{DRAFT}.{self._writer()}", self.folder / f"{done:09d}"
        if leads():
            for each in (draft, path):  # what was left behind, or was passed over as damaged
                shutil.rmtree(each, ignore_errors=True)
            draft.mkdir(parents=True, exist_ok=True)  # another process may have removed the folder
        wait("before a checkpoint")
        # Of arrays on several devices Orbax writes each part by itself.
        leaves = {
            str(i): leaf if _is_spread(leaf) else np.asarray(leaf)
            for i, leaf in enumerate(jax.tree.leaves(carry))
        }
        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
            # Orbax refuses an array of nothing.
            checkpointer.save(
                (draft / STATE).absolute(),
                {name: leaf for name, leaf in leaves.items() if leaf.size},
            )
        wait("a checkpoint's arrays")
        if leads():
            with suppress(FileNotFoundError):  # another process ended the runs and removed them all
                self._finish(draft, path, done, spent)
        wait("a checkpoint")

    def _finish(self, draft: Path, path: Path, done: int, spent: float) -> None:
        """Say what a checkpoint is, put it in its place, and remove older ones."""
        said = {"identity": self.identity, "done": done, "spent": spent, "files": _sums(draft)}
        with replacing(draft / ABOUT) as file:
            file.write_text(json.dumps({"said": said, "sha256": _digest(said)}))
        with suppress(OSError):  # another process keeps the same state there
            draft.rename(path)
        shutil.rmtree(draft, ignore_errors=True)
        before = [old for old in self._paths() if old.name < path.name]
        for old in before[: 1 - KEPT]:
            with suppress(FileNotFoundError):
                old.rename(draft)  # so that none is ever half there
            shutil.rmtree(draft, ignore_errors=True)

    def newest(self, like: Any) -> tuple[int, Any, float] | None:
        """The newest sound checkpoint, as :meth:`save` was given it; None where there is none.

        ``like`` is a carry of the same structure, shapes and types. Where its leaves have places on
        devices, those that are read have them, whichever they were written from.
        """
        for path in reversed(self._paths()):
            try:
                return self._read(path, like)
            except FileNotFoundError:
                continue  # another process removed it
            except ValueError as error:
                self.say(f"{path}: {error}, so the checkpoint before it, if any, is used")
        return None

    def remove(self) -> None:
        """Remove all of them: their runs are done."""
        _remove(self.folder)

    @staticmethod
    def _writer() -> str:
        """A name that all processes of this sweep have, and no other process."""
        return process() if jax.process_count() == 1 else f"together.{agreed(os.getpid())}"

    def _paths(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        return sorted(path for path in self.folder.iterdir() if path.name.isdigit())

    def _read(self, path: Path, like: Any) -> tuple[int, Any, float]:
        """Raises ValueError, which says what is wrong, for one that is not to be used."""
        try:
            about = json.loads((path / ABOUT).read_text())
            said, digest = about["said"], about["sha256"]
        except (OSError, ValueError, KeyError, TypeError):
            raise ValueError("it is no checkpoint") from None
        if _digest(said) != digest or _sums(path) != said["files"]:
            raise ValueError("it is damaged") from None
        if said["identity"] != self.identity:
            other = [
                name for name in self.identity if said["identity"].get(name) != self.identity[name]
            ]
            raise ValueError(f"it is of another {' and '.join(other)}")
        import orbax.checkpoint as ocp

        leaves, structure = jax.tree.flatten(like)
        wanted = {
            str(i): ocp.ArrayRestoreArgs(sharding=leaf.sharding, global_shape=leaf.shape)
            if isinstance(leaf, jax.ShapeDtypeStruct)
            else ocp.RestoreArgs(restore_type=np.ndarray)
            for i, leaf in enumerate(leaves)
            if leaf.size
        }
        try:
            with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
                found = checkpointer.restore((path / STATE).absolute(), restore_args=wanted)
        except Exception as error:  # Orbax has a different one for every damage
            raise ValueError(f"it can't be restored ({type(error).__name__})") from error
        read = [found.get(str(i), leaf) for i, leaf in enumerate(leaves)]
        if [(x.shape, x.dtype) for x in read] != [(x.shape, x.dtype) for x in leaves]:
            raise ValueError("it is of another network or trainer")
        return said["done"], jax.tree.unflatten(structure, read), said["spent"]


def _is_spread(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and len(leaf.sharding.device_set) > 1


def _remove(folder: Path) -> None:
    """Remove some runs' checkpoints, under a name that says whose rest it is if this is killed."""
    gone = folder.with_name(f"{DRAFT}.{process()}")
    with suppress(OSError):  # there are none, or another process was first
        folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def remove_done(study: Path, done: Set[str]) -> None:
    """Remove the checkpoints below ``study`` of runs that are all ``done``, keys of runs, and what
    processes of this machine left that were killed while they wrote or removed one.

    Some of those that were trained together may have been published before the process was
    killed, so that those left were trained by a program of their own.
    """
    for folder in (study / FOLDER).glob("*/"):
        abouts = sorted(folder.glob(f"[0-9]*/{ABOUT}"))
        with suppress(OSError, ValueError, KeyError, TypeError):  # another process's, or damaged
            if abouts and done >= {*json.loads(abouts[-1].read_text())["said"]["identity"]["keys"]}:
                _remove(folder)
        for draft in (folder, *folder.glob(f"{DRAFT}.*")):
            if is_gone(draft.name.removeprefix(f"{DRAFT}.")):
                shutil.rmtree(draft, ignore_errors=True)
        with suppress(OSError):  # it holds others, or is gone
            folder.rmdir()


def _sums(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file below the folder's state."""
    state = folder / STATE
    return {
        str(path.relative_to(state)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(state.rglob("*"))
        if path.is_file()
    }


def _digest(said: Any) -> str:
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()

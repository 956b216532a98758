"""The one gate that every output passes before anything heavy is loaded.

A command's own inputs, folders that others filled, and what could not be written after all the
work are refused here.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from audioldm_utils.errors import UserError
from audioldm_utils.files import atomic_write

MARK = ".audioldm-utils"
"""File in an output folder that says which command fills it."""

# What a folder that is empty to its owner may hold.
_NOTHING = frozenset({MARK, ".lock", ".DS_Store"})


@dataclass(frozen=True)
class Kind:
    """What is written, as the beginning of a sentence, and the suffixes that it may have."""

    what: str
    suffixes: tuple[str, ...]

    def check(self, path: Path) -> None:
        """Raise a UserError unless the path has one of the suffixes."""
        if path.suffix.lower() not in self.suffixes:
            *most, last = self.suffixes
            listed = f"{', '.join(most)} or {last}" if most else last
            raise UserError(f"{path}: {self.what} written as {listed}; change the suffix.")


AUDIO = Kind("audio is", (".wav", ".flac"))
CODES = Kind("codes are", (".ddcm",))
TABLE = Kind("the table is", (".csv", ".parquet"))
DIFFERENCES = Kind("the table is", (".csv",))


def check_outputs(
    outputs: Iterable[str | Path], inputs: Iterable[str | Path] = (), kind: Kind | None = None
) -> None:
    """Refuse files that cannot or must not be written. Nothing is made or changed.

    A UserError for a suffix that is not of the kind, an input of the same run (a symbolic or a
    hard link is the same file), a folder, no ordinary file, write protection, two outputs of one
    name, or no folder that can be written to.
    """
    outputs = [Path(path) for path in outputs]
    read = {file: path for path in inputs if (file := _file(path)) is not None}
    for path in outputs:
        if kind is not None:
            kind.check(path)
        file = _file(path)
        wrong = {
            "an input of this run and would be overwritten; name another output": file in read,
            "a folder; name a file": path.is_dir(),
            "no ordinary file; name another output": file is not None and not path.is_file(),
            "write-protected; name another output": file and not os.access(path, os.W_OK),
        }
        for what, holds in wrong.items():
            if holds:
                raise UserError(f"{path} is {what}.")
    if len(set(outputs)) < len(outputs):
        twice = next(path for path in outputs if outputs.count(path) > 1)
        raise UserError(f"{twice} would be written twice; give its inputs names of their own.")
    for parent in {path.parent for path in outputs}:
        check_place(parent)


def check_folder(folder: str | Path, maker: str, only: frozenset[str] | None = None) -> None:
    """Refuse an output folder that holds what its maker did not write; it need not exist.

    A UserError if it is not empty and not its maker's (the command that fills it, as
    :func:`mark_folder` noted), a file, or not to be written to.

    Args:
        only: names that count as something; None means all.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; name a folder for the output.")
    check_place(folder)
    if not folder.is_dir() or _maker(folder) == maker:
        return
    names = {path.name for path in folder.iterdir()} - _NOTHING
    # A run that was killed as it wrote its mark may have left that half-written.
    there = {name for name in names if not name.startswith(f".{MARK}.")}
    if there if only is None else there & only:
        raise UserError(
            f"{folder} is not empty and was not written by `audioldm-utils {maker}`; name a new"
            " folder, or one that it wrote before."
        )


def mark_folder(folder: str | Path, maker: str) -> None:
    """Note whose folder this is; it is made if need be."""
    if _maker(Path(folder)) != maker:
        atomic_write(Path(folder) / MARK, f"{maker}\n")


def _maker(folder: Path) -> str | None:
    try:
        return (folder / MARK).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def _file(path: str | Path) -> tuple[int, int] | None:
    """What identifies a file, whichever path leads to it; None if it is not there."""
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; name another file.") from error
    return found.st_dev, found.st_ino


def check_place(folder: Path) -> None:
    """The nearest folder that exists must let files be made in it."""
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise UserError(f"{folder} cannot be made: {place} is a file; name another output.")
    if not os.access(place, os.W_OK | os.X_OK):
        raise UserError(f"{place} cannot be written to; name another place for the output.")

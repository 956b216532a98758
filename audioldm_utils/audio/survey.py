"""The clips of a folder that can be used; those that cannot are named and left out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import soundfile

from audioldm_utils import bounds
from audioldm_utils.audio.clips import Clip, ClipInfo, find_clips, load_clip
from audioldm_utils.errors import UserError
from audioldm_utils.text import one_line

#: Seconds of each clip that chapters use, from its start: what the model was trained on.
LONGEST = 10.24

#: What a chapter says in place of a figure by class.
NO_CLASS = (
    "None of these clips has a class; a manifest.csv beside them, with the columns file and class,"
    " gives them one."
)

# What people keep beside their audio; nobody needs to hear that it is not audio.
_COMPANIONS = frozenset({".csv", ".json", ".md", ".yml", ".yaml", ".png", ".jpg", ".parquet"})


@dataclass(frozen=True)
class Survey:
    """What a folder holds."""

    usable: list[ClipInfo]
    refused: list[str]  # a sentence for each clip that cannot be used; it names the file
    longer: list[str]  # names of usable clips of which only the first LONGEST seconds are used
    ignored: list[str]  # names of files that are no audio by their suffix

    def sentences(self) -> list[str]:
        """What the reader should know, a line each; none where there is nothing to say."""
        lines = [f"left out: {sentence}" for sentence in self.refused]
        if self.longer:
            lines.append(f"only the first {LONGEST:g} s are used of: {', '.join(self.longer)}")
        if self.ignored:
            lines.append(f"not audio by their names, passed over: {', '.join(self.ignored)}")
        named = [info for info in self.usable if info.named]
        if named:
            lines.append(
                f"captions are the words of file names, such as «{named[0].caption}» for"
                f" {named[0].path.name}; a manifest.csv with the columns file, caption and class"
                " says better"
            )
        return [one_line(line) for line in lines]


def survey(folder: str | Path, limit: int = 0) -> Survey:
    """Open every clip of a folder and sort out what cannot be used.

    It stops after ``limit`` usable clips; 0 is all. A UserError if there is no such folder, no
    audio in it, or none of it can be used.
    """
    folder = Path(folder)
    bounds.CLIPS_OR_ALL.check("limit", limit)
    found = find_clips(folder)
    usable, refused, longer = [], [], []
    for info in found:
        try:
            load_clip(info, LONGEST)
        except UserError as error:
            refused.append(str(error))
            continue
        usable.append(info)
        if soundfile.info(info.path).duration > LONGEST + 0.01:
            longer.append(info.name)
        if len(usable) == limit:
            break
    if not usable:
        many = f"{folder}: none of its {len(found)} clips can be used, the first since "
        raise UserError(refused[0] if len(found) == 1 else many + refused[0])
    known = {info.path.name for info in found}
    ignored = [
        path.name
        for path in (sorted(folder.iterdir()) if folder.is_dir() else ())
        if path.is_file()
        and path.name not in known
        and not path.name.startswith(".")
        and path.suffix.lower() not in _COMPANIONS
    ]
    listed = (folder / "manifest.csv").is_file()
    return Survey(usable, refused, longer, [] if listed else ignored)


def loaded(
    infos: Iterable[ClipInfo], max_seconds: float | None = None, say: Callable[[str], None] = print
) -> Iterator[Clip]:
    """The clips that can be loaded, one after another; says of each other why it is left out.

    A UserError if none of them can be used.
    """
    some, last = False, None
    for info in infos:
        try:
            clip = load_clip(info, max_seconds)
        except UserError as error:
            last = error
            say(f"left out: {error}")
        else:
            some = True
            yield clip
    if last is not None and not some:
        raise last


def spread_clips(folder: str | Path, limit: int | None = None) -> list[ClipInfo]:
    """At most ``limit`` clips of a folder, evenly spread over it; None is all."""
    found = find_clips(folder)
    count = min(len(found), limit or len(found))
    return [found[round(i * len(found) / count)] for i in range(count)]


def usable_clips(
    folder: str | Path, limit: int = 0, say: Callable[[str], None] = print
) -> list[ClipInfo]:
    """The clips of a folder for a chapter, as :func:`survey` sorts them; says what is left out."""
    found = survey(folder, limit)
    for line in found.sentences():
        say(line)
    return found.usable

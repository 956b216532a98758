"""What the name of a clip's file and the columns of a manifest tell: caption and recording.

Clips of one recording are no independent observations: a mean over four strings of one sitar says
less than one over four instruments. Intervals and tests therefore draw whole recordings.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

#: Words about the file and not about its sound.
_ABOUT_FILES = {
    *("audio", "clip", "copy", "edit", "export", "file", "final", "img", "khz", "mine", "mix"),
    *("mono", "mov", "new", "old", "output", "raw", "rec", "recording", "ref", "reference"),
    *("sample", "song", "sound", "stereo", "take", "temp", "test", "tmp", "track", "trim"),
    *("unknown", "untitled", "version", "vid", "wav"),
}
_JOINING = {"a", "an", "and", "at", "by", "for", "from", "in", "into", "of", "on", "the", "to",
            "with"}  # fmt: skip


def caption_from_name(stem: str) -> str | None:
    """The words of a file name in lower case, or None where they say nothing about the sound.

    Words are told apart by ``_``, ``-``, ``.``, spaces and capitals; numbers, codes such as
    ``1-100032-A``, words without a vowel and words about the file itself are left out: so
    ``DogBarking-2`` is ``dog barking``, and ``track_03`` nothing.
    """
    chunks = [chunk.strip("0123456789") for chunk in re.split(r"[\W_]+", stem)]
    words = [
        word.lower()
        for chunk in chunks
        if not re.search(r"\d", chunk)  # else a code, such as a1b2c3
        for word in re.split(r"(?<=[^\W\d_A-Z])(?=[A-Z])", chunk)
    ]
    kept = [word for word in words if word in _JOINING or _says_something(word)]
    while kept and kept[0] in _JOINING - {"a", "an", "the"}:
        kept.pop(0)
    while kept and kept[-1] in _JOINING:
        kept.pop()
    return " ".join(kept) or None


def _says_something(word: str) -> bool:
    if not word or word in _ABOUT_FILES:
        return False
    return not word.isascii() or (len(word) > 2 and re.search("[aeiouy]", word) is not None)


def recordings(rows: Sequence[Mapping[str, str]], takes: bool = True) -> list[int]:
    """The recording that each clip belongs to, as the place of the first of its clips.

    Clips belong together that share a source file, also through a third clip: two excerpts of one
    recording, two melodies of the same notes.

    Args:
        rows: a manifest's, with ``file`` and maybe ``source_repo`` and ``source_path`` (paths
            apart by ``;``, each with the excerpt's start as ``@12.3s``, if it is one); a clip
            that has a ``recording`` belongs to that one alone.
        takes: so do clips of one source in different takes (:func:`take_of`), as the notes of
            one piano.
    """
    parent: dict[object, object] = {}

    def root(item: object) -> object:
        while parent.setdefault(item, item) != item:
            item = parent[item]
        return item

    for row in rows:
        if row.get("recording"):
            parent[root(("recording", row["recording"]))] = root(row["file"])
            continue
        for path in filter(None, (row.get("source_path") or "").split(";")):
            path = re.sub(r"@[\d.]+s$", "", path.strip())
            source = ("source", row.get("source_repo") or "", take_of(path) if takes else path)
            parent[root(source)] = root(row["file"])
    first: dict[object, int] = {}
    return [first.setdefault(root(row["file"]), place) for place, row in enumerate(rows)]


def take_of(path: str) -> str:
    """A source's path without what tells its takes apart: notes, dynamics and short numbers.

    ``Piano/A2v16.wav`` and ``Piano/F#4v16.wav`` are both ``Piano/``. Of a file's name words of
    three letters and numbers of four digits are kept; those of a database, such as
    ``5-203128-A.ogg``, tell recordings apart. So does a name without words or digits.
    """
    folder, _, file = path.rpartition("/")
    stem = file.rpartition(".")[0] or file
    kept = re.sub(r"(?<!\d)\d{1,3}(?!\d)", "", stem)
    words = re.findall(r"[^\W\d_]{3,}|\d{4,}", kept)
    return f"{folder}/{' '.join(words) or (stem if kept == stem else '')}"


def collection(row: Mapping[str, str]) -> str:
    """Whose collection a clip comes from: the owner of its ``source_repo``; maybe empty."""
    return (row.get("source_repo") or "").partition("/")[0]

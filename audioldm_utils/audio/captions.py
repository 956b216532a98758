"""A caption from a file's name, where no manifest gives one: ``rain_on_roof_02.wav``."""

from __future__ import annotations

import re

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

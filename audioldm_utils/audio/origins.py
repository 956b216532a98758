"""Which clips belong together: what they were cut from, by the columns of a manifest.

Clips of one recording are no independent observations: a mean over four strings of one sitar says
less than one over four instruments. Intervals and tests therefore draw whole recordings.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence


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

"""Where a report's files lie, and how a chapter's earlier results outlive its next run.

A chapter writes into its own results folder. Until its new results are whole, the earlier ones
lie in ``.previous/NAME``, and ``.previous/NAME.json`` says what there was. The new stamp is what
decides: once it is written, the new results count; before, the earlier ones do. So a run that
was killed at any moment is put right by the next one, whichever chapters that runs.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from audioldm_utils.files import atomic_write

#: Files that a killed run was about to rename.
_TEMPORARY = re.compile(r"\..+\.\d+\.tmp(\..+)?")


@dataclass(frozen=True)
class Layout:
    """Where things lie under the output folder of a report."""

    out: Path

    @property
    def notebooks(self) -> Path:
        """Executed notebooks; pages of the book have the same relative place."""
        return self.out / "notebooks"

    def executed(self, chapter: str) -> Path:
        """The executed notebook of a chapter."""
        return self.notebooks / f"{chapter}.ipynb"

    def running(self, chapter: str) -> Path:
        """The notebook of a chapter while it runs."""
        return self.out / ".running" / f"{chapter}.ipynb"

    def results(self, chapter: str) -> Path:
        """The folder that a chapter gets as ``out_dir``."""
        return self.out / "results" / chapter

    def previous(self, chapter: str) -> Path:
        """Its earlier results while it runs; a file beside them says what there was."""
        return self.out / ".previous" / chapter

    def stamp(self, chapter: str) -> Path:
        """The stamp of a chapter."""
        return self.out / "stamps" / f"{chapter}.json"

    def log(self, name: str) -> Path:
        """The log of a chapter or of the book's build."""
        return self.out / "logs" / f"{name}.log"

    @property
    def html(self) -> Path:
        """The book."""
        return self.out / "html"

    @property
    def html_before(self) -> Path:
        """The earlier book, for the moment in which the new one takes its place."""
        return self.out / ".html-before"


@contextmanager
def replacing(layout: Layout, chapter: str) -> Iterator[None]:
    """Give a chapter an empty results folder; the block runs it and writes its stamp at last.

    If the block fails before the stamp is there, or the process is killed, the earlier results
    are put back: here, or by :func:`recover` at the next run.
    """
    results, aside = layout.results(chapter), layout.previous(chapter)
    before = {"stamp": _stamp_text(layout, chapter), "results": results.exists()}
    atomic_write(_record(layout, chapter), json.dumps(before))
    try:
        if before["results"]:
            os.replace(results, aside)
        results.mkdir(parents=True)
        yield
    finally:
        _settle(layout, chapter)


def recover(layout: Layout) -> None:
    """Put right what killed runs left. To be called by whoever holds the folder's lock."""
    folder = layout.out / ".previous"
    for record in sorted(folder.glob("[!.]*.json")):
        _settle(layout, record.stem)
    for aside in sorted(p for p in folder.glob("*") if p.is_dir()):
        _put_back(layout, aside.name)  # of a version that wrote no records
    if layout.html_before.exists():
        if layout.html.exists():
            shutil.rmtree(layout.html_before)
        else:
            os.replace(layout.html_before, layout.html)
    for place in (layout.out, folder, layout.out / "stamps", layout.out / "results"):
        for path in place.glob(".*"):
            if _TEMPORARY.fullmatch(path.name):
                path.unlink()
    tidy(layout)


def tidy(layout: Layout) -> None:
    """Remove what is there only while chapters run; earlier results that are still aside stay."""
    shutil.rmtree(layout.out / ".running", ignore_errors=True)
    with suppress(OSError):  # not there, or not empty
        (layout.out / ".previous").rmdir()


def _settle(layout: Layout, chapter: str) -> None:
    """The new results if their stamp is there, else the earlier ones; may be cut off anywhere."""
    record = _record(layout, chapter)
    before = json.loads(record.read_text(encoding="utf-8"))
    stamp = _stamp_text(layout, chapter)
    if stamp is not None and stamp != before["stamp"]:
        if layout.running(chapter).is_file():
            layout.notebooks.mkdir(parents=True, exist_ok=True)
            os.replace(layout.running(chapter), layout.executed(chapter))
        if layout.previous(chapter).exists():
            shutil.rmtree(layout.previous(chapter))
    elif layout.previous(chapter).exists():
        _put_back(layout, chapter)
    elif not before["results"] and layout.results(chapter).exists():
        shutil.rmtree(layout.results(chapter))
    record.unlink()


def _put_back(layout: Layout, chapter: str) -> None:
    if layout.results(chapter).exists():
        shutil.rmtree(layout.results(chapter))
    layout.results(chapter).parent.mkdir(parents=True, exist_ok=True)
    os.replace(layout.previous(chapter), layout.results(chapter))


def _record(layout: Layout, chapter: str) -> Path:
    return layout.previous(chapter).with_name(f"{chapter}.json")


def _stamp_text(layout: Layout, chapter: str) -> str | None:
    path = layout.stamp(chapter)
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None

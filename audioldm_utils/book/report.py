"""From a folder of audio and a checkpoint to the book: run the chapters, build the pages.

Under the output folder lie afterwards ``html/`` (the book; open ``html/index.html``),
``notebooks/`` (executed), ``results/NN_title/`` (tables, figures and audio of each chapter),
``stamps/`` (what each was made from) and ``logs/``. The book needs no network and no server.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from audioldm_utils import __version__, bounds
from audioldm_utils.audio.clips import tables
from audioldm_utils.audio.survey import Survey, survey
from audioldm_utils.book.chapters import Chapter, check_parameters, find_chapters, is_paired, select
from audioldm_utils.book.execution import Stamp, environment_hash, hash_tree, run_chapters
from audioldm_utils.book.layout import Layout
from audioldm_utils.book.lifeline import command, lifeline
from audioldm_utils.book.pages import stage
from audioldm_utils.errors import UserError
from audioldm_utils.files import atomic_write, available_cores, folder_lock
from audioldm_utils.model.checkpoint_files import MINI
from audioldm_utils.outputs import check_folder, mark_folder
from audioldm_utils.text import code, plain

OWN = {
    "audio_dir": "; use --audio",
    "checkpoint": "; use --checkpoint",
    "out_dir": "; use --out",
    "evidence_dir": "",
}
"""Parameters that the report itself gives to the chapters that have them, and their options."""

FILLED = frozenset({"book.pdf", "html", "notebooks", "results", "stage", "stamps", "logs"})
"""What the report writes under the output folder; what else lies there is not touched."""


def run_report(
    audio_dir: str | Path,
    checkpoint: str | Path,
    out: str | Path,
    chapters: Iterable[str] | None = None,
    parameters: Mapping[str, Any] | None = None,
    jobs: int | None = None,
    root: str | Path | None = None,
    progress: IO[str] | None = sys.stderr,
) -> Path:
    """Run the chapters on audio and checkpoint and build the book.

    Only what changed runs: a chapter's stamp holds a hash of all that it was made from.

    Args:
        audio_dir: folder of clips, sought from the current folder, then from ``root``.
        checkpoint: ``mini``, a folder (sought likewise), or a hub id.
        chapters: numbers or names; those they read from come along. None means all.
        parameters: further ones, given to every chapter that declares them.
        jobs: chapters at once, each with cores / jobs threads; None means the number of cores.
        root: project folder; None means the current one or else the one of the package.

    Returns:
        The book's first page.

    Raises:
        UserError: something given cannot be used; nothing has been run.
        ChapterError: a cell failed; the message names notebook and cell.
    """
    root = find_root(root)
    out = Path(out)
    audio = _find_folder(audio_dir, root)
    if audio is None:
        raise UserError(f"{audio_dir}: there is no such folder of audio; name one by --audio.")
    local = None if str(checkpoint) == MINI else _find_folder(checkpoint, root)
    name = _shown(local, root) if local else str(checkpoint)
    _check_out(out, root, [audio, *([local] if local else [])])
    if jobs is not None:
        bounds.PROCESSES.check("jobs", jobs)
    chosen = select(find_chapters(root / "notebooks"), chapters)
    for word, option in OWN.items():
        if word in (parameters or {}):
            raise UserError(f"parameter {word} is given by the report itself{option}.")
    taken = check_parameters(chosen, parameters or {})
    _check_pairs(chosen)
    jobs = jobs or max(1, min(available_cores(), len(chosen)))
    layout, evidence = Layout(out), root / "book" / "evidence"
    for chapter in chosen:
        folders = _shown(audio, root), name, _shown(layout.results(chapter.name), root)
        own = dict(zip(OWN, (*folders, "book/evidence"), strict=True))
        taken[chapter.name] = chapter.only(own) | taken[chapter.name]
    limits = [taken[c.name].get("limit", 0) for c in chosen if c.parameter("audio_dir")]
    found = survey(audio, 0 if 0 in limits else max(limits, default=0))
    weights = checkpoint_hash(name, root)
    facts = _facts(audio, found, name, weights, root)
    sounds = hash_tree([audio, tables(audio)[1]])
    inputs = "\n".join([environment_hash(), sounds, weights, hash_tree([evidence])])
    with folder_lock(out) as lock, _display(chosen, progress) as (say, take):
        mark_folder(out, "report")
        for line in found.sentences():
            say(line)
        stamps = run_chapters(chosen, taken, layout, root, inputs, jobs, take, lock)
        say("building the book")
        folder = stage(root / "book", layout, chosen, stamps, facts)
        _write_execution(layout, chosen, stamps)
        return build_book(folder, layout, evidence, lock)


def _check_pairs(chapters: Iterable[Chapter]) -> None:
    for chapter in chapters:
        source = chapter.path.with_suffix(".py")
        if source.is_file() and not is_paired(chapter.path):
            raise UserError(
                f"{chapter.path.name} and {source.name} differ: write the notebook anew by "
                "`audioldm-utils report --write-pairs`."
            )


def _check_out(out: Path, root: Path, inputs: Iterable[Path]) -> None:
    """Refuse an output folder in which something would be lost.

    The clone's own ``build/`` may hold other commands' folders beside the report's.
    """
    place = out.resolve()
    check_folder(out, "report", FILLED if place == root / "build" else None)
    for sources in (root / "notebooks", root / "book"):
        if place.is_relative_to(sources):
            raise UserError(f"{out} lies in {sources}, which the book is made of; name another.")
    for given in inputs:
        if any(given.is_relative_to(place / name) for name in FILLED):
            raise UserError(f"{given} lies where the report writes; name another --out than {out}.")


def find_root(root: str | Path | None = None) -> Path:
    """The project folder: given, else the current one, else the one the package lies in."""
    candidates = [Path(root)] if root else [Path.cwd(), Path(__file__).resolve().parents[2]]
    for candidate in candidates:
        if (candidate / "notebooks").is_dir() and (candidate / "book").is_dir():
            return candidate.resolve()
    raise UserError(
        f"{candidates[0]} has no notebooks/ and book/: run the report in a clone of the project."
    )


def checkpoint_hash(checkpoint: str | Path, root: Path) -> str:
    """Hash of a checkpoint's files, or its name where it is a hub id."""
    shipped = root / "data" / "checkpoints" / checkpoint
    # A folder of the shipped checkpoint's name beside it is not meant: see `locate`.
    for folder in (shipped,) if str(checkpoint) == MINI else (root / checkpoint, shipped):
        if folder.is_dir():
            return hash_tree([folder])
    return str(checkpoint)


def build_book(folder: Path, layout: Layout, evidence: Path, lock: int | None = None) -> Path:
    """Build a staged folder; put results and evidence beside the pages; give ``index.html``.

    The earlier book is replaced only by a complete new one. The build ends with this process
    and holds ``lock``, the descriptor of the lock on the output folder, while it runs.

    Raises:
        UserError: Jupyter Book warned or failed; the message quotes it.
    """
    work = layout.out / ".book"
    shutil.rmtree(work, ignore_errors=True)
    words = ["build", str(folder), "--path-output", str(work), "-W", "--keep-going", "--all"]
    build = command("jupyter_book.cli.main:main", *words)
    log = layout.log("book")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as handle, lifeline(lock) as (variables, passed):
        environment = {**os.environ, **variables, "PYTHONWARNINGS": "ignore"}
        options = {"stdout": handle, "stderr": subprocess.STDOUT, "pass_fds": passed}
        status = subprocess.run(build, env=environment, check=False, **options).returncode
    built = work / "_build" / "html"
    if status != 0 or not (built / "index.html").is_file():
        lines = plain(log.read_text(errors="replace")).splitlines()
        said = [x.strip() for x in lines if re.search(r"WARNING|ERROR|rror: |exception:", x)]
        raise UserError(f"the book did not build (all of it: {log}): " + " / ".join(said[:5]))
    copies = {layout.out / "results": "results", evidence: "results/evidence"}
    for source, place in copies.items():
        if source.is_dir():
            shutil.copytree(source, built / place)
    shutil.rmtree(built / ".doctrees", ignore_errors=True)
    shutil.rmtree(layout.html_before, ignore_errors=True)
    if layout.html.exists():
        os.replace(layout.html, layout.html_before)
    os.replace(built, layout.html)
    for gone in (layout.html_before, work):
        shutil.rmtree(gone, ignore_errors=True)
    return layout.html / "index.html"


def _shown(path: Path, root: Path) -> str:
    """A path as the notebooks show it: relative to the project folder if it lies there."""
    path = path.resolve()
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def _find_folder(path: str | Path, root: Path) -> Path | None:
    """A folder, sought from the current one and then from the project's."""
    places = (Path.cwd() / path, root / path)
    return next((place.resolve() for place in places if place.is_dir()), None)


def _facts(audio: Path, found: Survey, checkpoint: str, digest: str, root: Path) -> dict[str, str]:
    skipped = "\n".join(f"- {code(line)}" for line in found.sentences())
    return {
        "audio": code(_shown(audio, root)),
        "clips": str(len(found.usable)),
        "skipped": skipped or "No clip was left out; chapters use the beginning of each.",
        "checkpoint": code(checkpoint),
        "fingerprint": digest[:12] if digest != checkpoint else "unknown: not a local folder",
        "version": __version__,
        "cores": str(available_cores()),
        "python": ".".join(map(str, sys.version_info[:3])),
    }


def _write_execution(layout: Layout, chapters: list[Chapter], stamps: Mapping[str, Stamp]) -> None:
    rows = ["chapter,cells,seconds,peak_mb"]
    for s in (stamps[chapter.name] for chapter in chapters):
        rows.append(f"{s.chapter},{s.cells},{s.seconds},{s.peak_mb}")
    atomic_write(layout.out / "results" / "execution.csv", "\n".join(rows) + "\n")


@contextmanager
def _display(
    chapters: list[Chapter], stream: IO[str] | None
) -> Iterator[tuple[Callable[[str], None], Callable[[str, str, Mapping[str, Any]], None]]]:
    """One bar over the cells of all chapters: shows a line above it, takes events of a run."""
    from tqdm import tqdm

    cells = {chapter.name: chapter.cells for chapter in chapters}
    done, running, lock = dict.fromkeys(cells, 0), {}, threading.Lock()
    shown = stream is not None and stream.isatty()
    options = {"unit": "cell", "desc": "report", "file": stream, "dynamic_ncols": True}
    with tqdm(total=sum(cells.values()), disable=not shown, **options) as bar:

        def say(text: str) -> None:
            if stream is not None:
                bar.write(text, file=stream)
                stream.flush()

        def advance(chapter: str, to: int) -> None:
            bar.update(to - done[chapter])
            done[chapter] = to

        def take(event: str, chapter: str, details: Mapping[str, Any]) -> None:
            with lock:  # events come from several threads
                if event == "cell":
                    advance(chapter, details["cell"] - 1)
                    running[chapter] = details["cell"]
                elif event in ("finished", "reused", "failed"):
                    running.pop(chapter, None)
                    if event != "failed":
                        advance(chapter, cells[chapter])
                    said = {"failed": "failed", "reused": "unchanged"}.get(event)
                    cost = said or f"{details['seconds']:.1f} s, {details['peak_mb']:.0f} MB"
                    say(f"{chapter}: {cost}")
                at = [f"{name[:2]}:{n}/{cells[name]}" for name, n in sorted(running.items())]
                bar.set_postfix_str(" ".join(at))

        yield say, take

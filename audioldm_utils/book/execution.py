"""Run chapters through papermill: in parallel, only what changed, nothing half-written.

Every chapter runs in a worker process of its own (``python -m audioldm_utils.book.worker``),
which starts one kernel, reports each cell as it begins, and measures seconds and the kernel's
peak memory. A chapter writes its tables, figures and audio into its own results folder; a
stamp beside them holds the hash of everything that went in and the list of what came out.
"""

from __future__ import annotations

import contextlib
import graphlib
import hashlib
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from audioldm_utils.book.chapters import Chapter
from audioldm_utils.book.layout import Layout, recover, replacing, tidy
from audioldm_utils.book.lifeline import command, lifeline
from audioldm_utils.errors import UserError
from audioldm_utils.files import (
    PAGE_VARIABLE,
    atomic_write,
    available_cores,
    package_hash,
    sha256_file,
    thread_limits,
)

NOT_IN_CHAPTERS = frozenset(
    {
        *("cli", "sweep", "book/report", "book/pages", "book/execution"),
        *("book/chapters", "book/worker", "book/layout", "book/lifeline"),
        *("book/printing", "book/reference"),
    }
)
"""Modules and folders of the package that no chapter's page depends on."""


@dataclass
class Stamp:
    """What a chapter's run was made from, what it cost and what it left."""

    chapter: str
    key: str
    seconds: float
    peak_mb: float
    cells: int
    files: dict[str, int] = field(default_factory=dict)
    reused: bool = False


class ChapterError(UserError):
    """One or more chapters failed; the message names notebook, cell and the last line."""

    @property
    def sentences(self) -> list[str]:
        """One for each chapter that failed."""
        return str(self).splitlines()


def hash_tree(paths: Iterable[Path]) -> str:
    """SHA-256 over names, relative to each path, and contents of files and of all under folders.

    Hidden files, caches and missing paths are passed over.
    """
    digest = hashlib.sha256()
    for root in paths:
        files = [root] if root.is_file() else sorted(p for p in root.rglob("*") if p.is_file())
        for path in files:
            name = path.relative_to(root).as_posix() if path != root else path.name
            if any(part.startswith(".") or part == "__pycache__" for part in Path(name).parts):
                continue
            digest.update(f"{name}\0{sha256_file(path)}\0".encode())
    return digest.hexdigest()


def environment_hash() -> str:
    """SHA-256 over Python, all installed versions and the package source chapters can import."""
    versions = sorted({f"{d.name}=={d.version}" for d in importlib.metadata.distributions()})
    sources = package_hash(NOT_IN_CHAPTERS, {".py", ".css", ".js", ".csv", ".safetensors"})
    return hashlib.sha256(f"{sys.version}\n{versions}\n{sources}".encode()).hexdigest()


def chapter_key(
    chapter: Chapter, parameters: Mapping[str, Any], inputs: str, upstream: Mapping[str, str]
) -> str:
    """Hash of all that a run depends on: notebook, parameters, inputs, keys of what it reads."""
    text = json.dumps(
        [sha256_file(chapter.path), dict(parameters), inputs, dict(upstream)], sort_keys=True
    )
    return hashlib.sha256(text.encode()).hexdigest()


def read_stamp(layout: Layout, chapter: str) -> Stamp | None:
    """The stamp of a chapter whose files are all still there in their sizes, else None."""
    try:
        stamp = Stamp(**json.loads(layout.stamp(chapter).read_text()))
    except (FileNotFoundError, json.JSONDecodeError, TypeError):
        return None  # none, of another version, or damaged: the chapter runs again
    places = {layout.out / name: size for name, size in stamp.files.items()}
    kept = all(path.is_file() and path.stat().st_size == size for path, size in places.items())
    return stamp if kept else None


def run_chapters(
    chapters: Sequence[Chapter],
    parameters: Mapping[str, Mapping[str, Any]],
    layout: Layout,
    root: Path,
    inputs: str,
    jobs: int,
    report: Callable[[str, str, Mapping[str, Any]], None],
    lock: int | None = None,
) -> dict[str, Stamp]:
    """Run what changed, each chapter after those it reads from, up to ``jobs`` at once.

    A failure stops the chapters that read from the failed one and no others. A failed chapter
    leaves its earlier results and executed notebook as they were. Workers and kernels end with
    this process, however it ends.

    Args:
        parameters: chapter name to all injected parameters, results folder included.
        root: project folder; kernels run there.
        inputs: hash of environment, audio, checkpoint and evidence.
        jobs: workers at once; each gets cores / jobs threads.
        report: called from several threads with an event (``"reused"``, ``"started"``,
            ``"cell"``, ``"finished"``, ``"failed"``), the chapter and details.
        lock: descriptor of the lock on ``layout.out``, which workers and kernels hold too.

    Raises:
        ChapterError: after all that could run has run.
    """
    names = {chapter.name: chapter for chapter in chapters}
    sorter = graphlib.TopologicalSorter({c.name: c.after for c in chapters})
    sorter.prepare()
    stamps: dict[str, Stamp] = {}
    failures: dict[str, str] = {}
    running: dict[Future[Stamp], str] = {}
    workers: set[subprocess.Popen[str]] = set()
    recover(layout)
    with (
        _worker_options(max(1, available_cores() // jobs), layout, lock) as options,
        ThreadPoolExecutor(jobs) as pool,
        _stop_on_failure(pool, workers),
    ):
        while sorter.is_active():
            for name in sorter.get_ready():
                chapter = names[name]
                if missing := [earlier for earlier in chapter.after if earlier not in stamps]:
                    failures[name] = f"{name} was not run, since {missing[0]} failed"
                    sorter.done(name)
                    continue
                read = {earlier: stamps[earlier].key for earlier in chapter.after}
                key = chapter_key(chapter, parameters[name], inputs, read)
                job = (chapter, parameters[name], key, layout, root, options, workers, report)
                running[pool.submit(_run_one, *job)] = name
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for work in finished:
                name = running.pop(work)
                try:
                    stamps[name] = work.result()
                except ChapterError as error:
                    failures[name] = str(error)
                except OSError as error:  # disk full, folder read-only: not the chapter's fault
                    failures[name] = f"{name} could not be kept: {error}"
                sorter.done(name)
    tidy(layout)
    if failures:
        raise ChapterError("\n".join(failures[name] for name in names if name in failures))
    return stamps


def _run_one(
    chapter: Chapter,
    parameters: Mapping[str, Any],
    key: str,
    layout: Layout,
    root: Path,
    options: Mapping[str, Any],
    workers: set[subprocess.Popen[str]],
    report: Callable[[str, str, Mapping[str, Any]], None],
) -> Stamp:
    """Run one chapter in a worker, unless what it left is right; see ``replacing``."""
    name, temporary, log = chapter.name, layout.running(chapter.name), layout.log(chapter.name)
    kept = read_stamp(layout, name)
    if kept and kept.key == key:
        kept.reused = True
        report("reused", name, asdict(kept))
        return kept
    for path in (temporary, log):
        path.parent.mkdir(parents=True, exist_ok=True)
    job = {"notebook": str(chapter.path.resolve()), "output": str(temporary.resolve())}
    job |= {"parameters": dict(parameters), "cwd": str(root)}
    with replacing(layout, name):
        report("started", name, {"cells": chapter.cells})
        outcome: dict[str, Any] = {}
        with log.open("w") as said:
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": said}
            work = command("audioldm_utils.book.worker")
            worker = subprocess.Popen(work, text=True, **pipes, **options)
            workers.add(worker)
            try:
                # A worker that died at once is told apart below, by what it did not say.
                with contextlib.suppress(BrokenPipeError):
                    worker.stdin.write(json.dumps(job))
                    worker.stdin.close()
                for line in worker.stdout:
                    outcome = json.loads(line)
                    if outcome["event"] == "cell":
                        report("cell", name, outcome)
                worker.wait()
            finally:
                worker.terminate()
                worker.wait()
                workers.discard(worker)
        if outcome.get("event") != "finished":
            report("failed", name, outcome)
            if outcome.get("event") != "failed":
                died = f"its kernel died (exit status {worker.returncode}); the log is {log}."
                raise ChapterError(f"{chapter.path.name}: {died}")
            reached = log.with_suffix(".ipynb")
            os.replace(temporary, reached)
            raise ChapterError(
                f"{chapter.path.name}, cell {outcome['cell']} (`{outcome['line']}`) failed: "
                f"{outcome['error']} The notebook as far as it came is {reached}."
            )
        left = {layout.executed(name): temporary}
        left |= {p: p for p in sorted(layout.results(name).rglob("*")) if p.is_file()}
        files = {p.relative_to(layout.out).as_posix(): q.stat().st_size for p, q in left.items()}
        cost = outcome["seconds"], outcome["peak_mb"], chapter.cells
        stamp = Stamp(name, key, *cost, files)
        # From here on the new results count; the notebook follows, even after a kill.
        atomic_write(layout.stamp(name), json.dumps(asdict(stamp), indent=1) + "\n")
    report("finished", name, asdict(stamp))
    return stamp


@contextlib.contextmanager
def _stop_on_failure(
    pool: ThreadPoolExecutor, workers: set[subprocess.Popen[str]]
) -> Iterator[None]:
    """On an interruption start nothing that still waits and end what runs, kernels included."""
    try:
        yield
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for worker in list(workers):
            worker.terminate()
        raise


@contextlib.contextmanager
def _worker_options(threads: int, layout: Layout, lock: int | None) -> Iterator[dict[str, Any]]:
    """Options of ``Popen`` for workers: environment, and what ties them to this process."""
    # Comes before any kernel that the user has as python3, perhaps of another interpreter.
    folder = layout.out.resolve() / ".kernel"
    launch = command("ipykernel_launcher", "-f", "{connection_file}")
    specification = {"argv": launch, "display_name": "Python 3", "language": "python"}
    atomic_write(folder / "kernels" / "python3" / "kernel.json", json.dumps(specification))
    environment = os.environ | thread_limits(threads)
    package = Path(__file__).resolve().parents[2]
    for variable, first in (("JUPYTER_PATH", folder), ("PYTHONPATH", package)):
        both = [str(first), environment.get(variable)]
        environment[variable] = os.pathsep.join(filter(None, both))
    environment["IPYTHONDIR"] = str(folder / "ipython")
    environment["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"
    environment[PAGE_VARIABLE] = str(layout.notebooks.resolve())
    try:
        with lifeline(lock) as (variables, passed):
            yield {"env": {**environment, **variables}, "pass_fds": passed}
    finally:
        shutil.rmtree(folder, ignore_errors=True)

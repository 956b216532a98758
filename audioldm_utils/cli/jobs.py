"""A file or a whole folder: what commands that turn files into files share."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from audioldm_utils.errors import UserError
from audioldm_utils.outputs import AUDIO, CODES, Kind, check_outputs
from audioldm_utils.text import visible


def pairs(
    source: str | Path, target: str | Path, suffix: str, audio: bool
) -> list[tuple[Path, Path]]:
    """Input and output of each file; every output has passed the gate.

    Args:
        source, target: two files, or two folders.
        suffix: of outputs in a folder.
        audio: the inputs are audio files, else ``.ddcm`` files.
    """
    given, wanted = Path(source), Path(target)
    kind = CODES if suffix in CODES.suffixes else AUDIO
    if not given.is_dir():
        if not given.exists():
            raise UserError(f"{given}: no such file or folder; check the path")
        if wanted.is_dir():
            raise UserError(f"{wanted} is a folder; name the output file for {given}")
        check_outputs([wanted], [given], kind)
        return [(given, wanted)]
    check_target(given, wanted, kind)
    if audio:
        from audioldm_utils.audio.clips import clip_files, find_clips

        clips = find_clips(given)
        jobs = [(clip.path, wanted / f"{clip.name}{suffix}") for clip in clips]
        inputs = clip_files(given, clips)
    else:
        inputs = sorted(given.glob("*.ddcm"))
        if not inputs:
            raise UserError(f"{given} holds no .ddcm files; give a folder that `encode` wrote")
        jobs = [(path, wanted / f"{path.stem}{suffix}") for path in inputs]
    check_outputs([target for _, target in jobs], inputs, kind)
    return jobs


def check_target(folder: Path, target: Path, kind: Kind = AUDIO) -> None:
    """Raise a UserError for a folder's output that is a file or, for audio, that very folder."""
    if target.is_file():
        raise UserError(f"{target} is a file, but {folder} is a folder; name a folder")
    if not target.is_dir() and target.suffix.lower() in (*AUDIO.suffixes, ".mp3", ".ogg", ".ddcm"):
        raise UserError(f"{target}: the input is a folder, so the output must be one too.")
    if kind is AUDIO and target.is_dir() and target.samefile(folder):
        raise UserError(
            f"{target} is the input, whose files would be overwritten or mixed with; name another "
            "folder."
        )


def sentence(error: Exception, source: Path) -> str:
    """What went wrong with a file, on one line that names it."""
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    elif isinstance(error, UserError):
        text = str(error)
    else:
        text = f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(": ")
    return text if source.name in text else f"{source}: {text}"


def attempt(
    jobs: Iterable[tuple[Path, Any]], one: Callable[[Path, Any], str | None], verb: str
) -> list[str]:
    """Do every job under a bar, print what it returns, and give a sentence for each that failed.

    Whatever goes wrong with one file of several, foreseen or not, is no reason to leave the
    others undone. A job is the file that its error names, and what else ``one`` takes.
    """
    from tqdm import tqdm

    failed = []
    with tqdm(jobs, desc=verb, unit="file", file=sys.stderr) as bar:
        for source, more in bar:
            bar.set_postfix_str(visible(source.name))
            try:
                line = one(source, more)
            except Exception as error:
                failed.append(sentence(error, source))
                continue
            if line:
                bar.clear()
                print(line, flush=True)
    return failed


def tell(failed: Iterable[str], what: str) -> None:
    """Say on standard error what went wrong, a line each."""
    for said in failed:
        print(f"audioldm-utils: {what}: {visible(said)}", file=sys.stderr)


def each(jobs: Sequence[tuple[Path, Any]], one: Callable[[Path, Any], str], verb: str) -> int:
    """Do every job: 0, or 2 if a file of several failed. A single file's error is raised."""
    if len(jobs) == 1:
        print(one(*jobs[0]))
        return 0
    failed = attempt(jobs, one, verb)
    tell(failed, "error")
    if failed:
        print(f"audioldm-utils: {len(failed)} of {len(jobs)} files failed", file=sys.stderr)
    return 2 if failed else 0


@contextmanager
def steps_bar(
    shown: bool, total: int | None = None, what: str = "", unit: str = "step"
) -> Iterator[Callable[..., object]]:
    """A progress bar, as a callback for each step.

    Without a total the callback takes (done, total), or a ``ddcm.core.Step``, which knows how
    many it is one of; an encoding to a quality takes several runs of them. A bar with a name
    stays when it is done. One without comes with the first step, so that an error before that
    is printed alone, and goes again.
    """
    from tqdm import tqdm

    options = {"leave": bool(what), "delay": 0 if what else 1e-3, "disable": not shown}
    with tqdm(total=total, desc=what or None, unit=unit, file=sys.stderr, **options) as bar:

        def advance(*at: object) -> None:
            if total is None and len(at) > 1:
                bar.total = at[-1]
            elif at and getattr(at[0], "index", None) == 0:
                bar.total = bar.n + at[0].steps
            bar.update()

        yield advance

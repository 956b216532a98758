"""A file or a whole folder: what commands that turn files into files share."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from audioldm_utils.errors import UserError
from audioldm_utils.text import visible

Job = tuple[Path, Path]


def pairs(source: str, target: str, suffix: str, audio: bool) -> list[Job]:
    """Input and output of each file.

    Args:
        source: a file or a folder.
        target: a file, or a folder if ``source`` is one.
        suffix: of outputs in a folder.
        audio: the inputs are audio files, else ``.ddcm`` files.

    Raises:
        UserError: nothing there, or a folder and a file are mixed.
    """
    given, wanted = Path(source), Path(target)
    if not given.is_dir():
        if not given.exists():
            raise UserError(f"{given}: no such file or folder; check the path")
        if wanted.is_dir():
            raise UserError(f"{wanted} is a folder; name the output file for {given}")
        return [(given, wanted)]
    if wanted.is_file():
        raise UserError(f"{wanted} is a file, but {given} is a folder; name a folder")
    if audio:
        from audioldm_utils.audio import find_clips

        return [(clip.path, wanted / f"{clip.name}{suffix}") for clip in find_clips(given)]
    found = sorted(given.glob("*.ddcm"))
    if not found:
        raise UserError(f"{given} holds no .ddcm files; give a folder that `encode` wrote")
    return [(path, wanted / f"{path.stem}{suffix}") for path in found]


def each(jobs: Sequence[Job], one: Callable[[Path, Path], str], verb: str) -> int:
    """Do every job and print what it returns; broken files stop nothing and are told at the end.

    Returns:
        0, or 2 if a file of several failed. A single file's error is raised.
    """
    if len(jobs) == 1:
        print(one(*jobs[0]))
        return 0
    from tqdm import tqdm

    failed = []
    with tqdm(jobs, desc=verb, unit="file", file=sys.stderr) as bar:
        for source, target in bar:
            bar.set_postfix_str(visible(source.name))
            try:
                line = one(source, target)
            except UserError as error:
                failed.append(str(error))
            else:
                bar.clear()
                print(line, flush=True)
    for sentence in failed:
        print(f"audioldm-utils: error: {visible(sentence)}", file=sys.stderr)
    if failed:
        print(f"audioldm-utils: {len(failed)} of {len(jobs)} files failed", file=sys.stderr)
    return 2 if failed else 0


@contextmanager
def steps_bar(shown: bool, total: int | None = None) -> Iterator[Callable[[Any], None] | None]:
    """A progress bar over steps, as a callback; None where it is not shown.

    It appears with the first step, so that an error before that is printed alone.
    """
    if not shown:
        yield None
        return
    from tqdm import tqdm

    bars: list[tqdm] = []

    def advance(step: Any) -> None:
        if not bars:
            bars.append(tqdm(total=total, unit="step", leave=False, file=sys.stderr))
        bars[0].update()

    try:
        yield advance
    finally:
        for bar in bars:
            bar.close()

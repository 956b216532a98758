"""What a sweep is to compute: its grid, and the grid's tasks.

A task's key is a hash of everything that determines its result: the clip's bytes, name,
caption, class and recording, the checkpoint's fingerprint, method, options, seed and this package's
code. Work is done if its key is known, wherever the files lie.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audioldm_utils import __version__
from audioldm_utils.errors import UserError
from audioldm_utils.files import package_hash, sha256_file
from audioldm_utils.sweep.file import Sweep, check_count

if TYPE_CHECKING:
    from audioldm_utils.audio.clips import ClipInfo

#: Parts of the package that no task's numbers depend on.
NOT_IN_RESULTS = {
    *("cli", "sweep", "book"),
    *("results/comparison", "results/evidence", "metrics/correlations"),
}

#: Fields of a task that say where things lie, not what they are.
_PLACES = {"path", "checkpoint", "notebooks", "out"}


@dataclass(frozen=True)
class Task:
    """One cell of the grid, small enough to send to any worker; of a method or of a chapter."""

    path: str  # the clip, or the folder of clips for a chapter; workers must see it
    clip: str
    content: str  # SHA-256 of the clip's bytes, or of the folder's
    checkpoint: str  # as named
    fingerprint: str  # of the checkpoint's files
    method: str  # or a chapter
    options: str  # or a chapter's parameters, as sorted JSON
    label: str  # the options in words, for the column ``stage``
    code: str  # hash of the code (and notebooks, and evidence) that the result depends on
    seed: int = 0
    metrics: tuple[str, ...] | None = None
    max_seconds: float | None = None
    caption: str | None = None
    category: str | None = None
    recording: str = ""
    collection: str = ""
    fits: str = ""  # digest of what is fitted to the checkpoint
    notebooks: str = ""  # folder of a chapter
    out: str = ""  # folder that a chapter writes to

    @property
    def key(self) -> str:
        """SHA-256 of what determines the result; where things lie does not."""
        content = {name: value for name, value in asdict(self).items() if name not in _PLACES}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def __str__(self) -> str:
        what = f"{self.method} ({self.label})" if self.label else self.method
        name = self.clip or Path(self.path).name
        return f"{what} of {name} with {self.checkpoint}, seed {self.seed}"


@lru_cache(maxsize=1)
def code_hash() -> str:
    """SHA-256 of the version and of the package's modules that results depend on."""
    text = f"{__version__}\n{package_hash(NOT_IN_RESULTS, {'.py', '.safetensors'})}"
    return hashlib.sha256(text.encode()).hexdigest()


def grid(options: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every combination of options whose values are lists; others are the same in each."""
    names = sorted(options)
    axes = [options[n] if isinstance(options[n], list) else [options[n]] for n in names]
    return [dict(zip(names, values, strict=True)) for values in itertools.product(*axes)]


def label(options: Mapping[str, Any]) -> str:
    """Options in words, such as ``atoms=8, steps=30``."""
    return ", ".join(f"{name}={options[name]}" for name in sorted(options))


def plan_methods(
    sweep: Sweep,
    clips: Sequence[ClipInfo],
    fingerprint: Callable[[str], str],
    methods: Collection[str],
) -> tuple[list[Task], dict[str, str]]:
    """All tasks of a sweep over methods, checkpoint by checkpoint, clip by clip, each once.

    Beside them come the clips that cannot even be opened, with the reason.

    Args:
        clips: as ``audio.clips.find_clips`` gives them.
        fingerprint: gives a checkpoint's fingerprint by its name.
        methods: the known ones; a sweep that names another is refused.
    """
    for name, _ in sweep.methods:
        if name not in methods:
            raise UserError(f"{sweep.path}: no method {name!r}; there are {', '.join(methods)}")
    chosen = clips[: sweep.limit]
    check_count(sweep, len(chosen))
    contents, broken = {}, {}
    for clip in chosen:
        try:
            contents[clip.name] = sha256_file(clip.path)
        except OSError as error:
            broken[clip.name] = f"{clip.path}: {error.strerror or error}"
    tasks = (
        Task(
            path=str(clip.path.resolve()),
            clip=clip.name,
            content=contents[clip.name],
            checkpoint=checkpoint,
            fingerprint=fingerprint(checkpoint),
            method=method,
            options=json.dumps(options, sort_keys=True),
            label=label(options),
            seed=seed,
            metrics=sweep.metrics,
            max_seconds=sweep.max_seconds,
            caption=clip.caption,
            code=code_hash(),
            **clip.labels,
        )
        for checkpoint in sweep.checkpoints
        for method, choices in sweep.methods
        for options in grid(choices)
        for seed in sweep.seeds
        for clip in chosen
        if clip.name in contents
    )
    return list({task.key: task for task in tasks}.values()), broken

"""What a sweep is to compute: the file that describes it, and its tasks.

A sweep file is YAML. Methods over clips::

    audio: data/audio          # folder of clips, relative to this file
    limit: 8                   # clips, optional
    max_seconds: 5             # of each clip, optional
    checkpoints: [mini]        # names, folders, hub ids
    methods:
      - vae
      - ddcm: {steps: [30, 50], atoms: [1, 8]}   # a list is an axis of the grid
    seeds: [0, 1]
    metrics: [log_mel, snr]    # optional; all that apply by default

or chapters over parameters::

    audio: data/audio
    checkpoints: [mini]
    chapters: ["01"]
    parameters: {limit: [4, 8]}

A task's key is a hash of everything that determines its result: the clip's bytes, name,
caption and class, the checkpoint's fingerprint, method, options, seed and this package's
code. Work is done if its key is known, wherever the files lie.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from audioldm_utils import __version__
from audioldm_utils.errors import UserError
from audioldm_utils.files import package_hash, sha256_file

#: Parts of the package that no task's numbers depend on.
NOT_IN_RESULTS = {
    *("cli", "commands", "training", "sweep", "report", "staging", "execution", "chapters"),
    *("worker", "plotting", "listening", "pages", "comparison", "correlation", "evidence"),
}

#: Fields of a task that say where things lie, not what they are.
_PLACES = {"path", "checkpoint", "notebooks", "out"}

_KEYS = ("audio", "limit", "max_seconds", "checkpoints", "seeds", "methods", "metrics")
_CHAPTER_KEYS = ("audio", "checkpoints", "chapters", "parameters", "notebooks")


@dataclass(frozen=True)
class Sweep:
    """A sweep file, read and checked; paths are absolute."""

    path: Path
    audio: Path
    checkpoints: tuple[str, ...]
    methods: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    seeds: tuple[int, ...] = (0,)
    metrics: tuple[str, ...] | None = None
    limit: int | None = None
    max_seconds: float | None = None
    chapters: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    notebooks: Path | None = None


@dataclass(frozen=True)
class Task:
    """One cell of the grid, small enough to send to any worker.

    Attributes:
        path: the clip's file, or the folder of clips for a chapter; workers must see it.
        clip, caption, category: of the clip; empty for a chapter.
        content: SHA-256 of the clip's bytes, or of the folder's.
        checkpoint, fingerprint: as named, and what its files are.
        method: method or chapter.
        options: of the method, or parameters of the chapter, as sorted JSON.
        label: the options in words, for the column ``stage``.
        code: hash of the code (and notebooks, and evidence) that the result depends on.
        chapter: whether ``method`` names a chapter.
        notebooks, out: for a chapter, the folder it lies in and the one it writes to.
    """

    path: str
    clip: str
    content: str
    checkpoint: str
    fingerprint: str
    method: str
    options: str = "{}"
    label: str = ""
    seed: int = 0
    metrics: tuple[str, ...] | None = None
    max_seconds: float | None = None
    caption: str | None = None
    category: str | None = None
    code: str = ""
    chapter: bool = False
    notebooks: str = ""
    out: str = ""

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
    text = f"{__version__}\n{package_hash(NOT_IN_RESULTS, {'.py'})}"
    return hashlib.sha256(text.encode()).hexdigest()


def read_sweep(path: str | Path) -> Sweep:
    """Read and check a sweep file.

    Raises:
        UserError: the file is missing or no YAML mapping, or an entry is unknown, missing
            or of the wrong type.
    """
    import yaml

    path = Path(path)
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such sweep file") from None
    except (yaml.YAMLError, UnicodeDecodeError, IsADirectoryError) as error:
        raise UserError(f"{path} is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(entries, dict):
        raise UserError(f"{path} must hold entries such as `audio: data/audio`")
    if ("methods" in entries) == ("chapters" in entries):
        raise UserError(f"{path} must have either `methods` or `chapters`")
    known = _KEYS if "methods" in entries else _CHAPTER_KEYS
    foreign = sorted(set(map(str, entries)) - set(known))
    if foreign:
        raise UserError(
            f"{path} has unknown entries {', '.join(foreign)}; known: {', '.join(known)}"
        )

    def take(name: str, kinds: tuple[type, ...], default: Any = None) -> Any:
        value = entries.get(name, default)
        if value is not None and (isinstance(value, bool) or not isinstance(value, kinds)):
            wanted = " or ".join(kind.__name__ for kind in kinds)
            raise UserError(f"{path}: {name} must be {wanted}, got {value!r}")
        return value

    def items(name: str, kind: type, default: Any) -> tuple:
        value = take(name, (list,), default)
        if not value or any(isinstance(v, bool) or not isinstance(v, kind) for v in value):
            raise UserError(f"{path}: {name} must be a list of {kind.__name__}, got {value!r}")
        return tuple(value)

    audio = take("audio", (str,))
    if audio is None:
        raise UserError(f"{path} must name a folder of clips under `audio`")
    limit, seconds = take("limit", (int,)), take("max_seconds", (int, float))
    for name, value in (("limit", limit), ("max_seconds", seconds)):
        if value is not None and value <= 0:
            raise UserError(f"{path}: {name} must be positive, got {value}")
    seeds = items("seeds", int, [0])
    if min(seeds) < 0:
        raise UserError(f"{path}: seeds must not be negative, got {list(seeds)}")
    folder = path.resolve().parent
    return Sweep(
        path=path.resolve(),
        audio=folder / audio,
        checkpoints=tuple(
            # A folder is meant relative to the file; a name or a hub id stays as it is.
            str(folder / name) if (folder / name).is_dir() else name
            for name in items("checkpoints", str, ["mini"])
        ),
        methods=tuple(_method(path, m) for m in items("methods", object, [None]))
        if "methods" in entries
        else (),
        seeds=seeds,
        metrics=items("metrics", str, None) if "metrics" in entries else None,
        limit=limit,
        max_seconds=seconds,
        chapters=items("chapters", str, None) if "chapters" in entries else (),
        parameters=take("parameters", (dict,), {}) or {},
        notebooks=folder / take("notebooks", (str,), "notebooks"),
    )


def _method(path: Path, entry: Any) -> tuple[str, dict[str, Any]]:
    """A method's name and options from ``vae`` or ``ddcm: {steps: 30}``."""
    if isinstance(entry, str):
        return entry, {}
    if isinstance(entry, dict) and len(entry) == 1:
        ((name, options),) = entry.items()
        if isinstance(name, str) and isinstance(options, dict):
            return name, options
    raise UserError(
        f"{path}: a method is a name, or a name with options such as `ddcm: {{steps: 30}}`, "
        f"got {entry!r}"
    )


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
    clips: Sequence[Any],
    fingerprint: Callable[[str], str],
    methods: Iterable[str] | None = None,
) -> tuple[list[Task], dict[str, str]]:
    """All tasks of a sweep over methods, checkpoint by checkpoint, clip by clip.

    Args:
        sweep: as read.
        clips: with ``path``, ``name``, ``caption`` and ``category``.
        fingerprint: gives a checkpoint's fingerprint by its name.
        methods: the known ones; a sweep that names another is refused.

    Returns:
        The tasks; and clips that cannot even be opened, with the reason.
    """
    known = None if methods is None else list(methods)
    for name, _ in sweep.methods:
        if known is not None and name not in known:
            raise UserError(f"{sweep.path}: no method {name!r}; there are {', '.join(known)}")
    contents, broken = {}, {}
    for clip in clips[: sweep.limit]:
        try:
            contents[clip.name] = sha256_file(clip.path)
        except OSError as error:
            broken[clip.name] = f"{clip.path}: {error.strerror or error}"
    tasks = [
        Task(
            path=str(Path(clip.path).resolve()),
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
            category=clip.category,
            code=code_hash(),
        )
        for checkpoint in sweep.checkpoints
        for method, choices in sweep.methods
        for options in grid(choices)
        for seed in sweep.seeds
        for clip in clips
        if clip.name in contents
    ]
    return _without_repeats(tasks), broken


def _without_repeats(tasks: Iterable[Task]) -> list[Task]:
    """The tasks, those that a grid names twice only once."""
    return list({task.key: task for task in tasks}.values())

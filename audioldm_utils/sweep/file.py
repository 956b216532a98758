"""Sweep files: YAML, read and checked.

Methods over clips::

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
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo

from audioldm_utils import bounds
from audioldm_utils.errors import UserError

#: Tasks up to which a sweep is planned: all of them are in memory, and days of work.
MOST_TASKS = 100_000


def _in_range(bound: bounds.Number) -> AfterValidator:
    return AfterValidator(lambda value, info: bound.check(info.field_name, value))


def _list_of(kind: Any) -> Any:
    """A list that is not empty, kept as a tuple."""
    return Annotated[list[kind], Field(min_length=1), AfterValidator(tuple)]


def _inside(name: str, info: ValidationInfo) -> Path:
    """A path relative to the sweep file."""
    return info.context / name


def _checkpoint(name: str, info: ValidationInfo) -> str:
    """A folder is meant relative to the file; a name or a hub id stays as it is."""
    return str(info.context / name) if (info.context / name).is_dir() else name


def _checked_value(name: str, value: Any, depth: int = 0) -> Any:
    """A value of an option: a number, text or truth value, or a list of them as an axis."""
    if isinstance(value, list) and depth < 2:  # an axis of a parameter that is itself a list
        if not value and depth == 0:
            said = f"{name} is an empty list, which leaves nothing to run"
            raise ValueError(f"{said}; give it values")
        return [_checked_value(name, item, depth + 1) for item in value]
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, int | float):
        return bounds.FINITE.check(name, value)
    raise ValueError(
        f"{name} must be a number, a text, true or false, or a list of them, "
        f"not {bounds.shown(value)}; write a date in quotes"
    )


def _checked_options(options: Any) -> dict[str, Any]:
    if options is None:  # an entry without a value
        return {}
    if not isinstance(options, dict) or not all(isinstance(name, str) for name in options):
        raise ValueError(f"options are names with values, not {bounds.shown(options)}")
    return {name: _checked_value(name, value) for name, value in options.items()}


def _checked_method(entry: Any) -> tuple[str, dict[str, Any]]:
    """A method's name and options from ``vae`` or ``ddcm: {steps: 30}``."""
    if isinstance(entry, str):
        return entry, {}
    if isinstance(entry, dict) and len(entry) == 1:
        ((name, options),) = entry.items()
        if isinstance(name, str) and isinstance(options, dict):
            return name, _checked_options(options)
    raise ValueError(
        "a method is a name, or a name with options such as `ddcm: {steps: 30}`, "
        f"not {bounds.shown(entry)}"
    )


class Sweep(BaseModel):
    """A sweep file, read and checked; paths are absolute, lists are tuples.

    Nothing is converted, so that `yes` is no number.
    """

    model_config = ConfigDict(strict=True, frozen=True)
    path: Path
    audio: Annotated[str, AfterValidator(_inside)]
    checkpoints: _list_of(Annotated[str, AfterValidator(_checkpoint)]) = ("mini",)
    methods: _list_of(Annotated[Any, AfterValidator(_checked_method)]) = ()
    limit: Annotated[int, _in_range(bounds.CLIPS)] | None = None
    max_seconds: Annotated[float, _in_range(bounds.CLIP_SECONDS)] | None = None
    seeds: _list_of(Annotated[int, _in_range(bounds.SEED)]) = (0,)
    metrics: _list_of(str) | None = None
    chapters: _list_of(str) = ()
    parameters: Annotated[Any, AfterValidator(_checked_options)] = {}
    notebooks: Annotated[str, AfterValidator(_inside)] = Field("notebooks", validate_default=True)


#: Entries of a sweep over methods, and of one over chapters.
_METHODS = ("audio", "checkpoints", "methods", "limit", "max_seconds", "seeds", "metrics")
_CHAPTERS = ("audio", "checkpoints", "chapters", "parameters", "notebooks")


def read_sweep(path: str | Path) -> Sweep:
    """Read and check a sweep file.

    A UserError if it is missing or no YAML mapping; an entry is unknown, missing, of the wrong
    type or out of range; or the grid has no cell or too many.
    """
    import yaml

    path = Path(path)
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such sweep file") from None
    except (yaml.YAMLError, ValueError, RecursionError, IsADirectoryError) as error:
        raise UserError(f"{path} is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(entries, dict):
        raise UserError(f"{path} must hold entries such as `audio: data/audio`")
    if ("methods" in entries) == ("chapters" in entries):
        raise UserError(f"{path} must have either `methods` or `chapters`")
    known = _METHODS if "methods" in entries else _CHAPTERS
    foreign = ", ".join(sorted(set(map(str, entries)) - set(known)))
    if foreign:
        raise UserError(f"{path} has unknown entries {foreign}; known: {', '.join(known)}")
    if entries.get("audio") is None:
        raise UserError(f"{path} must name a folder of clips under `audio`")
    place = path.resolve()
    try:
        sweep = Sweep.model_validate({**entries, "path": place}, context=place.parent)
    except ValidationError as error:
        first = error.errors()[0]
        if first["type"] == "value_error":
            raise UserError(f"{path}: {first['ctx']['error']}") from None
        name, said = ".".join(map(str, first["loc"])), first["msg"]
        said = f"{name} {re.sub('^(Input|List|String) ', '', said)}"
        raise UserError(f"{path}: {said}, got {bounds.shown(first['input'])}") from None
    check_count(sweep, 1)
    return sweep


def check_count(sweep: Sweep, clips: int) -> None:
    """Refuse a grid of too many tasks before any of it is built."""
    axes = [options for _, options in sweep.methods] or [sweep.parameters] * len(sweep.chapters)
    cells = sum(
        math.prod(len(value) for value in options.values() if isinstance(value, list))
        for options in axes
    )
    count = cells * len(sweep.checkpoints) * len(sweep.seeds) * clips
    if count > MOST_TASKS:
        raise UserError(
            f"{sweep.path} asks for {count} tasks and more than {MOST_TASKS} are not planned; "
            "shorten its lists or make several sweeps of it"
        )

"""Where a checkpoint's files lie, and whether they are whole.

A checkpoint is a folder in diffusers layout: ``model_index.json`` and one folder a component,
each with its configuration and its weights. Nothing here loads torch.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from audioldm_utils.errors import UserError
from audioldm_utils.model.checkpoint_weights import (
    WeightSet,
    check_weights,
    choose_weights,
    is_weights,
)

#: Component folders of AudioLDM2, in the order of its ``model_index.json``.
COMPONENTS = (
    *("vae", "vocoder", "unet", "scheduler", "text_encoder", "text_encoder_2"),
    *("language_model", "projection_model", "tokenizer", "tokenizer_2", "feature_extractor"),
)

#: Components without weights.
WEIGHTLESS = ("scheduler", "tokenizer", "tokenizer_2", "feature_extractor")

#: Name of the shipped checkpoint.
MINI = "mini"

#: Environment variable that names another folder for the checkpoint ``mini``.
MINI_VARIABLE = "AUDIOLDM_UTILS_MINI"

_HUB_ID = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")


@dataclass(frozen=True)
class Location:
    """A checkpoint found: what it is called, its folder, and its hub revision if any."""

    name: str
    path: Path
    revision: str | None = None


def check_component(folder: Path, half: bool = False) -> WeightSet | None:
    """The weight files of one component's folder, or None for a component without.

    Raises:
        UserError: the folder, its configuration or a weight file is missing or damaged.
    """
    if not folder.is_dir():
        present = [name for name in COMPONENTS if (folder.parent / name).is_dir()]
        raise UserError(
            f"the checkpoint {folder.parent} has no component '{folder.name}'"
            f" (it has: {', '.join(present) or 'none'}): give a checkpoint that has it"
        )
    if folder.name not in WEIGHTLESS:
        read_json(folder / "config.json")
        return check_weights(folder, half)
    if folder.name == "scheduler":
        read_json(folder / "scheduler_config.json")
        return None
    configurations = sorted(folder.glob("*.json"))
    if not configurations:
        raise UserError(f"{folder} holds no configuration: copy or download it again")
    for path in configurations:
        parse_json(path)
    return None


def parse_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        UserError: missing, not JSON, or with numbers that are not finite.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        finite = _finite(content)
    except FileNotFoundError:
        raise UserError(f"{path} is missing: copy or download the checkpoint again") from None
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"{path} cannot be read ({reason}): correct or copy it again") from error
    except (ValueError, RecursionError):
        raise UserError(f"{path} is not a JSON object: copy or download it again") from None
    if not finite:
        raise UserError(f"{path} holds a number that is not finite: copy or download it again")
    return content


def _finite(content: Any) -> bool:
    """Whether every number in it is; Python reads ``NaN`` and ``1e999``."""
    if isinstance(content, dict | list):
        return all(map(_finite, content.values() if isinstance(content, dict) else content))
    return not isinstance(content, float) or math.isfinite(content)


def read_json(path: Path) -> dict:
    """Read a configuration.

    Raises:
        UserError: missing, or not a JSON object of finite numbers.
    """
    content = parse_json(path)
    if not isinstance(content, dict):
        raise UserError(f"{path} is not a JSON object: copy or download it again")
    return content


def _find_mini(path: Path) -> Path:
    """Folder of the shipped checkpoint: what the variable names, the wheel's, or the clone's.

    Where there is none, that of a clone above this folder, or ``path``.

    ``path`` is what has its name here; that it is left out for the shipped one is said.
    """
    named = os.environ.get(MINI_VARIABLE)
    if named and not Path(named).is_dir():
        raise UserError(f"{MINI_VARIABLE} names {named}, which is not a folder: correct it")
    roots = (Path(__file__).resolve().parents[2], Path.cwd(), *Path.cwd().parents)
    clones = [root / "data" / "checkpoints" / MINI for root in roots]
    folders = [Path(named)] if named else [Path(__file__).parent / MINI, *clones]
    shipped = next((folder for folder in folders if folder.is_dir()), None)
    if not path.is_dir():
        if shipped is None:
            raise UserError(
                "the checkpoint 'mini' was not found (data/checkpoints/mini of the repository):"
                f" run in a clone, set {MINI_VARIABLE} to its folder, or name another checkpoint"
            )
        return shipped
    if shipped is None:  # an installed package without the repository: the folder is all there is
        return path
    if not shipped.samefile(path):
        _say(
            f"'mini' is the shipped checkpoint in {shipped}; the folder {path.resolve()} has the"
            " same name and is left out (write ./mini to use it)"
        )
    return shipped


@lru_cache
def _say(sentence: str) -> None:
    """Say something once; where nobody set up logging, it goes to stderr."""
    logging.getLogger(__name__).warning(sentence)


def _from_hub(
    repository: str, revision: str | None, components: Sequence[str], half: bool
) -> Location:
    """Folder of a hub checkpoint: from the cache if it is there, else downloaded.

    A download takes every component, one weight format each, so that the fingerprint is
    that of a full copy whatever was asked for first.
    """
    import huggingface_hub as hub
    from huggingface_hub import errors

    try:
        cached = Path(hub.snapshot_download(repository, revision=revision, local_files_only=True))
        for name in COMPONENTS:
            if (cached / name).is_dir() or name in components:
                check_component(cached / name, half)
        return Location(repository, cached, cached.name)
    except (errors.LocalEntryNotFoundError, UserError):
        pass  # not there, or only in part: what is missing is downloaded
    try:
        about = hub.HfApi().model_info(repository, revision=revision)
        names = [sibling.rfilename for sibling in about.siblings or ()]
        wanted = ["model_index.json"]
        for component in COMPONENTS:
            inside = [n.split("/", 1)[1] for n in names if n.startswith(f"{component}/")]
            weights = choose_weights(inside, half)
            chosen = (*weights.files, weights.index) if weights else ()
            wanted += [f"{component}/{n}" for n in inside if not is_weights(n) or n in chosen]
        path = Path(hub.snapshot_download(repository, revision=revision, allow_patterns=wanted))
    except errors.RevisionNotFoundError:
        raise UserError(f"the hub checkpoint {repository} has no revision '{revision}'") from None
    except errors.RepositoryNotFoundError:
        raise UserError(
            f"'{repository}' is neither a folder here nor a repository on the hub: check the name"
        ) from None
    except (
        *(errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled),
        *(errors.HTTPError, OSError),
    ) as error:
        label = f"{repository}@{revision}" if revision else repository
        raise UserError(
            f"'{label}' is neither a folder here nor in the hub cache, and the hub cannot be"
            f" reached ({type(error).__name__}): download it where there is a network with"
            f" 'hf download {repository}', copy the folder here and give its path,"
            " and unset HF_HUB_OFFLINE if it is set"
        ) from error
    return Location(repository, path, path.name)


def locate(
    checkpoint: str | Path,
    revision: str | None = None,
    components: Sequence[str] = (),
    half: bool = False,
) -> Location:
    """Find a checkpoint's folder.

    Args:
        checkpoint: ``"mini"`` (the shipped one; a folder of that name is ``./mini``), a
            folder, or a hub id (``cvssp/audioldm2``, or ``cvssp/audioldm2@<commit>``).
        revision: commit, tag or branch of a hub id. Without one, the commit that the cache
            already has is used, else the newest is downloaded and reported.
        components: those that a cached hub checkpoint must have to be used as it is.
        half: prefer half-precision files.

    Raises:
        UserError: there is no such checkpoint, or the hub cannot be reached.
    """
    text = str(checkpoint)
    path = Path(checkpoint).expanduser()
    if path.exists() and not path.is_dir():
        raise UserError(
            f"{path} is a file, but a checkpoint is a folder in diffusers layout"
            " (model_index.json and one folder a component): give that folder"
        )
    if text == MINI and (checkpoint == MINI or not path.is_dir()):
        location = Location(MINI, _find_mini(path))
    elif path.is_dir():
        location = Location(path.resolve().name, path)
    elif (match := _HUB_ID.fullmatch(text)) and not text.startswith((".", "~")):
        if match["revision"] and revision and match["revision"] != revision:
            raise UserError(f"two revisions are given for {match['repository']}: give one")
        return _from_hub(match["repository"], match["revision"] or revision, components, half)
    else:
        raise UserError(
            f"there is no checkpoint folder {path}: give 'mini', a folder in diffusers layout,"
            " or a hub id such as cvssp/audioldm2"
        )
    if revision is not None:
        raise UserError(f"a revision belongs to a hub id, but {path} is a folder: leave it out")
    return location

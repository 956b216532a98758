"""Where a checkpoint's files lie, whether they are whole, and what they load as.

A checkpoint is a folder in diffusers layout: ``model_index.json`` and one folder a component,
each with its configuration and its weights. Nothing here loads torch by itself.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from audioldm_utils.errors import UserError
from audioldm_utils.model.checkpoint_weights import (
    WeightSet,
    check_weights,
    choose_weights,
    is_weights,
)

#: Library and class of each component, in the order of ``model_index.json`` and whatever it
#: says; a scheduler may name another of diffusers' own.
CLASSES = {
    "vae": ("diffusers", "AutoencoderKL"),
    "vocoder": ("transformers", "SpeechT5HifiGan"),
    "unet": ("diffusers", "AudioLDM2UNet2DConditionModel"),
    "scheduler": ("diffusers", "DDIMScheduler"),
    "text_encoder": ("transformers", "ClapModel"),
    "text_encoder_2": ("transformers", "T5EncoderModel"),
    "language_model": ("transformers", "GPT2LMHeadModel"),
    "projection_model": ("diffusers", "AudioLDM2ProjectionModel"),
    "tokenizer": ("transformers", "RobertaTokenizer"),
    "tokenizer_2": ("transformers", "T5Tokenizer"),
    "feature_extractor": ("transformers", "ClapFeatureExtractor"),
}

#: Component folders of AudioLDM2, and those without weights.
COMPONENTS = tuple(CLASSES)
WEIGHTLESS = ("scheduler", "tokenizer", "tokenizer_2", "feature_extractor")
#: Name of the shipped checkpoint.
MINI = "mini"
#: Environment variable that names another folder for the checkpoint ``mini``.
MINI_VARIABLE = "AUDIOLDM_UTILS_MINI"

_HUB_ID = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")


class Location(NamedTuple):
    """A checkpoint found: what it is called, its folder, and its hub revision if any."""

    name: str
    path: Path
    revision: str | None = None


def check_component(folder: Path, half: bool = False) -> WeightSet | None:
    """The weight files of one component's folder, or None for a component without.

    UserError where the folder, its configuration or a weight file is missing or damaged.
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
    """A JSON file's content; UserError if it is missing, no JSON, or has an infinite number."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing: copy or download the checkpoint again") from None
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"{path} cannot be read ({reason}): correct or copy it again") from error
    except (ValueError, RecursionError):
        raise UserError(f"{path} is not a JSON object: copy or download it again") from None
    try:
        json.dumps(content, allow_nan=False)  # Python reads NaN and 1e999
    except ValueError:
        raise UserError(
            f"{path} holds a number that is not finite: copy or download it again"
        ) from None
    return content


def read_json(path: Path) -> dict:
    """As :func:`parse_json`, of a configuration; a UserError too if it is no JSON object."""
    content = parse_json(path)
    if not isinstance(content, dict):
        raise UserError(f"{path} is not a JSON object: copy or download it again")
    return content


def component_class(name: str, folder: Path) -> type:
    """The class that a component loads as; UserError for an unknown scheduler's."""
    library, kind = CLASSES[name]
    if name != "scheduler":
        return getattr(importlib.import_module(library), kind)
    import diffusers
    from diffusers.schedulers import KarrasDiffusionSchedulers

    path = folder / "scheduler_config.json"
    kind = read_json(path).get("_class_name", kind)
    if not isinstance(kind, str) or kind not in KarrasDiffusionSchedulers.__members__:
        raise UserError(
            f"{path} asks for {str(kind)[:80]!r}, which is none of the diffusers schedulers that"
            " AudioLDM2 runs with: name one, such as DDIMScheduler"
        )
    found = getattr(diffusers, kind)
    try:
        found.load_config  # noqa: B018 - asked, not used
    except ImportError as error:  # some want a library that is not installed
        raise refusal(folder, kind, error) from error
    return found


def refusal(folder: Path, kind: str, error: Exception | str) -> UserError:
    """What is said where no component of that class can be made of a folder."""
    reason = " ".join(str(error).split()).rstrip(".") or repr(error)
    reason = reason if len(reason) <= 300 else reason[:297] + "..."
    return UserError(f"{folder} cannot be loaded as {kind}: {reason}; correct it or copy it again")


def _find_mini(path: Path) -> Path:
    """Folder of the shipped checkpoint: what the variable names, the wheel's, or the clone's.

    Where there is none, that of a clone above this folder, or ``path``, which is what has its
    name here; that it is left out for the shipped one is said.
    """
    named = os.environ.get(MINI_VARIABLE)
    if named and not Path(named).is_dir():
        raise UserError(f"{MINI_VARIABLE} names {named}, which is not a folder: correct it")
    roots = (Path(__file__).resolve().parents[2], Path.cwd(), *Path.cwd().parents)
    clones = [root / "data" / "checkpoints" / MINI for root in roots]
    folders = [Path(named)] if named else [Path(__file__).parent / MINI, *clones]
    # Last, for an installed package without the repository.
    shipped = next((folder for folder in (*folders, path) if folder.is_dir()), None)
    if shipped is None:
        raise UserError(
            "the checkpoint 'mini' was not found (data/checkpoints/mini of the repository):"
            f" run in a clone, set {MINI_VARIABLE} to its folder, or name another checkpoint"
        )
    if path.is_dir() and not shipped.samefile(path):
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
        revision: commit, tag or branch of a hub id; None is the commit that the cache has,
            else the newest, which is downloaded.
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

"""Where a checkpoint's files lie, whether they are whole, and their fingerprint.

A checkpoint is a folder in diffusers layout: ``model_index.json`` and one folder a
component, each with its configuration and its weights, as safetensors or ``.bin``, in
single or half precision (``.fp16.``), in one file or in shards. Nothing here loads torch.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from audioldm_utils.errors import UserError
from audioldm_utils.files import sha256_file

#: Component folders of AudioLDM2, in the order of its ``model_index.json``.
COMPONENTS = (
    "vae",
    "vocoder",
    "unet",
    "scheduler",
    "text_encoder",
    "text_encoder_2",
    "language_model",
    "projection_model",
    "tokenizer",
    "tokenizer_2",
    "feature_extractor",
)

#: Components without weights.
WEIGHTLESS = ("scheduler", "tokenizer", "tokenizer_2", "feature_extractor")

#: Environment variable that names another folder for the checkpoint ``mini``.
MINI_VARIABLE = "AUDIOLDM_UTILS_MINI"

_WEIGHTS = re.compile(
    r"(?P<stem>diffusion_pytorch_model|pytorch_model|model)"
    r"(\.(?P<variant>fp16|bf16))?(-\d{5}-of-(?P<shards>\d{5}))?\.(?P<format>safetensors|bin)"
)
_INDEX = re.compile(
    r"(diffusion_pytorch_model|pytorch_model|model)(\.(?P<before>fp16|bf16))?"
    r"\.(?P<format>safetensors|bin)\.index(\.(?P<after>fp16|bf16))?\.json"
)
_HUB_ID = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")


@dataclass(frozen=True)
class Location:
    """A checkpoint found: what it was called, its folder, and its hub revision if any."""

    name: str
    path: Path
    revision: str | None = None


@dataclass(frozen=True)
class WeightSet:
    """The weight files of one component that belong together.

    Attributes:
        format: ``"safetensors"`` or ``"bin"``.
        variant: ``"fp16"``, ``"bf16"`` or None for the unmarked files.
        files: names inside the component's folder, sorted; several if sharded.
        index: name of the shard index, or None.
    """

    format: str
    variant: str | None
    files: tuple[str, ...]
    index: str | None


def choose_weights(names: Iterable[str], half: bool = False) -> WeightSet | None:
    """Choose among a component's files; safetensors first, full precision unless ``half``.

    Args:
        names: file names inside the component's folder.
        half: prefer files in half precision, as a model run in half precision wants them.

    Returns:
        The chosen set, complete or not (see :func:`check_component`); None if there is none.
    """
    sets: dict[tuple[str, str | None], list[str]] = {}
    indices: dict[tuple[str, str | None], str] = {}
    for name in sorted(names):
        if match := _WEIGHTS.fullmatch(name):
            sets.setdefault((match["format"], match["variant"]), []).append(name)
        elif match := _INDEX.fullmatch(name):
            indices[match["format"], match["before"] or match["after"]] = name
    halves = [(form, variant) for form in ("safetensors", "bin") for variant in ("fp16", "bf16")]
    wholes = [("safetensors", None), ("bin", None)]
    order = [*halves[:2], wholes[0], *halves[2:], wholes[1]] if half else [*wholes, *halves]
    for key in order:
        if key in sets:
            return WeightSet(*key, tuple(sets[key]), indices.get(key))
    return None


def _check_weight_file(path: Path) -> None:
    """Refuse a file that is a Git LFS pointer, truncated or not what its suffix says."""
    with path.open("rb") as handle:
        start = handle.read(8)
        size = path.stat().st_size
        if start == b"version ":
            raise UserError(
                f"{path} is a Git LFS pointer instead of weights: run 'git lfs pull' in its folder"
            )
        if path.suffix == ".safetensors":
            # Header length (8 bytes, little endian), JSON header, then the data.
            length = int.from_bytes(start, "little")
            try:
                header = json.loads(handle.read(length)) if length < size else None
            except ValueError:
                header = None
            if not isinstance(header, dict):
                whole = False
            else:
                ends = [v["data_offsets"][1] for k, v in header.items() if k != "__metadata__"]
                whole = size == 8 + length + max(ends, default=0)
        else:
            # Old pickles are no zip archives; nothing tells whether those are complete.
            whole = zipfile.is_zipfile(path) if start[:2] == b"PK" else start[:1] == b"\x80"
    if not whole:
        raise UserError(f"{path} is truncated or corrupt ({size} bytes): copy or download it again")


def check_component(folder: Path, half: bool = False) -> WeightSet | None:
    """Check that one component's folder is complete and whole.

    Returns:
        Its weight set, or None for a component without weights.

    Raises:
        UserError: the folder, its configuration or a weight file is missing or damaged.
    """
    if not folder.is_dir():
        present = [name for name in COMPONENTS if (folder.parent / name).is_dir()]
        raise UserError(
            f"the checkpoint {folder.parent} has no component '{folder.name}'"
            f" (it has: {', '.join(present) or 'none'}): give a checkpoint that has it"
        )
    names = [path.name for path in folder.iterdir()]
    if folder.name in WEIGHTLESS:
        if not any(name.endswith(".json") for name in names):
            raise UserError(f"{folder} holds no configuration: copy or download it again")
        return None
    read_json(folder / "config.json")
    weights = choose_weights(names, half)
    if weights is None:
        raise UserError(
            f"{folder} holds no weights (*.safetensors or *.bin): copy or download it again"
        )
    shards = {match["shards"] for name in weights.files if (match := _WEIGHTS.fullmatch(name))}
    expected = max((int(count) for count in shards if count), default=1)
    if len(weights.files) < expected:
        raise UserError(
            f"{folder} holds {len(weights.files)} of {expected} weight shards:"
            " copy or download the missing ones"
        )
    if expected > 1 and weights.index is None:
        raise UserError(f"{folder} holds shards but no *.index.json: copy or download it again")
    for name in weights.files:
        _check_weight_file(folder / name)
    return weights


def read_json(path: Path) -> dict:
    """Read a configuration.

    Raises:
        UserError: missing, or not a JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing: copy or download the checkpoint again") from None
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise UserError(f"{path} is not a JSON object: copy or download it again")
    return content


_DIGESTS: dict[tuple[str, int, int], str] = {}


def _digest(path: Path) -> str:
    """SHA-256 of a file, remembered while its path, time and size stay the same."""
    stat = path.stat()
    key = (str(path.resolve()), stat.st_mtime_ns, stat.st_size)
    if key not in _DIGESTS:
        _DIGESTS[key] = sha256_file(path)
    return _DIGESTS[key]


def fingerprint(folder: Path, parts: Sequence[str] = ()) -> str:
    """SHA-256 over what determines a checkpoint's output, in hexadecimal.

    Covered, for every component that the folder has: configuration, tokenizer files and
    one weight set (full-precision safetensors before others, so that a second copy of the
    same weights in another format changes nothing). Not covered: model cards, licences and
    anything outside the component folders but ``model_index.json``.

    Args:
        folder: of the checkpoint.
        parts: only these components, without ``model_index.json``; empty for all.
    """
    index = folder / "model_index.json"
    covered = [index] if index.is_file() and not parts else []
    for component in parts or COMPONENTS:
        if not (folder / component).is_dir():
            continue
        names = [path.name for path in (folder / component).iterdir() if path.is_file()]
        weights = choose_weights(names)
        chosen = (*weights.files, weights.index) if weights else ()
        for name in names:
            other = _WEIGHTS.fullmatch(name) or _INDEX.fullmatch(name)
            text = Path(name).suffix in {".json", ".txt", ".model"} and not name.startswith(".")
            if name in chosen or (text and not other):
                covered.append(folder / component / name)
    total = hashlib.sha256()
    for path in sorted(covered, key=lambda path: path.relative_to(folder).as_posix()):
        total.update(f"{path.relative_to(folder).as_posix()}\0{_digest(path)}\n".encode())
    return total.hexdigest()


def _find_mini() -> Path:
    """Folder of the shipped checkpoint: the variable, the clone, or a folder above here."""
    named = os.environ.get(MINI_VARIABLE)
    if named:
        if not Path(named).is_dir():
            raise UserError(f"{MINI_VARIABLE} names {named}, which is not a folder: correct it")
        return Path(named)
    here = Path.cwd()
    for root in (Path(__file__).resolve().parents[1], here, *here.parents):
        folder = root / "data" / "checkpoints" / "mini"
        if folder.is_dir():
            return folder
    raise UserError(
        "the checkpoint 'mini' was not found (data/checkpoints/mini of the repository): run in a"
        f" clone, set {MINI_VARIABLE} to its folder, or name another checkpoint"
    )


def _from_hub(
    repository: str, revision: str | None, components: Sequence[str], half: bool
) -> Location:
    """Folder of a hub checkpoint: from the cache if it is there, else downloaded.

    A download takes every component, one weight format each, so that the fingerprint is
    that of a full copy whatever was asked for first.
    """
    import huggingface_hub
    from huggingface_hub.errors import (
        HTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    label = f"{repository}@{revision}" if revision else repository
    try:
        cached = Path(
            huggingface_hub.snapshot_download(repository, revision=revision, local_files_only=True)
        )
        for component in components:
            check_component(cached / component, half)
        return Location(repository, cached, cached.name)
    except (LocalEntryNotFoundError, UserError):
        # Not there, or only in part: what is missing is downloaded below.
        pass
    try:
        about = huggingface_hub.HfApi().model_info(repository, revision=revision)
        names = [sibling.rfilename for sibling in about.siblings or ()]
        wanted = ["model_index.json"]
        for component in COMPONENTS:
            inside = [n.split("/", 1)[1] for n in names if n.startswith(f"{component}/")]
            weights = choose_weights(inside, half)
            for name in inside:
                other = _WEIGHTS.fullmatch(name) or _INDEX.fullmatch(name)
                if not other or (weights and name in (*weights.files, weights.index)):
                    wanted.append(f"{component}/{name}")
        path = Path(
            huggingface_hub.snapshot_download(repository, revision=revision, allow_patterns=wanted)
        )
    except RevisionNotFoundError:
        raise UserError(f"the hub checkpoint {repository} has no revision '{revision}'") from None
    except RepositoryNotFoundError:
        raise UserError(
            f"'{repository}' is neither a folder here nor a repository on the hub: check the name"
        ) from None
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, HTTPError, OSError) as error:
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
        checkpoint: ``"mini"``, a folder, or a hub id (``cvssp/audioldm2``, or with its
            revision ``cvssp/audioldm2@<commit>``).
        revision: commit, tag or branch of a hub id. Without one, the commit that the cache
            already has is used, else the newest is downloaded; its commit is reported, so
            that it can be pinned.
        components: those that a cached hub checkpoint must have to be used as it is.
        half: prefer half-precision files.

    Raises:
        UserError: there is no such checkpoint, or the hub cannot be reached.
    """
    text = str(checkpoint)
    path = Path(checkpoint).expanduser()
    if path.is_dir():
        location = Location(path.resolve().name, path)
    elif path.exists():
        raise UserError(
            f"{path} is a file, but a checkpoint is a folder in diffusers layout"
            " (model_index.json and one folder a component): give that folder"
        )
    elif text == "mini":
        location = Location("mini", _find_mini())
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

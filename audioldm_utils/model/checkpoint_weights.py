"""The weight files of a component: which belong together, and whether they are whole.

Nothing here loads torch or reads a tensor: of a safetensors file its header alone is read.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from audioldm_utils.errors import UserError

#: Tensors that a file may lack: tied to others, or made at construction.
TIED = ("lm_head.weight", "position_ids", "encoder.embed_tokens.weight")

_WEIGHTS = re.compile(
    r"(diffusion_pytorch_model|pytorch_model|model)"
    r"(\.(?P<variant>fp16|bf16))?(-\d{5}-of-(?P<shards>\d{5}))?\.(?P<format>safetensors|bin)"
)
_INDEX = re.compile(
    r"(diffusion_pytorch_model|pytorch_model|model)(\.(?P<before>fp16|bf16))?"
    r"\.(?P<format>safetensors|bin)\.index(\.(?P<after>fp16|bf16))?\.json"
)


@dataclass(frozen=True)
class WeightSet:
    """The weight files of one component that belong together."""

    format: str  # "safetensors" or "bin"
    variant: str | None  # "fp16", "bf16" or None for the unmarked files
    files: tuple[str, ...]  # names inside the component's folder, sorted; several if sharded
    index: str | None  # name of the shard index


def is_weights(name: str) -> bool:
    """Whether a file of that name holds weights, or says which shards do."""
    return bool(_WEIGHTS.fullmatch(name) or _INDEX.fullmatch(name))


def choose_weights(names: Iterable[str], half: bool = False) -> WeightSet | None:
    """Choose among the files of a component's folder; safetensors first.

    Full precision comes first, or half precision where ``half`` asks for it; None if there is
    no set. It may be incomplete (see :func:`check_weights`).
    """
    sets: dict[tuple[str, str | None], list[str]] = {}
    indices: dict[tuple[str, str | None], str] = {}
    for name in sorted(names):
        if match := _WEIGHTS.fullmatch(name):
            sets.setdefault((match["format"], match["variant"]), []).append(name)
        elif match := _INDEX.fullmatch(name):
            indices[match["format"], match["before"] or match["after"]] = name
    order = [(form, kind) for form in ("safetensors", "bin") for kind in ("fp16", "bf16", None)]
    if not half:
        order.sort(key=lambda key: key[1] is not None)
    for key in order:
        if key in sets:
            return WeightSet(*key, tuple(sets[key]), indices.get(key))
    return None


def check_weights(folder: Path, half: bool = False) -> WeightSet:
    """The weight files of a component; UserError if some are missing or damaged."""
    weights = choose_weights([path.name for path in folder.iterdir() if path.is_file()], half)
    if weights is None:
        raise UserError(
            f"{folder} holds no weights (*.safetensors or *.bin): copy or download it again"
        )
    expected = max(int(_WEIGHTS.fullmatch(name)["shards"] or 1) for name in weights.files)
    if len(weights.files) < expected:
        raise UserError(
            f"{folder} holds {len(weights.files)} of {expected} weight shards:"
            " copy or download the missing ones"
        )
    if expected > 1:
        if weights.index is None:
            raise UserError(f"{folder} holds shards but no *.index.json: copy or download it again")
        _check_index(folder / weights.index, weights.files)
    for name in weights.files:
        _check_weight_file(folder / name)
    return weights


def _check_index(path: Path, files: tuple[str, ...]) -> None:
    """Refuse an index of other shards than those that lie beside it."""
    try:
        known = set(json.loads(path.read_bytes())["weight_map"].values()) <= set(files)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        known = False
    if not known:
        raise UserError(f"{path} does not list the shards beside it: copy or download it again")


def _check_weight_file(path: Path) -> None:
    """Refuse a file that is a Git LFS pointer, truncated or not what its suffix says."""
    with path.open("rb") as handle:
        start = handle.read(8)
    if start == b"version ":
        raise UserError(
            f"{path} is a Git LFS pointer instead of weights: run 'git lfs pull' in its folder"
        )
    if path.suffix == ".safetensors":
        read_shapes(path)
    # Old pickles are no zip archives; nothing tells whether those are complete.
    elif not (zipfile.is_zipfile(path) if start[:2] == b"PK" else start[:1] == b"\x80"):
        raise corrupt(path, "not a torch file")


def corrupt(path: Path, what: str) -> UserError:
    """What is said of a damaged weight file."""
    size = path.stat().st_size
    return UserError(
        f"{path} is truncated or corrupt ({what}; {size} bytes): copy or download it again"
    )


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Shape of each tensor of a safetensors file, from its header.

    UserError if the header is damaged, or the file is longer or shorter than it says.
    """
    try:
        with safe_open(path, framework="np") as handle:
            return {name: tuple(handle.get_slice(name).get_shape()) for name in handle.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise corrupt(path, str(error).removeprefix("Error while deserializing header: ")) from None

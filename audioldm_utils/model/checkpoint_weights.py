"""The weight files of a component: which belong together, and whether they are whole.

Nothing here loads torch or reads a tensor: of a safetensors file its header alone is read.
"""

from __future__ import annotations

import json
import math
import re
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from audioldm_utils.errors import UserError

#: Tensors that a file may lack: tied to others, or made at construction.
TIED = ("lm_head.weight", "position_ids", "encoder.embed_tokens.weight")

# Bytes an element of the types that safetensors files hold.
_SIZES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64"), 8),
}
# Longest header that the format allows, bytes.
_LONGEST_HEADER = 100_000_000
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


def is_weights(name: str) -> bool:
    """Whether a file of that name holds weights, or says which shards do."""
    return bool(_WEIGHTS.fullmatch(name) or _INDEX.fullmatch(name))


def choose_weights(names: Iterable[str], half: bool = False) -> WeightSet | None:
    """Choose among the files of a component's folder; safetensors first.

    Full precision comes first, or half precision where ``half`` asks for it. The set may be
    incomplete (see :func:`check_weights`); None if there is none.
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
    """The weight files of a component, which are all there and whole.

    Raises:
        UserError: files are missing or damaged.
    """
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

    The format: the header's length (8 bytes, little endian), the header (JSON), the data, in
    which the tensors follow each other without a gap.

    Raises:
        UserError: the header is damaged, or the file is longer or shorter than it says.
    """
    size = path.stat().st_size
    with path.open("rb") as handle:
        length = int.from_bytes(handle.read(8), "little")
        if size < 8 or length > min(size - 8, _LONGEST_HEADER):
            raise corrupt(path, "shorter than its header")
        try:
            header = json.loads(handle.read(length))
        except (ValueError, RecursionError):
            header = None
    if not isinstance(header, dict):
        raise corrupt(path, "its header is not JSON")
    header.pop("__metadata__", None)
    try:
        entries = {name: _entry(value) for name, value in header.items()}
    except (KeyError, TypeError, ValueError):
        raise corrupt(path, "its header does not describe tensors") from None
    end = 0
    for start, stop, _ in sorted(entries.values()):
        if start != end:
            raise corrupt(path, "its tensors overlap or leave gaps")
        end = stop
    if 8 + length + end != size:
        raise corrupt(path, f"{8 + length + end} bytes by its header")
    return {name: shape for name, (_, _, shape) in entries.items()}


def _entry(value: dict) -> tuple[int, int, tuple[int, ...]]:
    """First and last byte and shape of one tensor; any error if the line describes none."""
    (start, end), shape = value["data_offsets"], tuple(value["shape"])
    if any(type(number) is not int or number < 0 for number in (*shape, start, end)):
        raise ValueError
    if end - start != math.prod(shape) * _SIZES[value["dtype"]]:
        raise ValueError
    return start, end, shape

"""What determines a checkpoint's output, as one SHA-256, whatever files it lies in.

Tensors count by name, shape and value, numbers with a fraction as float32 and whole numbers
as int64: the same weights in another format or a wider type are the same checkpoint.
Configurations count without the entries that say nothing about what is computed.

Reading 1.6 GB takes seconds, so digests of tensors are remembered for the files' sizes and
times: beside the checkpoint, or in the user's cache where one cannot write there.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audioldm_utils.files import atomic_write, user_cache
from audioldm_utils.model.checkpoint_files import COMPONENTS, parse_json
from audioldm_utils.model.checkpoint_weights import TIED, WeightSet, choose_weights, is_weights

if TYPE_CHECKING:
    from torch import Tensor

#: Where digests of tensors are remembered, beside the checkpoint's components.
CACHE = ".fingerprint.json"
#: Of the cache's content and of the definition of a tensor's digest.
_VERSION = 1
#: Entries of configurations that do not change what is computed. Types are given on loading.
_SILENT = frozenset(
    {"dtype", "torch_dtype", "transformers_version", "architectures", "local_files_only"}
    | {"is_local", "name_or_path"}
)
#: Numbers that are hashed at once.
_PIECE = 1 << 22
#: Digest of a component's tensors by its folder, and the stamps that it holds for.
_KNOWN: dict[str, dict] = {}


def fingerprint(folder: Path, parts: Sequence[str] = ()) -> str:
    """SHA-256 over what determines a checkpoint's output, in hexadecimal.

    Covered, for every component that the folder has (or those of ``parts``, unless that is
    empty): configuration, tokenizer files and one weight set, full-precision safetensors
    before others. Not covered: cards, licences, ``model_index.json`` (components load as the
    classes that AudioLDM2 needs, whatever it names), and all outside the components' folders.

    Raises:
        UserError: a file is damaged.
    """
    total = hashlib.sha256()
    for component in COMPONENTS:
        place = folder / component
        if (parts and component not in parts) or not place.is_dir():
            continue
        names = sorted(path.name for path in place.iterdir() if path.is_file())
        for name in names:
            text = Path(name).suffix in {".json", ".txt", ".model"}
            if text and not name.startswith(".") and not is_weights(name):
                total.update(f"{component}/{name}\0{_text_digest(place / name)}\n".encode())
        weights = choose_weights(names)
        if weights:
            total.update(f"{component}\0{_remembered(place, weights)}\n".encode())
    return total.hexdigest()


def _text_digest(path: Path) -> str:
    """Digest of a configuration's entries, or of another file's content."""
    if path.suffix != ".json":
        return hashlib.sha256(path.read_bytes()).hexdigest()
    content = parse_json(path)
    if path.name.endswith("config.json"):
        content = _spoken(content)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _spoken(content: Any) -> Any:
    """A configuration without its entries that change nothing."""
    if isinstance(content, list):
        return [_spoken(item) for item in content]
    if not isinstance(content, dict):
        return content
    return {
        key: _spoken(value)
        for key, value in content.items()
        if key not in _SILENT and (key == "_class_name" or not key.startswith("_"))
    }


def _remembered(folder: Path, weights: WeightSet) -> str:
    """Digest of a component's tensors, from memory or from the cache if its files are as then."""
    stats = {name: (folder / name).stat() for name in weights.files}
    # Nobody can set the last time, so that a file that was given an old one is noticed.
    stamps = {name: [s.st_size, s.st_mtime_ns, s.st_ctime_ns] for name, s in stats.items()}
    key = str(folder.resolve())
    place = hashlib.sha256(str(folder.parent.resolve()).encode()).hexdigest()[:16]
    caches = (folder.parent / CACHE, user_cache() / "fingerprints" / f"{place}.json")
    for entry in (_KNOWN.get(key), *(_read_cache(path).get(folder.name) for path in caches)):
        if entry and entry["files"] == stamps:
            _KNOWN[key] = entry
            return entry["digest"]
    entry = {"files": stamps, "digest": _tensors_digest(folder, weights)}
    # A file that was written just now may be written again without another time.
    if all(abs(time.time_ns() - stamp[1]) > 2e9 for stamp in stamps.values()):
        _KNOWN[key] = entry
        _write_cache(caches, folder.name, entry)
    return entry["digest"]


def _read_cache(path: Path) -> dict[str, dict]:
    """Stamps and digest of each component; empty if there is no such file or it is no cache."""
    try:
        content = json.loads(path.read_bytes())
        if content["version"] != _VERSION:
            return {}
        return {
            name: {"files": entry["files"], "digest": str(entry["digest"])}
            for name, entry in content["components"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _write_cache(caches: Iterable[Path], name: str, entry: dict) -> None:
    """Add a component to the first cache that can be written; without one, it is hashed again."""
    for path in caches:
        content = {"version": _VERSION, "components": _read_cache(path) | {name: entry}}
        try:
            atomic_write(path, json.dumps(content, indent=1, sort_keys=True) + "\n")
        except OSError:
            continue
        return


def _tensors_digest(folder: Path, weights: WeightSet) -> str:
    """Digest over the names, shapes and values of a component's tensors, in the names' order."""
    from audioldm_utils.model.checkpoint_loading import stored_tensors  # torch, seldom needed

    found = {name: _tensor_digest(tensor) for name, tensor in stored_tensors(folder, weights)}
    counts = Counter(found.values())
    total = hashlib.sha256()
    for name, digest in sorted(found.items()):
        # Pickles keep tensors that are another's double or are made at construction.
        if name.endswith("position_ids") or (name.endswith(TIED) and counts[digest] > 1):
            continue
        total.update(f"{name}\0{digest}\n".encode())
    return total.hexdigest()


def _tensor_digest(tensor: Tensor) -> str:
    kind = "float" if tensor.is_floating_point() else "whole"
    total = hashlib.sha256(f"{kind} {list(tensor.shape)}\n".encode())
    for piece in tensor.detach().reshape(-1).split(_PIECE):
        piece = piece.float() if kind == "float" else piece.long()
        total.update(piece.numpy().tobytes())
    return total.hexdigest()

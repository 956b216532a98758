"""Where what is fitted to a checkpoint lies: in its folder, under its fingerprint.

``<checkpoint>/fitted/<first 16 digits of the fingerprint>/<name>``. Where one cannot write there,
the user's cache takes the checkpoint folder's place; the variable AUDIOLDM_UTILS_FITS names
another folder in place of ``fitted``.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from audioldm_utils.files import sha256_file, user_cache


def fitted_path(
    checkpoint: str | Path, fingerprint: str, name: str, suffix: str = ".safetensors"
) -> Path:
    """Where a fitted part of this checkpoint folder lies, or is to be stored."""
    inside = Path(fingerprint[:16]) / f"{name}{suffix}"
    folder, *other = _folders(checkpoint)
    if not other:
        return folder / inside
    there = next(place for place in (folder, *folder.parents) if place.exists())
    if (folder / inside).is_file() or os.access(there, os.W_OK):
        return folder / inside
    return other[0] / inside


def fits_digest(checkpoint: str | Path, fingerprint: str) -> str:
    """SHA-256 of all that is fitted to a checkpoint: results depend on it as on the weights."""
    digest = hashlib.sha256()
    for folder in _folders(checkpoint):
        for path in sorted((folder / fingerprint[:16]).glob("*")):
            digest.update(f"{path.name}\0{sha256_file(path)}\0".encode())
    return digest.hexdigest()


def _folders(checkpoint: str | Path) -> list[Path]:
    """Where fits may lie: the folder that the variable names, or two of which the first leads."""
    if named := os.environ.get("AUDIOLDM_UTILS_FITS"):
        return [Path(named)]
    return [Path(checkpoint).resolve() / "fitted", user_cache() / "fitted"]

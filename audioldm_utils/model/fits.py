"""Where what is fitted to a checkpoint lies: in its folder, under its fingerprint.

``<checkpoint>/fitted/<first 16 digits of the fingerprint>/<name>``. Where one cannot write there,
the user's cache takes the checkpoint folder's place; the variable AUDIOLDM_UTILS_FITS names
another folder in place of ``fitted``.
"""

from __future__ import annotations

import os
from pathlib import Path

from audioldm_utils.files import user_cache


def fitted_path(
    checkpoint: str | Path, fingerprint: str, name: str, suffix: str = ".safetensors"
) -> Path:
    """Where a fitted part of this checkpoint folder lies, or is to be stored."""
    inside = Path(fingerprint[:16]) / f"{name}{suffix}"
    if named := os.environ.get("AUDIOLDM_UTILS_FITS"):
        return Path(named) / inside
    folder = Path(checkpoint).resolve() / "fitted"
    there = next(place for place in (folder, *folder.parents) if place.exists())
    if (folder / inside).is_file() or os.access(there, os.W_OK):
        return folder / inside
    return user_cache() / "fitted" / inside

"""Fitted codebooks on disk: in the checkpoint they were fitted for, under its fingerprint.

``<checkpoint>/fitted/<first 16 digits of the fingerprint>/<name>.safetensors``, with the facts in
its metadata. Where one cannot write there, the user's cache takes the checkpoint folder's place;
the variable AUDIOLDM_UTILS_FITS names another folder in place of ``fitted``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from audioldm_utils.ddcm.codebook.blocks import KMeans
from audioldm_utils.ddcm.codebook.quantiser import VectorQuantiser
from audioldm_utils.errors import UserError
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


def load_fitted(
    checkpoint: str | Path, fingerprint: str, name: str
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and facts of a stored part; UserError if there is none, or a damaged one."""
    from safetensors import SafetensorError, safe_open

    path = fitted_path(checkpoint, fingerprint, name)
    if not path.is_file():
        raise UserError(
            f"nothing named {name!r} is fitted for this checkpoint ({path} is missing): run "
            f"audioldm-utils fit --checkpoint {checkpoint} --audio DIR."
        )
    try:
        with safe_open(path, framework="pt") as handle:
            facts = json.loads((handle.metadata() or {})["facts"])
            tensors = {key: handle.get_tensor(key) for key in handle.keys()}  # noqa: SIM118
    except (SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise UserError(
            f"{path} is damaged or not a fitted codebook ({error}): delete it and run "
            "audioldm-utils fit again."
        ) from error
    if facts.get("fingerprint") != fingerprint:
        raise UserError(f"{path} belongs to another checkpoint: run audioldm-utils fit again.")
    return tensors, facts


def load_quantiser(checkpoint: str | Path, fingerprint: str, name: str = "vq") -> VectorQuantiser:
    """The vector quantiser stored under that name."""
    tensors, facts = load_fitted(checkpoint, fingerprint, name)
    return VectorQuantiser(tensors["centres"].float(), facts["block"])


def load_kmeans(
    checkpoint: str | Path,
    fingerprint: str,
    shape: Sequence[int],
    *,
    seed: int = 0,
    name: str = "k-means",
    digest: str | None = None,
) -> KMeans:
    """The k-means codebook stored under that name, for latents of this shape."""
    tensors, facts = load_fitted(checkpoint, fingerprint, name)
    return KMeans(
        shape, seed, centres=tensors["centres"].float(), block=facts["block"], digest=digest
    )

"""Fitted codebooks on disk; where, :mod:`audioldm_utils.model.fits` says."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from audioldm_utils.ddcm.codebook.blocks import KMeans
from audioldm_utils.ddcm.codebook.quantiser import VectorQuantiser
from audioldm_utils.errors import UserError
from audioldm_utils.model.fits import fitted_path


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

"""Codebooks of noise for DDCM: atoms, their selection, and their exact re-making.

``book = make("cyclic", shape=(8, 256, 16), seed=7, bases=1)``; what it can do, `base.Codebook`
says. ``step`` is any label from 0 on that encoder and decoder share; the step number serves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from audioldm_utils.ddcm.codebook.base import Codebook
from audioldm_utils.ddcm.codebook.bits import start_noise as start_noise
from audioldm_utils.ddcm.codebook.fitted import KMeans
from audioldm_utils.ddcm.codebook.greedy import CyclicShift, Gaussian
from audioldm_utils.ddcm.codebook.pursuit import MatchingPursuit, Turbo
from audioldm_utils.errors import UserError

_BOOKS: tuple[type[Codebook], ...] = (CyclicShift, Gaussian, Turbo, MatchingPursuit, KMeans)
CODEBOOKS = {book.name: book for book in _BOOKS}


def make(name: str, shape: Sequence[int], seed: int = 0, **options: Any) -> Codebook:
    """The codebook of that name (`CODEBOOKS`) for latents of one shape."""
    if name not in CODEBOOKS:
        raise UserError(f"codebook {name!r} is not one of {', '.join(CODEBOOKS)}.")
    return CODEBOOKS[name](shape, seed, **options)

"""Codebooks of noise for DDCM: atoms, their selection, and their exact re-making.

Interface (see `base.Codebook`)::

    book = make("cyclic", shape=(8, 256, 16), seed=7, bases=1)
    choice = book.choose(step, residual, atoms=4)      # int64 (batch, length)
    noise = book.noise(step, choice)                   # float32 (batch, 8, 256, 16), on the CPU
    book.bits(atoms=4), book.states(atoms=4)           # log2, and the exact number of choices
    value = book.to_integer(choice[0], atoms=4)        # one clip's step in [0, states)
    book.from_integer(value, atoms=4)                  # and back
    book.random_choice(step, seeds=[3, 4], atoms=4)    # plain sampling

``step`` is any label from 0 on that encoder and decoder share; the step number serves. One
codebook belongs to one latent shape.
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

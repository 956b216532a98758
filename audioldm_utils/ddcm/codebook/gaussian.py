"""Independent normal atoms: the codebook of the DDCM paper (arXiv 2502.01189, section 3)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from audioldm_utils.ddcm.codebook import bits
from audioldm_utils.ddcm.codebook.base import GreedyCodebook, gumbel
from audioldm_utils.errors import UserError

CHUNK_VALUES = 2**20
"""Normal values held at once while choosing: about 15 MiB with their indices."""


class Gaussian(GreedyCodebook):
    """K independent standard normal atoms for each step, and fresh ones for each further atom.

    Atom k of a step is made from (seed, step, k) alone; the codebook is never held whole.

    Args:
        size: K, at least 2; a smaller codebook is the beginning of a larger one.
    """

    name = "gaussian"

    def __init__(self, shape: Sequence[int], seed: int = 0, *, size: int = 1024) -> None:
        super().__init__(shape, seed)
        if size < 2:
            raise UserError(f"a codebook needs at least 2 atoms, not {size}.")
        self._size = int(size)

    @property
    def size(self) -> int:  # noqa: D102
        return self._size

    def options(self) -> dict[str, Any]:  # noqa: D102
        return {"size": self._size}

    def atoms(self, step: int, stream: int = 0) -> Iterator[tuple[int, Tensor]]:
        """The codebook of a step in chunks: (index of the first, float32 (count, values))."""
        chunk = max(CHUNK_VALUES // self.values // 4 * 4, 4)
        for first in range(0, self._size, chunk):
            count = min(chunk, self._size - first)
            made = bits.normals(self.seed, step, stream, first, count, self.values)
            yield first, torch.from_numpy(made)

    def _best(
        self, step: int, atom: int, target: Tensor, temperature: float, seeds: Sequence[int]
    ) -> Tensor:
        batch = len(target)
        best = torch.full((batch,), -torch.inf)
        index = torch.zeros(batch, dtype=torch.int64)
        spread = target.norm(dim=1, keepdim=True).cpu()
        for first, made in self.atoms(step, atom):
            scores = (target @ made.to(target.device).T).cpu()
            if temperature > 0:
                draws = gumbel(seeds, step, atom, first, len(made))
                scores = scores + temperature * spread * draws
            value, position = scores.max(dim=1)
            better = value > best
            best = torch.where(better, value, best)
            index = torch.where(better, position + first, index)
        return index

    def _make(self, step: int, atom: int, index: Tensor) -> Tensor:
        rows = [
            bits.normals(self.seed, step, atom, int(k), 1, self.values)[0] for k in index.tolist()
        ]
        return torch.from_numpy(np.stack(rows))

"""All cyclic shifts of a normal vector, with both signs, chosen by one FFT correlation.

Every cyclic shift of a vector of independent normal values is again such a vector, so a random
shift is exact normal noise, while the inner products with all N shifts are one correlation:
N log N work and N memory instead of K N of each. On a smooth residual, shifts by a few values
say almost the same; a fixed seeded sign for each value, multiplied onto every atom, mends that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from audioldm_utils.ddcm.codebook import bits
from audioldm_utils.ddcm.codebook.base import GreedyCodebook, gumbel
from audioldm_utils.errors import UserError


class CyclicShift(GreedyCodebook):
    """2 x N x bases atoms a step: every shift of every base vector, with both signs.

    Index (base * N + shift) * 2 + negative names the atom sign * mask * roll(base, shift), on
    the latents read in memory order. N is the number of latent values, so the size is seldom a
    power of two. Fewer bases are the beginning of more.

    Args:
        bases: normal vectors for each atom, at least 1; each doubling costs one bit more and
            twice the time.
        mask: the fixed signs; False is for showing what they are worth.
    """

    name = "cyclic"

    def __init__(
        self, shape: Sequence[int], seed: int = 0, *, bases: int = 1, mask: bool = True
    ) -> None:
        super().__init__(shape, seed)
        if bases < 1:
            raise UserError(f"a cyclic-shift codebook needs at least 1 base, not {bases}.")
        self.bases = int(bases)
        self.mask = bool(mask)
        values = bits.signs(self.seed, self.values)
        self._mask = torch.from_numpy(values) if mask else torch.ones(self.values)

    @property
    def size(self) -> int:  # noqa: D102
        return 2 * self.values * self.bases

    def options(self) -> dict[str, Any]:  # noqa: D102
        return {"bases": self.bases} if self.mask else {"bases": self.bases, "mask": False}

    def _base(self, step: int, atom: int, base: int) -> Tensor:
        return torch.from_numpy(bits.normals(self.seed, step, atom, base, 1, self.values)[0])

    def _best(
        self, step: int, atom: int, target: Tensor, temperature: float, seeds: Sequence[int]
    ) -> Tensor:
        batch, n = target.shape
        spectrum = torch.fft.rfft(target * self._mask.to(target.device))
        best = torch.full((batch,), -torch.inf)
        index = torch.zeros(batch, dtype=torch.int64)
        for base in range(self.bases):
            vector = self._base(step, atom, base).to(target.device)
            scores = torch.fft.irfft(spectrum * torch.fft.rfft(vector).conj(), n=n)
            if temperature > 0:
                spread = target.norm(dim=1).cpu()[:, None, None]
                first = -(-2 * n // 4) * 4 * base
                draws = gumbel(seeds, step, atom, first, 2 * n).reshape(batch, n, 2)
                signed = torch.stack([scores, -scores], dim=2).cpu()
                value, position = (signed + temperature * spread * draws).flatten(1).max(dim=1)
            else:
                shift = scores.abs().argmax(dim=1, keepdim=True)
                peak = scores.gather(1, shift)[:, 0].cpu()
                value, position = peak.abs(), shift[:, 0].cpu() * 2 + (peak < 0)
            better = value > best
            best = torch.where(better, value, best)
            index = torch.where(better, position + base * 2 * n, index)
        return index

    def _make(self, step: int, atom: int, index: Tensor) -> Tensor:
        vectors: dict[int, Tensor] = {}
        rows = []
        for k in index.tolist():
            base, rest = divmod(k, 2 * self.values)
            shift, negative = divmod(rest, 2)
            if base not in vectors:
                vectors[base] = self._base(step, atom, base)
            row = torch.roll(vectors[base], shift) * self._mask
            rows.append(-row if negative else row)
        return torch.stack(rows)

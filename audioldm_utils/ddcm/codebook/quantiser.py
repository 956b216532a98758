"""Vector quantiser of latents, of one stage or several (residual vector quantiser).

Vectors are the 8 channels at one place of the latent plane, or all channels of a block of
places. Each stage quantises what the one before left: the baseline codec without diffusion.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from audioldm_utils.ddcm.codebook.blocks import count_blocks, from_blocks, to_blocks
from audioldm_utils.errors import UserError


def nearest(rows: Tensor, centres: Tensor) -> Tensor:
    """Index of the nearest centre (squared distance) of each row (n, d): int64 (n,)."""
    half = (centres * centres).sum(1) / 2
    chunk = max(2**22 // len(centres), 1)
    parts = [(half - part @ centres.T).argmin(1) for part in rows.split(chunk)]
    return torch.cat(parts)


class VectorQuantiser:
    """Nearest centre for each vector, or a soft average of centres.

    Args:
        centres: (stages, K, channels * h * w).
        block: (h, w); (1, 1) is one vector for each place.
    """

    def __init__(self, centres: Tensor, block: Sequence[int] = (1, 1)) -> None:
        if centres.ndim != 3:
            raise UserError(f"centres must be (stages, K, values), not {tuple(centres.shape)}.")
        self.centres = centres.float()
        self.block = (int(block[0]), int(block[1]))

    @property
    def stages(self) -> int:
        """Stages of the residual quantiser; 1 is a plain one."""
        return len(self.centres)

    @property
    def size(self) -> int:
        """K: centres of a stage."""
        return self.centres.shape[1]

    @property
    def codebook_bits(self) -> int:
        """Bits of the codebook itself, 16 for each number."""
        return 16 * self.centres.numel()

    def bits(self, shape: tuple[int, int, int], stages: int | None = None) -> float:
        """Bits of the indices of one clip of ``shape`` (channels, time, frequency)."""
        used = self.stages if stages is None else stages
        return count_blocks(shape, self.block) * used * math.log2(self.size)

    def encode(self, latents: Tensor, stages: int | None = None) -> Tensor:
        """Indices, int64 (batch, stages, blocks), of (batch, channels, time, frequency)."""
        rows = self._rows(latents)
        flat, chosen = rows.flatten(0, 1), []
        for centres in self.centres[:stages].to(latents.device):
            index = nearest(flat, centres)
            chosen.append(index.reshape(rows.shape[:2]))
            flat = flat - centres[index]
        return torch.stack(chosen, dim=1)

    def decode(self, indices: Tensor, shape: tuple[int, int, int]) -> Tensor:
        """Latents (batch, *shape) from the indices of all or the first stages."""
        centres = self.centres.to(indices.device)
        total = sum(centres[stage][indices[:, stage]] for stage in range(indices.shape[1]))
        return from_blocks(total, shape, self.block)

    def hard(self, latents: Tensor, stages: int | None = None) -> Tensor:
        """Latents replaced by their nearest centres."""
        return self.decode(self.encode(latents, stages), tuple(latents.shape[1:]))

    def soft(self, latents: Tensor, temperature: float) -> Tensor:
        """Latents replaced by an average of centres with weights softmax(-distance^2 / t).

        t is in squared latent units; 0 is `hard`. A decoder would need the weights, which are
        not indices, so this has no finite rate.
        """
        if temperature < 0:
            raise UserError(f"temperature must not be negative, not {temperature}.")
        if temperature == 0:
            return self.hard(latents)
        rows = self._rows(latents)
        left, total = rows.flatten(0, 1), 0.0
        for centres in self.centres.to(latents.device):
            parts = []
            for part in left.split(max(2**22 // self.size, 1)):
                weights = torch.softmax(-(torch.cdist(part, centres) ** 2) / temperature, dim=1)
                parts.append(weights @ centres)
            average = torch.cat(parts)
            total, left = total + average, left - average
        return from_blocks(total.reshape(rows.shape), tuple(latents.shape[1:]), self.block)

    def _rows(self, latents: Tensor) -> Tensor:
        wide = self.centres.shape[2]
        if latents.ndim != 4 or latents.shape[1] * math.prod(self.block) != wide:
            raise ValueError(
                f"latents of shape {tuple(latents.shape)} do not cut into vectors of {wide} "
                f"values with blocks {self.block}"
            )
        return to_blocks(latents.float(), self.block)

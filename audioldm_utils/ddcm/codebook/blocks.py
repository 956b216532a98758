"""Blocks of latents, and k-means atoms: fitted directions, one index for each block."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from audioldm_utils.ddcm.codebook.base import GreedyCodebook, gumbel, unit_rms
from audioldm_utils.errors import UserError


def to_blocks(latents: Tensor, block: tuple[int, int]) -> Tensor:
    """Cut (batch, C, H, W) into (batch, blocks, C * h * w), row by row, zero-padded at the edge.

    ``block`` = (h, w): rows (time) and columns (frequency) of the latent plane; all channels.
    """
    h, w = block
    batch, channels, rows, columns = latents.shape
    pad = (0, -columns % w, 0, -rows % h)
    padded = torch.nn.functional.pad(latents, pad) if any(pad) else latents
    grid = padded.reshape(batch, channels, padded.shape[2] // h, h, padded.shape[3] // w, w)
    return grid.permute(0, 2, 4, 1, 3, 5).reshape(batch, -1, channels * h * w)


def from_blocks(blocks: Tensor, shape: tuple[int, int, int], block: tuple[int, int]) -> Tensor:
    """Undo `to_blocks` for clips of ``shape`` (C, H, W)."""
    h, w = block
    channels, rows, columns = shape
    high, wide = -(-rows // h), -(-columns // w)
    grid = blocks.reshape(len(blocks), high, wide, channels, h, w).permute(0, 3, 1, 4, 2, 5)
    whole = grid.reshape(len(blocks), channels, high * h, wide * w)
    return whole[:, :, :rows, :columns].contiguous()


def count_blocks(shape: tuple[int, ...], block: tuple[int, int]) -> int:
    """Blocks of one clip of ``shape`` (C, H, W)."""
    if len(shape) != 3 or min(block) < 1:
        raise UserError(f"blocks of {block} need latents (channels, time, frequency), not {shape}.")
    return -(-shape[1] // block[0]) * -(-shape[2] // block[1])


class KMeans(GreedyCodebook):
    """Fitted atoms on blocks of the latent plane, each with a sign; the same at every step.

    Every block of every step takes one of 2 K fitted vectors of unit root mean square: a step
    costs blocks * log2(2 K) bits, the codebook itself `codebook_bits`. These are not the noise
    that the denoiser was trained on; that is the price of fitting.

    Args:
        shape: (channels, time, frequency).
        seed: not used by the atoms; kept so that all codebooks are made alike.
        centres: (K, channels * h * w), fitted; any length.
        block: (h, w) rows and columns of one block.
        digest: given, the centres must be those (a file's way to refuse others).
    """

    name = "k-means"

    def __init__(
        self,
        shape: Sequence[int],
        seed: int = 0,
        *,
        centres: Tensor | None = None,
        block: Sequence[int] = (4, 4),
        digest: str | None = None,
    ) -> None:
        super().__init__(shape, seed)
        self.block = (int(block[0]), int(block[1]))
        self.blocks = count_blocks(self.shape, self.block)
        wide = self.shape[0] * self.block[0] * self.block[1]
        if centres is None:
            raise UserError("a k-means codebook needs fitted centres: run audioldm-utils fit.")
        if centres.ndim != 2 or centres.shape[1] != wide:
            raise UserError(
                f"centres of shape {tuple(centres.shape)} do not serve blocks of {wide} values."
            )
        made = centres.detach().cpu().float()
        self.centres = unit_rms(made)
        self.digest = hashlib.sha256(made.numpy().tobytes()).hexdigest()[:16]
        if digest is not None and digest != self.digest:
            raise UserError(
                f"the fitted centres are not those of the file ({self.digest}, not {digest})."
            )

    @property
    def size(self) -> int:
        """Messages of one block: 2 K."""
        return 2 * len(self.centres)

    @property
    def codebook_bits(self) -> int:
        """Bits of the codebook itself, 16 for each number."""
        return 16 * self.centres.numel()

    def options(self) -> dict[str, Any]:
        """``centres`` must be given beside them."""
        return {"block": self.block, "digest": self.digest}

    def radices(self, atoms: int = 1) -> tuple[int, ...]:  # noqa: D102
        if atoms != 1:
            raise UserError(
                "a k-means codebook has one atom a block; for more bits use smaller "
                "blocks or more centres."
            )
        return (self.size,) * self.blocks

    def _choose(
        self, step: int, target: Tensor, wide: Tensor | None, atoms: int, *how: Any
    ) -> Tensor:
        self.radices(atoms)
        return super()._choose(step, target, wide, atoms, *how).reshape(len(target), self.blocks)

    def noise(self, step: int, choice: Tensor) -> Tensor:  # noqa: D102
        return self._make(step, 0, choice).reshape(len(choice), *self.shape)

    def _best(
        self, step: int, atom: int, target: Tensor, temperature: float, seeds: Sequence[int]
    ) -> Tensor:
        parts = to_blocks(target.reshape(-1, *self.shape), self.block).cpu()
        result = []
        for clip, rows in enumerate(parts):
            scores = rows @ self.centres.T
            if temperature > 0:
                signed = torch.stack([scores, -scores], dim=2).flatten(1)
                draws = gumbel([seeds[clip]], step, atom, 0, signed.numel()).reshape(signed.shape)
                spread = rows.norm(dim=1, keepdim=True)
                result.append((signed + temperature * spread * draws).argmax(1))
            else:
                peak = scores.abs().argmax(1, keepdim=True)
                result.append(peak[:, 0] * 2 + (scores.gather(1, peak)[:, 0] < 0))
        return torch.stack(result)

    def _make(self, step: int, atom: int, index: Tensor) -> Tensor:
        made = self.centres[index >> 1] * (1 - 2 * (index & 1).float())[..., None]
        return from_blocks(made, self.shape, self.block).flatten(1)

"""What is fitted to a checkpoint's latents: k-means atoms and vector quantisers, and reading them.

Both work on blocks of the latent plane. Where the fits lie, :mod:`audioldm_utils.model.fits` says.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from audioldm_utils.ddcm.codebook.base import Codebook, Softness, unit_rms, with_signs
from audioldm_utils.errors import UserError
from audioldm_utils.model.fits import fitted_path


def to_blocks(latents: Tensor, block: tuple[int, int]) -> Tensor:
    """Cut (batch, C, H, W) into (batch, blocks, C * h * w), row by row, zero-padded at the edge.

    ``block`` = (h, w): rows (time) and columns (frequency) of the latent plane; all channels.
    """
    h, w = block
    batch, channels, rows, columns = latents.shape
    padded = torch.nn.functional.pad(latents, (0, -columns % w, 0, -rows % h))
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


def _count_blocks(shape: tuple[int, ...], block: tuple[int, int]) -> int:
    return -(-shape[1] // block[0]) * -(-shape[2] // block[1])


class KMeans(Codebook):
    """Fitted atoms on blocks of the latent plane, each with a sign; the same at every step.

    Every block of every step takes one of 2 K fitted vectors of unit root mean square: a step
    costs blocks * log2(2 K) bits. These are not the noise that the denoiser was trained on; that
    is the price of fitting.

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
        self.block = tuple(map(int, block))
        self.blocks = _count_blocks(self.shape, self.block)
        wide = self.shape[0] * self.block[0] * self.block[1]
        if centres is None:
            raise UserError("a k-means codebook needs fitted centres: run audioldm-utils fit.")
        if centres.ndim != 2 or centres.shape[1] != wide:
            raise UserError(
                f"centres of shape {tuple(centres.shape)} do not serve blocks of {wide} values."
            )
        made = centres.detach().cpu().float()
        self.centres = unit_rms(made)
        self.size = 2 * len(made)  # messages of one block
        self.digest = hashlib.sha256(made.numpy().tobytes()).hexdigest()[:16]
        if digest is not None and digest != self.digest:
            raise UserError(
                f"the fitted centres are not those of the file ({self.digest}, not {digest})."
            )

    def radices(self, atoms: int = 1) -> tuple[int, ...]:  # noqa: D102
        if atoms != 1:
            raise UserError(
                "a k-means codebook has one atom a block; for more bits use smaller "
                "blocks or more centres."
            )
        return (self.size,) * self.blocks

    def _choose(
        self, step: int, target: Tensor, wide: Tensor | None, atoms: int, soft: Softness
    ) -> Tensor:
        self.radices(atoms)
        if math.isinf(soft.temperature):
            return self.random_choice(step, soft.seeds, atoms)
        parts = to_blocks(target.reshape(-1, *self.shape), self.block).cpu()
        chosen = []
        for clip, rows in enumerate(parts):
            scores = with_signs(rows @ self.centres.T)
            if soft.temperature > 0:
                one = Softness(soft.temperature, [soft.seeds[clip]])
                draws = one.gumbel(step, 0, 0, scores.numel()).reshape(scores.shape)
                scores = scores + soft.temperature * rows.norm(dim=1, keepdim=True) * draws
            chosen.append(scores.argmax(1))
        return torch.stack(chosen)

    def noise(self, step: int, choice: Tensor) -> Tensor:  # noqa: D102
        made = self.centres[choice >> 1] * (1 - 2 * (choice & 1).float())[..., None]
        return from_blocks(made, self.shape, self.block)


def nearest(rows: Tensor, centres: Tensor) -> Tensor:
    """Index of the nearest centre (squared distance) of each row (n, d): int64 (n,)."""
    half = (centres * centres).sum(1) / 2
    chunk = max(2**22 // len(centres), 1)
    return torch.cat([(half - part @ centres.T).argmin(1) for part in rows.split(chunk)])


class VectorQuantiser:
    """Quantiser of latents, of one stage or several: the baseline codec without diffusion.

    A vector is all channels of a block; each stage quantises what the one before left.

    Args:
        centres: (stages, K, channels * h * w).
        block: (h, w); (1, 1) is one vector for each place.
    """

    def __init__(self, centres: Tensor, block: Sequence[int] = (1, 1)) -> None:
        if centres.ndim != 3:
            raise UserError(f"centres must be (stages, K, values), not {tuple(centres.shape)}.")
        self.centres = centres.float()
        self.block = tuple(map(int, block))
        self.stages, self.size = centres.shape[:2]

    def bits(self, shape: tuple[int, int, int], stages: int | None = None) -> float:
        """Bits of the indices of one clip of ``shape`` (channels, time, frequency)."""
        used = self.stages if stages is None else stages
        return _count_blocks(shape, self.block) * used * math.log2(self.size)

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
    return VectorQuantiser(tensors["centres"], facts["block"])


def load_kmeans(
    checkpoint: str | Path, fingerprint: str, shape: Sequence[int], **options: Any
) -> KMeans:
    """The stored k-means codebook for latents of this shape; options: seed, digest."""
    tensors, facts = load_fitted(checkpoint, fingerprint, "k-means")
    return KMeans(shape, centres=tensors["centres"], block=facts["block"], **options)

"""Blocks of latents, and the k-means that fits codebooks to them."""

from __future__ import annotations

import torch
from torch import Tensor

from audioldm_utils.errors import UserError

_CHUNK = 2**22
"""Distances held at once."""


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


def nearest(rows: Tensor, centres: Tensor) -> Tensor:
    """Index of the nearest centre (squared distance) of each row (n, d): int64 (n,)."""
    half = (centres * centres).sum(1) / 2
    chunk = max(_CHUNK // len(centres), 1)
    parts = [(half - part @ centres.T).argmin(1) for part in rows.split(chunk)]
    return torch.cat(parts)


def fit_centres(
    rows: Tensor, size: int, *, seed: int = 0, init: str = "k-means", iterations: int = 25
) -> Tensor:
    """Lloyd's k-means.

    Args:
        rows: (n, d) with n at least ``size``.
        size: K.
        seed: of the initial draw; the same rows and seed give the same centres.
        init: ``k-means`` starts from K distinct rows and iterates; ``random`` only draws K
            normal vectors of the rows' mean and standard deviation, the seed's codebook before
            any fitting, as a baseline.
        iterations: at most; ends earlier when no row changes its centre.

    Returns:
        float32 (size, d).
    """
    if len(rows) < size:
        raise UserError(
            f"{len(rows)} vectors cannot fit a codebook of {size}: give more audio or a smaller K."
        )
    rows = rows.float()
    generator = torch.Generator().manual_seed(seed)
    if init == "random":
        noise = torch.randn(size, rows.shape[1], generator=generator)
        return noise * rows.std(0) + rows.mean(0)
    if init != "k-means":
        raise UserError(f"init {init!r} is not one of k-means, random.")
    centres = rows[torch.randperm(len(rows), generator=generator)[:size]].clone()
    before = None
    for _ in range(iterations):
        label = nearest(rows, centres)
        if before is not None and bool((label == before).all()):
            break
        before = label
        counts = torch.bincount(label, minlength=size)
        sums = torch.zeros_like(centres).index_add_(0, label, rows)
        empty = counts == 0
        centres = torch.where(empty[:, None], centres, sums / counts.clamp(min=1)[:, None])
        if bool(empty.any()):  # restart dead centres at the rows that are served worst
            error = ((rows - centres[label]) ** 2).sum(1)
            centres[empty] = rows[error.topk(int(empty.sum())).indices]
    return centres


def fit_directions(rows: Tensor, size: int, *, seed: int = 0, iterations: int = 25) -> Tensor:
    """k-means of directions, up to sign: rows (n, d) of any length to ``size`` unit directions.

    A row belongs to the direction of largest |cosine|; a direction is the mean of its rows,
    their signs aligned, brought to unit norm. Rows of zero are left out.
    """
    norms = rows.norm(dim=1)
    rows = rows[norms > 1e-6 * norms.max()].float()
    rows = rows / rows.norm(dim=1, keepdim=True)
    if len(rows) < size:
        raise UserError(
            f"{len(rows)} vectors cannot fit a codebook of {size}: give more audio or a smaller K."
        )
    generator = torch.Generator().manual_seed(seed)
    centres = rows[torch.randperm(len(rows), generator=generator)[:size]].clone()
    chunk = max(_CHUNK // size, 1)
    for _ in range(iterations):
        sums = torch.zeros_like(centres)
        worst, worst_rows = torch.empty(0), torch.empty(0, rows.shape[1])
        for part in rows.split(chunk):
            scores = part @ centres.T
            label = scores.abs().argmax(1)
            peak = scores.gather(1, label[:, None])
            sums.index_add_(0, label, part * peak.sign())
            worst = torch.cat([worst, peak[:, 0].abs()])
            worst_rows = torch.cat([worst_rows, part])
            keep = worst.argsort()[:size]
            worst, worst_rows = worst[keep], worst_rows[keep]
        norm = sums.norm(dim=1, keepdim=True)
        dead = norm[:, 0] < 1e-9
        centres = sums / norm.clamp(min=1e-9)
        if bool(dead.any()):
            centres[dead] = worst_rows[: int(dead.sum())]
    return centres

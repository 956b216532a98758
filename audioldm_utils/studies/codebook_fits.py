"""Fitting codebooks on train latents: what ``audioldm-utils fit`` stores for a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from audioldm_utils.ddcm.codebook.bits import start_noise
from audioldm_utils.ddcm.codebook.fitted import KMeans, VectorQuantiser, nearest, to_blocks
from audioldm_utils.errors import UserError
from audioldm_utils.files import atomic_path
from audioldm_utils.model.fits import fitted_path
from audioldm_utils.model.schedule import Schedule

#: Alpha-bar of the noise levels at which residuals are sampled.
LEVELS = (0.003, 0.02, 0.1, 0.3, 0.6, 0.9)
#: Centres, block and stages of the residual quantiser of the lowest rates.
COARSE = (64, (8, 8), 4)
Facts = Mapping[str, Any]


def split(latents: Sequence[Tensor], every: int = 8) -> tuple[list[Tensor], list[Tensor]]:
    """Latents to fit on and, each ``every``-th, to check on; a lone clip serves both."""
    if not latents:
        raise UserError("there are no latents to fit a codebook on.")
    kept = [z for i, z in enumerate(latents) if i % every or len(latents) < 2]
    checked = [z for i, z in enumerate(latents) if i % every == 0]
    return kept, checked


def residuals(
    latents: Sequence[Tensor],
    schedule: Schedule,
    denoise: Callable[[Tensor, int], Tensor],
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> list[Tensor]:
    """What choices will be asked to point at: x0 minus the denoised value of noised latents.

    Args:
        latents: each (channels, time, frequency), as the residuals, one a clip and timestep.
        schedule: the noise levels, one a timestep.
        denoise: the network's output of (x_t (1, *shape), t).
        progress: gets the number of clips done and the number of all.
    """
    found = []
    for clip, z in enumerate(latents):
        for i, t in enumerate(schedule.timesteps):
            bar = schedule.alphas_bar[i]
            noise = start_noise([seed + clip * len(schedule) + i], tuple(z.shape)).to(z)
            x_t = bar**0.5 * z[None] + (1 - bar) ** 0.5 * noise
            x0 = schedule.predict_x0(i, x_t, denoise(x_t, t))
            found.append((z[None] - x0)[0])
        if progress:
            progress(clip + 1, len(latents))
    return found


def nearest_timesteps(curve: Sequence[float], levels: Sequence[float] = LEVELS) -> list[int]:
    """Descending timesteps whose alpha-bar is nearest to each of the levels."""
    return sorted(
        {min(range(len(curve)), key=lambda t: abs(curve[t] - level)) for level in levels},
        reverse=True,
    )


def _enough(rows: Tensor, size: int) -> None:
    if len(rows) < size:
        raise UserError(
            f"{len(rows)} vectors cannot fit a codebook of {size}: give more audio or a smaller K."
        )


def _spread(latents: Sequence[Tensor], block: tuple[int, int], count: int) -> Tensor:
    """At most so many blocks of latents (channels, time, frequency), evenly over all of them."""
    rows = torch.cat([to_blocks(z[None].float(), block)[0] for z in latents])
    return rows if len(rows) <= count else rows[torch.linspace(0, len(rows) - 1, count).long()]


def fit_centres(rows: Tensor, size: int, *, seed: int = 0, iterations: int = 25) -> Tensor:
    """Lloyd's k-means, from ``size`` distinct rows, until no row changes its centre.

    Args:
        rows: (n, d) with n at least ``size``.
        size: K.
        seed: of the initial draw.
        iterations: at most.

    Returns:
        float32 (size, d).
    """
    _enough(rows, size)
    rows = rows.float()
    generator = torch.Generator().manual_seed(seed)
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
    _enough(rows, size)
    generator = torch.Generator().manual_seed(seed)
    centres = rows[torch.randperm(len(rows), generator=generator)[:size]].clone()
    chunk = max(2**22 // size, 1)
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


def fit_vectors(
    latents: Sequence[Tensor],
    size: int,
    *,
    block: tuple[int, int] = (1, 1),
    stages: int = 1,
    seed: int = 0,
    iterations: int = 25,
    max_vectors: int = 200_000,
) -> VectorQuantiser:
    """Fit on train latents, each (channels, time, frequency) of any length.

    At most ``max_vectors`` vectors, drawn evenly over the whole set, are used.
    """
    rows, fitted = _spread(latents, block, max_vectors), []
    for stage in range(stages):
        centres = fit_centres(rows, size, seed=seed + stage, iterations=iterations)
        fitted.append(centres)
        rows = rows - centres[nearest(rows, centres)]
    return VectorQuantiser(torch.stack(fitted), block)


def fit_quantiser(
    latents: Sequence[Tensor], size: int, *, held_out: Sequence[Tensor], **options: object
) -> tuple[VectorQuantiser, dict[str, object]]:
    """A vector quantiser and its facts; options as `fit_vectors`.

    Facts: relative error on the held-out latents (mean squared error over variance) after each
    stage, bits of the codebook, values a vector.
    """
    fitted = fit_vectors(latents, size, **options)
    quantiser = VectorQuantiser(fitted.centres.half().float(), fitted.block)  # as it is stored
    variance = torch.cat([z.flatten() for z in held_out]).var()
    errors = []
    for stage in range(1, quantiser.stages + 1):
        squared = [(quantiser.hard(z[None], stage)[0] - z).pow(2).flatten() for z in held_out]
        errors.append(round(float(torch.cat(squared).mean() / variance), 5))
    return quantiser, {
        "size": quantiser.size,
        "stages": quantiser.stages,
        "values": quantiser.centres.shape[2],
        "codebook_bits": 16 * quantiser.centres.numel(),
        "held_out_relative_error": errors,
    }


def fit_kmeans(
    found: Sequence[Tensor],
    size: int,
    block: tuple[int, int],
    *,
    held_out: Sequence[Tensor],
    seed: int = 0,
    max_vectors: int = 50_000,
) -> tuple[Tensor, dict[str, object]]:
    """Directions of residual blocks and their facts.

    Facts: mean cosine and efficiency of a choice on held-out residuals, bits of the codebook.

    Returns:
        Centres (size, channels * h * w), in half precision as they are stored, and the facts.
    """
    rows = _spread(found, block, max_vectors)
    centres = fit_directions(rows, size, seed=seed, iterations=15)
    # Unit variance before rounding: a unit vector of 2,000 values would lose digits in half.
    centres = (centres * centres.shape[1] ** 0.5).half()
    cosines = []
    for residual in held_out:
        book = KMeans(residual.shape, centres=centres.float(), block=block)
        noise = book.noise(0, book.choose(0, residual[None]))
        cosines.append(torch.cosine_similarity(noise.flatten(1), residual.flatten()[None]))
    return centres, {
        "size": 2 * size,
        "values": centres.shape[1],
        "vectors": len(rows),
        "codebook_bits": 16 * centres.numel(),
        "held_out_cosine": round(float(torch.cat(cosines).mean()), 5),
    }


def save_fitted(
    checkpoint: str | Path, fingerprint: str, name: str, tensors: Mapping[str, Tensor], facts: Facts
) -> Path:
    """Store tensors with their facts (JSON values); the same input gives the same bytes."""
    path = fitted_path(checkpoint, fingerprint, name)
    record = json.dumps({**facts, "fingerprint": fingerprint}, sort_keys=True)
    ready = {key: value.contiguous() for key, value in sorted(tensors.items())}
    with atomic_path(path) as temporary:
        save_file(ready, temporary, metadata={"facts": record})
    return path


def save_quantiser(
    checkpoint: str | Path, fingerprint: str, name: str, quantiser: VectorQuantiser, facts: Facts
) -> Path:
    """Store a vector quantiser; 16 bits a number, as its cost is counted."""
    facts = {**facts, "kind": "quantiser", "block": quantiser.block}
    tensors = {"centres": quantiser.centres.half()}
    return save_fitted(checkpoint, fingerprint, name, tensors, facts)


def save_kmeans(
    checkpoint: str | Path, fingerprint: str, name: str, centres: Tensor, block: tuple[int, int],
    facts: Facts,
) -> Path:  # fmt: skip
    """Store k-means atoms; 16 bits a number, as their cost is counted."""
    facts = {**facts, "kind": "k-means", "block": block}
    return save_fitted(checkpoint, fingerprint, name, {"centres": centres.half()}, facts)

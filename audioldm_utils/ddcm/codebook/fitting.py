"""Fitting codebooks on train latents: what ``audioldm-utils fit`` stores for a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from audioldm_utils.ddcm.codebook.bits import start_noise
from audioldm_utils.ddcm.codebook.blocks import KMeans
from audioldm_utils.ddcm.codebook.clustering import fit_directions, to_blocks
from audioldm_utils.ddcm.codebook.quantiser import VectorQuantiser
from audioldm_utils.errors import UserError
from audioldm_utils.model.schedule import Schedule

LEVELS = (0.003, 0.02, 0.1, 0.3, 0.6, 0.9)
"""Alpha-bar of the noise levels at which residuals are sampled."""


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
        latents: each (channels, time, frequency).
        schedule: the noise levels, one a timestep.
        denoise: the network's output of (x_t (1, *shape), t).
        seed: of the noise.
        progress: gets the number of clips done and the number of all.

    Returns:
        One residual for each clip and timestep, each (channels, time, frequency).
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


def fit_quantiser(
    latents: Sequence[Tensor], size: int, *, held_out: Sequence[Tensor], **options: object
) -> tuple[VectorQuantiser, dict[str, object]]:
    """A vector quantiser and its facts; options as `VectorQuantiser.fit`.

    Facts: relative error on the held-out latents (mean squared error over variance) after each
    stage, bits of the codebook, values a vector.
    """
    fitted = VectorQuantiser.fit(latents, size, **options)
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
        "codebook_bits": quantiser.codebook_bits,
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
    iterations: int = 15,
) -> tuple[Tensor, dict[str, object]]:
    """Directions of residual blocks and their facts.

    Facts: mean cosine and efficiency of a choice on held-out residuals, bits of the codebook.

    Returns:
        Centres (size, channels * h * w), in half precision as they are stored, and the facts.
    """
    rows = torch.cat([to_blocks(r[None].float(), block)[0] for r in found])
    if len(rows) > max_vectors:
        rows = rows[torch.linspace(0, len(rows) - 1, max_vectors).long()]
    centres = fit_directions(rows, size, seed=seed, iterations=iterations)
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

"""Latent refinement: gradient steps of the latents on the multi-scale mel distance.

The VAE's encoder is one guess; the decoder may know a better latent for this very clip.
A few Adam steps find it. What distance is left then is the decoder's own limit.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional

#: Averaging windows (frames, bands) of the multi-scale distance, and their weights: mostly
#: the log-mel itself, and a little of what stands out once details are averaged away.
SCALES = (((1, 1), 0.94), ((4, 1), 0.02), ((1, 4), 0.02), ((8, 4), 0.02))


def mel_distance(reference: torch.Tensor, estimate: torch.Tensor) -> torch.Tensor:
    """Multi-scale log-mel distance of each item, ``(batch,)``, nat; 0 is perfect, lower is better.

    Mean absolute difference of the log-mels ``(batch, frames, n_mels)`` themselves and of
    their averages over :data:`SCALES`, weighted. It is blind to phase.
    """
    if reference.shape != estimate.shape:
        raise ValueError(
            f"reference {tuple(reference.shape)} and estimate {tuple(estimate.shape)} differ"
        )
    difference = (estimate - reference)[:, None]
    total = torch.zeros(len(reference), dtype=reference.dtype, device=reference.device)
    for (frames, bands), weight in SCALES:
        window = (min(frames, difference.shape[2]), min(bands, difference.shape[3]))
        pooled = functional.avg_pool2d(difference, window)
        total = total + weight * pooled.abs().mean((1, 2, 3))
    return total


def refine_latents(
    latents: torch.Tensor,
    mel: torch.Tensor,
    decode: Callable[[torch.Tensor], torch.Tensor],
    steps: int = 50,
    learning_rate: float = 0.3,
    callback: Callable[[int], None] | None = None,
) -> tuple[torch.Tensor, np.ndarray]:
    """Adam on the latents, batched; each item is as if it were alone.

    Args:
        latents: start ``(batch, 8, frames / 4, 16)``, scaled.
        mel: target ``(batch, frames, 64)``.
        decode: scaled latents to log-mel, differentiable.
        steps: gradient steps, one forward and one backward pass of the decoder each.
        learning_rate: largest, in latent standard deviations a step; it rises over the first
            tenth of the steps and falls as a cosine.
        callback: gets each step's number.

    Returns:
        The best latents of each item and the curve ``(steps + 1, batch)`` of distances, nat.
        The start counts, so no item ends worse than it began.
    """
    variable = latents.detach().clone().requires_grad_(True)
    optimiser = torch.optim.Adam([variable], lr=learning_rate, betas=(0.8, 0.95))
    best = variable.detach().clone()
    lowest = torch.full((len(latents),), torch.inf, device=latents.device)
    curve = []
    for step in range(steps + 1):
        with torch.set_grad_enabled(step < steps):
            distance = mel_distance(mel, decode(variable))
        found = distance.detach()
        improved = found < lowest
        best[improved], lowest[improved] = variable.detach()[improved], found[improved]
        curve.append(found.cpu().numpy())
        if callback:
            callback(step)
        if step < steps:
            rise = min(1.0, 0.1 + 10 * step / steps)
            fall = 0.52 + 0.48 * np.cos(np.pi * step / steps)
            optimiser.param_groups[0]["lr"] = learning_rate * rise * fall
            (variable.grad,) = torch.autograd.grad(distance.sum(), variable)
            optimiser.step()
    return best, np.stack(curve)

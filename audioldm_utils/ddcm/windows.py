"""Long audio: a denoiser that sees windows, and codes for segments.

Latents ``(batch, 8, frames, 16)`` of long audio are denoised together: at each step the
network sees overlapping windows, whose outputs are cross-faded (Bar-Tal et al.,
MultiDiffusion, arXiv 2302.08113). The noise is chosen for segments that do not overlap, so
that no latent is coded twice and there is no seam to hide.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from audioldm_utils.model.windows import trapezoid, window_starts

Denoiser = Callable[[torch.Tensor, int], torch.Tensor]


def ramps(frames: int, length: int, overlap: int) -> torch.Tensor:
    """Weights of each window, ``(windows, length)`` float64, that sum to 1 on every frame.

    Normalised before they are applied, not after: the last bits of ``.ddcm`` files hang on it.
    """
    firsts = window_starts(frames, length, overlap)
    length = min(length, frames)
    shape = trapezoid(length, overlap).double() / (overlap + 1)
    total = torch.zeros(frames, dtype=torch.float64)
    for first in firsts:
        total[first : first + length] += shape
    return torch.stack([shape / total[first : first + length] for first in firsts])


def windowed(denoiser: Denoiser, length: int, overlap: int) -> Denoiser:
    """A denoiser that shows ``denoiser`` windows of ``length`` latent frames, one by one.

    Neighbours share ``overlap`` frames and are cross-faded. Latents no longer than ``length``
    pass through unchanged. Memory is that of one window at a time.
    """

    def output(x: torch.Tensor, t: int) -> torch.Tensor:
        frames = x.shape[2]
        if frames <= length:
            return denoiser(x, t)
        weights = ramps(frames, length, overlap).to(x)
        total = torch.zeros_like(x)
        for first, weight in zip(window_starts(frames, length, overlap), weights, strict=True):
            part = denoiser(x[:, :, first : first + length], t)
            total[:, :, first : first + length] += part * weight[None, None, :, None]
        return total

    return output


def fold(latents: torch.Tensor, count: int) -> torch.Tensor:
    """``(batch, c, count·h, w)`` to ``(batch·count, c, h, w)``, a clip's segments together."""
    return latents.unflatten(2, (count, -1)).movedim(2, 1).flatten(0, 1)


def unfold(folded: torch.Tensor, count: int) -> torch.Tensor:
    """Undo ``fold``."""
    return folded.unflatten(0, (-1, count)).movedim(1, 2).flatten(2, 3)

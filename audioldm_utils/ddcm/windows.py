"""Long audio: a denoiser that sees windows, and codes for segments.

Latents ``(batch, 8, frames, 16)`` of long audio are denoised together: at each step the
network sees overlapping windows and its outputs are cross-faded where they overlap (Bar-Tal
et al., MultiDiffusion, arXiv 2302.08113). The noise is chosen for segments that do not
overlap, so no latent is coded twice and there is no seam to hide. The alternative, windows
coded each on its own and cross-faded after decoding, is ``split`` and ``join``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

Denoiser = Callable[[torch.Tensor, int], torch.Tensor]


def starts(frames: int, length: int, overlap: int) -> list[int]:
    """First frames of windows that cover ``frames``; the last one ends at the end.

    Args:
        frames: latent frames to cover.
        length: of a window.
        overlap: of neighbours, ``0 <= overlap < length``; the last two may overlap more.
    """
    if not 0 <= overlap < length:
        raise ValueError(f"overlap {overlap} is not between 0 and the window's {length} frames")
    if frames <= length:
        return [0]
    inner = range(0, frames - length, length - overlap)
    return [*inner, frames - length]


def ramps(frames: int, length: int, overlap: int) -> torch.Tensor:
    """Weights of each window, ``(windows, length)``, that sum to 1 on every frame.

    Linear over the overlap, constant elsewhere, normalised by their sum.
    """
    firsts = starts(frames, length, overlap)
    length = min(length, frames)
    rise = torch.arange(1, length + 1, dtype=torch.float64) / (overlap + 1)
    shape = torch.minimum(rise, rise.flip(0)).clamp(max=1.0)
    total = torch.zeros(frames, dtype=torch.float64)
    for first in firsts:
        total[first : first + length] += shape
    return torch.stack([shape / total[first : first + length] for first in firsts])


def windowed(denoiser: Denoiser, length: int, overlap: int) -> Denoiser:
    """A denoiser that shows ``denoiser`` windows of ``length`` frames, one after the other.

    Latents no longer than ``length`` pass through unchanged. Memory is that of one window
    at a time.

    Args:
        denoiser: ``(x_t, t) -> output``.
        length: latent frames of a window.
        overlap: latent frames that neighbours share and cross-fade.
    """

    def output(x: torch.Tensor, t: int) -> torch.Tensor:
        frames = x.shape[2]
        if frames <= length:
            return denoiser(x, t)
        weights = ramps(frames, length, overlap).to(x)
        total = torch.zeros_like(x)
        for first, weight in zip(starts(frames, length, overlap), weights, strict=True):
            part = denoiser(x[:, :, first : first + length], t)
            total[:, :, first : first + length] += part * weight[None, None, :, None]
        return total

    return output


def segment_frames(frames: int, longest: int) -> tuple[int, int]:
    """Divide into equal segments: (how many, frames of each).

    Their product is at least ``frames``, and above it by less than their number.

    Args:
        frames: latent frames to cover, >= 1.
        longest: allowed in a segment, >= 1.
    """
    count = -(-frames // longest)
    return count, -(-frames // count)


def fold(latents: torch.Tensor, count: int) -> torch.Tensor:
    """``(batch, c, count·h, w)`` to ``(batch·count, c, h, w)``, a clip's segments together."""
    if latents.shape[2] % count:
        raise ValueError(f"{latents.shape[2]} frames do not divide into {count} segments")
    return latents.unflatten(2, (count, -1)).movedim(2, 1).flatten(0, 1)


def unfold(folded: torch.Tensor, count: int) -> torch.Tensor:
    """Undo ``fold``."""
    return folded.unflatten(0, (-1, count)).movedim(1, 2).flatten(2, 3)


def split(latents: torch.Tensor, length: int, overlap: int) -> torch.Tensor:
    """Overlapping windows of one clip's latents ``(1, c, frames, w)`` as a batch."""
    firsts = starts(latents.shape[2], length, overlap)
    return torch.cat([latents[:, :, first : first + length] for first in firsts])


def join(windows: torch.Tensor, frames: int, overlap: int) -> torch.Tensor:
    """Cross-fade what ``split`` made to ``(1, c, frames, w)``."""
    length = windows.shape[2]
    weights = ramps(frames, length, overlap).to(windows)
    total = windows.new_zeros(1, windows.shape[1], frames, windows.shape[3])
    for first, window, weight in zip(
        starts(frames, length, overlap), windows, weights, strict=True
    ):
        total[0, :, first : first + length] += window * weight[None, :, None]
    return total

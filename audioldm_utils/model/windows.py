"""Windows of what is long, and joining what they give by linear cross-fades."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


def window_starts(length: int, window: int, overlap: int) -> list[int]:
    """Where windows begin so that they cover ``length``: regular, the last one at the end.

    Each start but the last depends only on what has come so far, as streaming needs.
    """
    if not 0 <= overlap < window:
        raise ValueError(f"overlap must be from 0 to below window={window}, got {overlap}")
    if length <= window:
        return [0]
    return [*range(0, length - window, window - overlap), length - window]


def trapezoid(count: int, overlap: int) -> Tensor:
    """Weights of a window before they are normalised, ``(count,)`` float32: 1, 2, ... and back."""
    position = torch.arange(count, dtype=torch.float32)
    return torch.minimum(position + 1, count - position).clamp(max=overlap + 1)


class Crossfade:
    """Joins overlapping pieces along ``dim`` as they come, one after another."""

    def __init__(self, overlap: int, dim: int) -> None:
        self.overlap, self.dim = overlap, dim
        # Weighted sum of the pieces and sum of the weights, from position `_first` on.
        self._sums: list[Tensor] = []
        self._first = 0

    def add(self, start: int, piece: Tensor) -> None:
        """Add a piece that begins at ``start``, which has not been taken yet."""
        count, offset = piece.shape[self.dim], start - self._first
        shape = [count if i == self.dim else 1 for i in range(piece.ndim)]
        ramp = trapezoid(count, self.overlap).to(piece.device).view(shape)
        more = [piece * ramp, ramp]
        kept = self._sums or [part.narrow(self.dim, 0, 0) for part in more]
        missing = offset + count - kept[0].shape[self.dim]
        if missing > 0:
            fill = [0, 0] * (piece.ndim - 1 - self.dim) + [0, missing]
            kept = [torch.nn.functional.pad(part, fill) for part in kept]
        for part, added in zip(kept, more, strict=True):
            part.narrow(self.dim, offset, count).add_(added)
        self._sums = kept

    def take(self, until: int) -> Tensor | None:
        """What lies before ``until``, to which nothing will be added any more."""
        if not self._sums or until <= self._first:
            return None
        size = self._sums[0].shape[self.dim]
        count = min(until - self._first, size)
        total, weights = (part.narrow(self.dim, 0, count) for part in self._sums)
        self._sums = [part.narrow(self.dim, count, size - count) for part in self._sums]
        self._first += count
        return total / weights


def crossfade(pieces: Iterable[tuple[int, Tensor]], length: int, overlap: int, dim: int) -> Tensor:
    """Join overlapping pieces, each with its start along ``dim``, by linear cross-fades."""
    joined = Crossfade(overlap, dim)
    for start, piece in pieces:
        if piece.shape[dim] == length:
            return piece
        joined.add(start, piece)
    return joined.take(length)

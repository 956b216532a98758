"""Real time: sound that comes in pieces goes through VAE and vocoder as it comes.

The blocks are the windows of :class:`~audioldm_utils.model.networks.Networks`, so the stream's
result is :func:`offline`'s, but for rounding. The level is fixed beforehand: a clip's peak and
mean are known only at its end. One channel at 16 kHz; ``(n,)`` float32 in and out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from audioldm_utils import bounds
from audioldm_utils.audio import MODEL_RATE
from audioldm_utils.errors import UserError
from audioldm_utils.model import DOWNSAMPLING, HOP
from audioldm_utils.model.mel import log_mel
from audioldm_utils.model.networks import MEL_CONTEXT, PEAK, Networks
from audioldm_utils.model.windows import Crossfade

#: Mel frames that the vocoder waits for, beside its context.
VOCODER_BLOCK = 32


def seconds_to_frames(seconds: float) -> int:
    """Mel frames of a duration, a multiple of 4, at least 4."""
    return max(DOWNSAMPLING, round(seconds * MODEL_RATE / HOP / DOWNSAMPLING) * DOWNSAMPLING)


def block_networks(networks: Networks, window: float, overlap: float) -> Networks:
    """The same checkpoint with windows of so many seconds; UserError where they are impossible."""
    bounds.WINDOW.check("window", window)
    bounds.OVERLAP.check("overlap", overlap)
    frames, shared = seconds_to_frames(window), seconds_to_frames(overlap) if overlap else 0
    if shared >= frames:
        raise UserError(f"the overlap ({overlap:g} s) must be shorter than the window.")
    return Networks(networks.checkpoint, window=frames, overlap=shared)


@torch.no_grad()
def offline(networks: Networks, samples: np.ndarray, peak: float = 1.0) -> np.ndarray:
    """What the stream gives, from a whole clip: the same windows, the same fixed level."""
    scale = PEAK / peak
    mel = networks.to_mel(torch.from_numpy(np.asarray(samples, np.float32))[None] * scale)
    waveform = networks.vocode(networks.decode(networks.encode(mel)))
    return (waveform[0, : len(samples)] / scale).cpu().numpy()


class Windows:
    """``window_starts`` while the length is not known yet.

    A regular window is given out as soon as something comes after it; the last, which ends where
    the input ends, by :meth:`finish`.
    """

    def __init__(self, window: int, overlap: int, dim: int) -> None:
        self.window, self.step, self.dim = window, window - overlap, dim
        self.settled = 0  # no window that is still to come begins before this position
        self._next = self._first = 0
        self._kept: Tensor | None = None

    def push(self, piece: Tensor) -> list[tuple[int, Tensor]]:
        """Take what comes next along ``dim``; give the windows that it completes."""
        self._kept = piece if self._kept is None else torch.cat([self._kept, piece], self.dim)
        end = self._first + self._kept.shape[self.dim]
        found = []
        while end > self._next + self.window:
            found.append((self._next, self._cut(self._next, self.window)))
            self._next += self.step
        self.settled = max(0, end - self.window)
        self._kept = self._cut(self.settled, end - self.settled)
        self._first = self.settled
        return found

    def finish(self) -> list[tuple[int, Tensor]]:
        """The last window."""
        if self._kept is None:
            return []
        self.settled = self._first + self._kept.shape[self.dim]
        return [(self._first, self._kept)]

    def _cut(self, start: int, count: int) -> Tensor:
        assert self._kept is not None
        return self._kept.narrow(self.dim, start - self._first, count)


class ToMel:
    """``Networks.to_mel`` of samples that come in pieces."""

    def __init__(self, networks: Networks) -> None:
        self.config, self._device = networks.mel_config, networks.device
        self._samples = torch.zeros(1, 0)
        # Frame that the kept samples begin with, and the next one to give out.
        self._first = self._next = 0

    def push(self, samples: Tensor) -> Tensor | None:
        """Samples ``(1, n)`` to the log-mel ``(1, frames, 64)`` that they complete."""
        self._samples = torch.cat([self._samples, samples], 1)
        hop = self.config.hop_length
        # The last three hops wait for what comes after them.
        end = self._first + self._samples.shape[1] // hop - MEL_CONTEXT
        if end <= self._next:
            return None
        return self._frames(end, (end + MEL_CONTEXT - self._first) * hop)

    def finish(self) -> Tensor | None:
        """The rest, filled as ``Networks.to_mel`` fills it."""
        hop = self.config.hop_length
        count = self._first + math.ceil(self._samples.shape[1] / hop)
        if count == 0:
            return None
        frames = max(count, MEL_CONTEXT)
        missing = (frames - self._first) * hop - self._samples.shape[1]
        self._samples = torch.nn.functional.pad(self._samples, (0, missing))
        mel = self._frames(frames, self._samples.shape[1])
        silent = (0, 0, 0, -frames % DOWNSAMPLING)
        return torch.nn.functional.pad(mel, silent, value=self.config.silence)

    def _frames(self, end: int, samples: int) -> Tensor:
        mel = log_mel(self._samples[:, :samples].to(self._device), self.config)
        mel = mel[:, self._next - self._first : end - self._first]
        keep = max(0, end - MEL_CONTEXT)
        self._samples = self._samples[:, (keep - self._first) * self.config.hop_length :]
        self._first, self._next = keep, end
        return mel


class Vocode:
    """``Networks.vocode`` of a mel that comes in pieces."""

    def __init__(self, networks: Networks) -> None:
        self.networks, self.context = networks, networks.vocoder_context
        self._mel: Tensor | None = None
        self._first = self._next = 0

    def push(self, mel: Tensor) -> Tensor | None:
        """Mel ``(1, frames, 64)`` to the waveform ``(1, n)`` that can be told already."""
        self._mel = mel if self._mel is None else torch.cat([self._mel, mel], 1)
        end = self._first + self._mel.shape[1] - self.context
        return self._until(end) if end - self._next >= VOCODER_BLOCK else None

    def finish(self) -> Tensor | None:
        """The rest."""
        return None if self._mel is None else self._until(self._first + self._mel.shape[1])

    @torch.no_grad()
    def _until(self, end: int) -> Tensor:
        assert self._mel is not None
        hop = self.networks.mel_config.hop_length
        waveform = self.networks.vocode_grad(self._mel)
        waveform = waveform[:, (self._next - self._first) * hop : (end - self._first) * hop]
        keep = max(0, end - self.context)
        self._mel = self._mel[:, keep - self._first :]
        self._first, self._next = keep, end
        return waveform


class Decoder:
    """Latents that come in pieces to a waveform: the VAE's decoder and the vocoder."""

    def __init__(self, networks: Networks) -> None:
        self.networks = networks
        size, shared = networks.window // DOWNSAMPLING, networks.overlap // DOWNSAMPLING
        self._windows, self._mels = Windows(size, shared, 2), Crossfade(networks.overlap, 1)
        self._vocode = Vocode(networks)

    def push(self, latents: Tensor) -> list[Tensor]:
        """Latents ``(1, 8, frames, 16)`` to pieces of waveform ``(1, n)``."""
        return self._mel(self._windows.push(latents))

    def finish(self) -> list[Tensor]:
        """The rest."""
        pieces = self._mel(self._windows.finish())
        last = self._vocode.finish()
        return pieces if last is None else [*pieces, last]

    def _mel(self, windows: list[tuple[int, Tensor]]) -> list[Tensor]:
        for start, latents in windows:
            self._mels.add(start * DOWNSAMPLING, self.networks.decode(latents))
        mel = self._mels.take(self._windows.settled * DOWNSAMPLING)
        waveform = None if mel is None else self._vocode.push(mel)
        return [] if waveform is None else [waveform]


@dataclass
class Reconstructor:
    """A stream through VAE and vocoder: :meth:`push` samples as they come, then :meth:`finish`."""

    networks: Networks  # whose windows are the stream's blocks, see :func:`block_networks`
    peak: float = 1.0  # highest level expected of the input, full scale 1, scaled to 0.5
    taken: int = 0  # samples so far, as ``given``
    given: int = 0

    def __post_init__(self) -> None:
        if self.networks.window is None:
            raise ValueError("a stream needs networks with a window")
        bounds.PEAK.check("peak", self.peak)
        self._to_mel, self._decoder = ToMel(self.networks), Decoder(self.networks)
        self._windows = Windows(self.networks.window, self.networks.overlap, 1)
        self._latents = Crossfade(self.networks.overlap // DOWNSAMPLING, 2)

    def push(self, samples: np.ndarray) -> np.ndarray:
        """Take samples ``(n,)``; give those that are ready, often none."""
        self.taken += len(samples)
        wave = torch.from_numpy(np.asarray(samples, np.float32))[None] * (PEAK / self.peak)
        return self._give(self._encoded(self._to_mel.push(wave)))

    def finish(self) -> np.ndarray:
        """The rest, so that as many samples came out as went in."""
        pieces = self._encoded(self._to_mel.finish())
        pieces += self._encode(self._windows.finish())
        return self._give(pieces + self._decoder.finish())

    def _encoded(self, mel: Tensor | None) -> list[Tensor]:
        return [] if mel is None else self._encode(self._windows.push(mel))

    def _encode(self, windows: list[tuple[int, Tensor]]) -> list[Tensor]:
        for start, mel in windows:
            self._latents.add(start // DOWNSAMPLING, self.networks.encode(mel))
        latents = self._latents.take(self._windows.settled // DOWNSAMPLING)
        return [] if latents is None else self._decoder.push(latents)

    def _give(self, pieces: list[Tensor]) -> np.ndarray:
        made = clipped_to(self.taken - self.given, pieces, self.peak)
        self.given += len(made)
        return made


def clipped_to(count: int, pieces: list[Tensor], peak: float) -> np.ndarray:
    """Pieces ``(1, n)`` as samples at the input's level, at most ``count``.

    The last frames reach past the end of the input.
    """
    if not pieces:
        return np.zeros(0, np.float32)
    made = torch.cat(pieces, 1)[0].cpu().numpy() * np.float32(peak / PEAK)
    return made[: max(0, count)]

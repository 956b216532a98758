"""Real time with little delay: windows that move by short hops, of each of which one hop is kept.

A window shows the networks what came before the hop, and ``ahead`` of what comes after it; the
windows overlap by almost all of their length, so that each hop is computed many times over. A
sample waits for its hop and what lies ahead: 0.34 s at 0.16 s each, with the front end's three
frames. Mel and waveform of neighbouring hops are cross-faded where the one looked ahead.

Phase without a vocoder is RTISI-LA's (Zhu, Beauregard and Wyse, IEEE TASLP 15(5), 2007): what
has been given out stays, new frames begin from the phase that it implies, and those ahead are
begun again with the next hop. Iterations are the fast ones of Perraudin et al., WASPAA 2013.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from audioldm_utils import bounds
from audioldm_utils.errors import UserError
from audioldm_utils.model import HOP
from audioldm_utils.model.inverse import inverse_magnitude
from audioldm_utils.model.mel import MOMENTUM, MelConfig, linear_magnitude, overlap_add
from audioldm_utils.model.networks import PEAK, Networks
from audioldm_utils.model.streaming import ToMel, clipped_to, seconds_to_frames
from audioldm_utils.model.windows import Crossfade

#: Mel frames over which waveforms of neighbouring hops are cross-faded.
WAVE_FADE = 2
#: Of the phase, a hop; a frame is iterated on with each hop that sees it.
ITERATIONS = 16


class Synthesis(Protocol):
    """``push`` a hop's mel ``(1, frames, 64)`` and that ahead of it, get the waveform of both."""

    def push(self, mel: Tensor, ahead: Tensor) -> Tensor:
        """Waveform ``(1, 160 * (frames + frames ahead))``."""


class Vocoded:
    """By the checkpoint's vocoder, which is shown the frames before, too."""

    def __init__(self, networks: Networks) -> None:
        self.networks, self._before = networks, torch.zeros(1, 0, 64, device=networks.device)

    def push(self, mel: Tensor, ahead: Tensor) -> Tensor:  # noqa: D102
        start = self._before.shape[1] * HOP
        known = torch.cat([self._before, mel], 1)
        self._before = known[:, -self.networks.vocoder_context :]
        return self.networks.vocode_grad(torch.cat([known, ahead], 1))[:, start:]


class Phased:
    """By magnitudes of the mel, fitted (``inverse``) or plain, and a phase that goes on."""

    def __init__(self, synthesis: str, config: MelConfig = MelConfig()) -> None:
        self._magnitude = inverse_magnitude if synthesis == "inverse" else linear_magnitude
        self.size = config.n_fft
        self.window = torch.hann_window(self.size)
        self.reach = -(-self.size // HOP) - 1  # frames before that share samples with a frame
        self._mel = torch.zeros(1, 0, config.n_mels)
        self._given = torch.zeros(0, self.size // 2 + 1, dtype=torch.complex64)

    def push(self, mel: Tensor, ahead: Tensor) -> Tensor:  # noqa: D102
        known = torch.cat([self._mel, mel], 1)
        # The inverse looks 21 frames to each side.
        magnitude = self._magnitude(torch.cat([known, ahead], 1).cpu())[0].T
        magnitude = magnitude[self._mel.shape[1] :]
        self._mel = known[:, -3 * 7 :]
        spectra = self._iterated(self._begun(magnitude), magnitude)
        before, count = len(self._given), mel.shape[1]
        self._given = spectra[: before + count][-self.reach :]
        start = before * HOP + (self.size - HOP) // 2
        return self._wave(spectra)[None, start:][:, : len(magnitude) * HOP]

    def _begun(self, magnitude: Tensor) -> Tensor:
        """Spectra given before and new ones, each with the phase of what overlaps before it."""
        spectra = list(self._given)
        total = torch.zeros((len(spectra) + len(magnitude)) * HOP + self.size)

        def add(frame: int, spectrum: Tensor) -> None:
            part = torch.fft.irfft(spectrum, n=self.size) * self.window
            total[frame * HOP : frame * HOP + self.size] += part

        for frame, spectrum in enumerate(spectra):
            add(frame, spectrum)
        for one in magnitude:
            frame = len(spectra)
            seen = torch.fft.rfft(total[frame * HOP : frame * HOP + self.size] * self.window)
            spectra.append(torch.polar(one, seen.angle()))
            add(frame, spectra[-1])
        return torch.stack(spectra)

    def _iterated(self, spectra: Tensor, magnitude: Tensor) -> Tensor:
        before, last = len(self._given), 0
        for _ in range(ITERATIONS):
            seen = self._wave(spectra).unfold(0, self.size, HOP)[before : len(spectra)]
            found = torch.fft.rfft(seen * self.window)
            turned = found - MOMENTUM / (1 + MOMENTUM) * last
            spectra = torch.cat([spectra[:before], torch.polar(magnitude, turned.angle())])
            last = found
        return spectra

    def _wave(self, spectra: Tensor) -> Tensor:
        """The sound whose spectra are nearest, from the first one's first sample on."""
        frames = torch.fft.irfft(spectra, n=self.size) * self.window
        parts = torch.stack([frames, self.window.square().expand_as(frames)])
        total, weight = overlap_add(parts.transpose(1, 2), HOP)
        return total / weight.clamp(min=1e-3)


@dataclass
class Rolling:
    """A stream through VAE and synthesis by hops; use as ``streaming.Reconstructor``.

    All times are in seconds and rounded to multiples of 0.04. The first windows begin where the
    sound begins, and are shorter.

    Raises:
        UserError: a time is out of range, or the window holds no hop beside what is ahead.
    """

    networks: Networks  # whose synthesis is taken; their own window does not matter
    window: float = 0.96  # what the networks see at once
    hop: float = 0.16
    ahead: float = 0.16
    peak: float = 1.0  # highest level expected of the input, full scale 1, scaled to 0.5
    taken: int = 0  # samples so far, as ``given``
    given: int = 0

    def __post_init__(self) -> None:
        bounds.PEAK.check("peak", self.peak)
        bounds.WINDOW.check("window", self.window)
        bounds.HOP.check("hop", self.hop)
        bounds.HOP.check("ahead", self.ahead)
        self._window, self._hop, self._ahead = map(
            seconds_to_frames, (self.window, self.hop, self.ahead)
        )
        if self._hop + self._ahead > self._window:
            raise UserError(
                f"a window of {self.window:g} s is too short for a hop of {self.hop:g} s and "
                f"{self.ahead:g} s ahead of it."
            )
        whole = Networks(self.networks.checkpoint, window=None)
        self._encode, self._decode, self._to_mel = whole.encode, whole.decode, ToMel(whole)
        way = self.networks.synthesis
        self._synthesis: Synthesis = Vocoded(whole) if way == "vocoder" else Phased(way)
        self._mel = torch.zeros(1, 0, whole.mel_config.n_mels, device=whole.device)
        self._first = self._next = 0  # frame that `_mel` begins with, and the next to give out
        self._mels = Crossfade(self._ahead, 1)
        self._waves = Crossfade(WAVE_FADE * HOP, 1)

    def push(self, samples: np.ndarray) -> np.ndarray:
        """Take samples ``(n,)``; give those that are ready, often none."""
        self.taken += len(samples)
        wave = torch.from_numpy(np.asarray(samples, np.float32))[None] * (PEAK / self.peak)
        return self._give(self._hops(self._to_mel.push(wave)))

    def finish(self) -> np.ndarray:
        """The rest, so that as many samples came out as went in."""
        pieces = self._hops(self._to_mel.finish())
        rest = self._first + self._mel.shape[1] - self._next
        return self._give([*pieces, self._made(rest, 0)] if rest else pieces)

    def _hops(self, mel: Tensor | None) -> list[Tensor]:
        if mel is None:
            return []
        self._mel = torch.cat([self._mel, mel.to(self._mel)], 1)
        pieces = []
        while self._first + self._mel.shape[1] >= self._next + self._hop + self._ahead:
            pieces.append(self._made(self._hop, self._ahead))
        return pieces

    @torch.no_grad()
    def _made(self, count: int, ahead: int) -> Tensor:
        """The waveform of the next ``count`` frames, made with so many frames ahead of them."""
        start, end = self._next, self._next + count
        first = max(0, end + ahead - self._window)
        self._mel, self._first = self._mel[:, first - self._first :], first
        seen = self._decode(self._encode(self._mel[:, : end + ahead - first]))
        self._mels.add(start, seen[:, start - first :])
        mel = self._mels.take(end)
        wave = self._synthesis.push(mel, seen[:, end - first :])
        self._waves.add(start * HOP, wave[:, : (count + min(ahead, WAVE_FADE)) * HOP])
        self._next = end
        return self._waves.take(end * HOP)

    def _give(self, pieces: list[Tensor]) -> np.ndarray:
        made = clipped_to(self.taken - self.given, pieces, self.peak)
        self.given += len(made)
        return made

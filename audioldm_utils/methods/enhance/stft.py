"""Short-time Fourier analysis on the front end's own frame grid, and its exact inverse.

Frame ``k`` is centred on sample ``hop * k + hop / 2``, as in :mod:`audioldm_utils.model.mel`, so
that a gain computed on a log-mel applies to the frame of the same index. Extra frames on both
sides make the synthesis exact. Waveforms ``(samples,)`` float32, spectra ``(frames, bins)``
complex64.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import scipy.fft

from audioldm_utils.model import HOP
from audioldm_utils.model.mel import MelConfig


@lru_cache(maxsize=16)
def hann(length: int) -> np.ndarray:
    """Periodic Hann window, float32."""
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)).astype(np.float32)


class Stft:
    """Analysis and least-squares synthesis with a periodic Hann window.

    Args:
        n_fft: window and transform length, samples.
        hop: samples between frames; ``hop <= n_fft / 4`` keeps gain changes free of seams.
    """

    def __init__(self, n_fft: int = 1024, hop: int = HOP) -> None:
        if not 0 < hop <= n_fft // 2:
            raise ValueError(f"hop must lie in 1..{n_fft // 2}, got {hop}")
        self.n_fft, self.hop = n_fft, hop
        #: Extra frames on each side of the grid.
        self.extra = -(-(n_fft - (n_fft - hop) // 2) // hop)
        self._lead = (n_fft - hop) // 2 + self.extra * hop

    def frames(self, samples: int) -> int:
        """Frames of the grid: as many as the front end gives."""
        return samples // self.hop

    def analyse(self, waveform: np.ndarray) -> np.ndarray:
        """Spectrum ``(frames + 2 * extra, bins)`` of ``(samples,)``; edges are reflected."""
        count = self.frames(len(waveform)) + 2 * self.extra + 1
        total = (count - 1) * self.hop + self.n_fft
        padded = np.pad(
            np.asarray(waveform, np.float32),
            (self._lead, max(0, total - self._lead - len(waveform))),
            mode="reflect",
        )
        windows = np.lib.stride_tricks.sliding_window_view(padded, self.n_fft)[:: self.hop][:count]
        return scipy.fft.rfft(windows * hann(self.n_fft), axis=1)

    def synthesise(self, spectrum: np.ndarray, samples: int) -> np.ndarray:
        """Waveform ``(samples,)`` whose spectrum lies nearest (Griffin and Lim 1984, eq. 6)."""
        window = hann(self.n_fft)
        pieces = scipy.fft.irfft(spectrum, self.n_fft, axis=1).astype(np.float32) * window
        total = (len(spectrum) - 1) * self.hop + self.n_fft
        out = np.zeros(total, np.float32)
        weight = np.zeros(total, np.float32)
        square = window * window
        for index, piece in enumerate(pieces):
            begin = index * self.hop
            out[begin : begin + self.n_fft] += piece
            weight[begin : begin + self.n_fft] += square
        inner = slice(self._lead, self._lead + samples)
        return out[inner] / np.maximum(weight[inner], 1e-6)

    def core(self, spectrum: np.ndarray) -> np.ndarray:
        """The frames of the grid alone (a view)."""
        return spectrum[self.extra : len(spectrum) - self.extra - 1]

    def spread(self, gains: np.ndarray) -> np.ndarray:
        """Repeat the first and last row of ``(frames, ...)`` over the extra frames."""
        rows = np.arange(-self.extra, len(gains) + self.extra + 1).clip(0, len(gains) - 1)
        return gains[rows]


@lru_cache(maxsize=4)
def mel_weights(config: MelConfig = MelConfig()) -> np.ndarray:
    """The front end's filterbank, ``(n_mels, n_fft // 2 + 1)`` float32 (librosa, Slaney)."""
    import librosa

    return librosa.filters.mel(
        sr=config.sample_rate,
        n_fft=config.n_fft,
        n_mels=config.n_mels,
        fmin=config.fmin,
        fmax=config.fmax,
        htk=False,
        norm="slaney",
    )


@lru_cache(maxsize=4)
def band_centres(config: MelConfig = MelConfig()) -> np.ndarray:
    """Centre frequency of each mel band, Hz, ``(n_mels,)``."""
    import librosa

    return librosa.mel_frequencies(config.n_mels + 2, fmin=config.fmin, fmax=config.fmax)[1:-1]


@lru_cache(maxsize=4)
def bands_to_bins(config: MelConfig = MelConfig()) -> np.ndarray:
    """Matrix ``(n_mels, bins)`` that interpolates a per-band logarithm over the bins.

    Each column sums to one; bins outside every filter take the nearest band's value.
    """
    weights = mel_weights(config)
    # Slaney's filters have equal area: undo it, so that neighbours mix in equal measure.
    weights = weights / weights.max(1, keepdims=True)
    frequencies = np.arange(weights.shape[1]) * config.sample_rate / config.n_fft
    nearest = np.abs(frequencies[None] - band_centres(config)[:, None]).argmin(0)
    empty = weights.sum(0) <= 1e-8
    weights = weights.copy()
    weights[nearest[empty], np.flatnonzero(empty)] = 1.0
    return (weights / weights.sum(0)).astype(np.float32)


def log_mel_of(spectrum: np.ndarray, config: MelConfig = MelConfig()) -> np.ndarray:
    """Natural-log mel ``(frames, n_mels)`` of a spectrum ``(frames, bins)``."""
    return np.log(np.maximum(np.abs(spectrum) @ mel_weights(config).T, config.floor))


def log_energy_of(spectrum: np.ndarray, config: MelConfig = MelConfig()) -> np.ndarray:
    """The same with energies summed in place of magnitudes, half the logarithm of the sum.

    It tells a partial, which fills few bins, from noise of the same log-mel, which fills all.
    """
    power = np.square(np.abs(spectrum)) @ mel_weights(config).T
    return 0.5 * np.log(np.maximum(power, config.floor**2))

"""Short-time Fourier analysis on the front end's own frame grid, and its exact inverse.

Frame ``k`` is centred on sample ``hop * k + hop / 2``, as in :mod:`audioldm_utils.model.mel`, so
that a gain computed on a log-mel applies to the frame of the same index. Extra frames on both
sides make the synthesis exact. Waveforms ``(samples,)`` float32, spectra ``(frames, bins)``
complex64.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import scipy.fft

from audioldm_utils.model import HOP
from audioldm_utils.model.mel import MelConfig

#: The front end, whose bands all repairs work in.
MEL = MelConfig()


class Stft:
    """Analysis and least-squares synthesis with a periodic Hann window.

    ``n_fft`` is the window's and the transform's length, ``hop`` the samples between frames; at
    most ``n_fft / 4`` keeps gain changes free of seams.
    """

    def __init__(self, n_fft: int = MEL.n_fft, hop: int = HOP) -> None:
        self.n_fft, self.hop = n_fft, hop
        # As scipy.signal's, to the last bit, without its import, which costs more than a clip.
        turns = np.linspace(-np.pi, np.pi, n_fft + 1)[:-1]
        self._window = (0.5 + 0.5 * np.cos(turns)).astype(np.float32)
        #: Extra frames on each side of the grid.
        self.extra = -(-(n_fft - (n_fft - hop) // 2) // hop)
        self._lead = (n_fft - hop) // 2 + self.extra * hop

    def frames(self, samples: int) -> int:
        """Frames of the grid: as many as the front end gives."""
        return samples // self.hop

    def analyse(self, waveform: np.ndarray) -> np.ndarray:
        """Spectrum ``(frames + 2 * extra + 1, bins)`` of ``(samples,)``; edges are reflected."""
        count = self.frames(len(waveform)) + 2 * self.extra + 1
        end = max(0, (count - 1) * self.hop + self.n_fft - self._lead - len(waveform))
        padded = np.pad(np.asarray(waveform, np.float32), (self._lead, end), mode="reflect")
        windows = np.lib.stride_tricks.sliding_window_view(padded, self.n_fft)[:: self.hop][:count]
        return scipy.fft.rfft(windows * self._window, axis=1)

    def synthesise(self, spectrum: np.ndarray, samples: int) -> np.ndarray:
        """Waveform ``(samples,)`` whose spectrum lies nearest (Griffin and Lim 1984, eq. 6)."""
        pieces = scipy.fft.irfft(spectrum, self.n_fft, axis=1).astype(np.float32) * self._window
        out, weight = np.zeros((2, (len(spectrum) - 1) * self.hop + self.n_fft), np.float32)
        square = self._window * self._window
        for index, piece in enumerate(pieces):
            here = slice(index * self.hop, index * self.hop + self.n_fft)
            out[here] += piece
            weight[here] += square
        inner = slice(self._lead, self._lead + samples)
        return out[inner] / np.maximum(weight[inner], 1e-6)

    def core(self, spectrum: np.ndarray) -> np.ndarray:
        """The frames of the grid alone (a view)."""
        return spectrum[self.extra : len(spectrum) - self.extra - 1]

    def spread(self, gains: np.ndarray) -> np.ndarray:
        """Repeat the first and last row of ``(frames, ...)`` over the extra frames."""
        rows = np.arange(-self.extra, len(gains) + self.extra + 1).clip(0, len(gains) - 1)
        return gains[rows]


@cache
def mel_weights() -> np.ndarray:
    """The front end's filterbank, ``(n_mels, n_fft // 2 + 1)`` float32 (librosa, Slaney)."""
    import librosa

    return librosa.filters.mel(
        sr=MEL.sample_rate, n_fft=MEL.n_fft, n_mels=MEL.n_mels, fmin=MEL.fmin, fmax=MEL.fmax
    )


@cache
def band_centres() -> np.ndarray:
    """Centre frequency of each mel band, Hz, ``(n_mels,)``."""
    import librosa

    return librosa.mel_frequencies(MEL.n_mels + 2, fmin=MEL.fmin, fmax=MEL.fmax)[1:-1]


@cache
def bands_to_bins() -> np.ndarray:
    """Matrix ``(n_mels, bins)`` that interpolates a per-band logarithm over the bins.

    Each column sums to one; bins outside every filter take the nearest band's value.
    """
    # Slaney's filters have equal area: undo it, so that neighbours mix in equal measure.
    weights = mel_weights() / mel_weights().max(1, keepdims=True)
    frequencies = np.arange(weights.shape[1]) * MEL.sample_rate / MEL.n_fft
    nearest = np.abs(frequencies[None] - band_centres()[:, None]).argmin(0)
    empty = weights.sum(0) <= 1e-8
    weights[nearest[empty], np.flatnonzero(empty)] = 1.0
    return (weights / weights.sum(0)).astype(np.float32)


def log_mel_of(spectrum: np.ndarray) -> np.ndarray:
    """Natural-log mel ``(frames, n_mels)`` of a spectrum ``(frames, bins)``."""
    return np.log(np.maximum(np.abs(spectrum) @ mel_weights().T, MEL.floor))


def log_energy_of(spectrum: np.ndarray) -> np.ndarray:
    """The same with energies summed in place of magnitudes, half the logarithm of the sum.

    It tells a partial, which fills few bins, from noise of the same log-mel, which fills all.
    """
    power = np.square(np.abs(spectrum)) @ mel_weights().T
    return 0.5 * np.log(np.maximum(power, MEL.floor**2))

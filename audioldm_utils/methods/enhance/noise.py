"""Steady lines, onsets and stationary noise: finding them, and suppressing the first and last.

Waveforms are mono, ``(samples,)``; reference first.
"""

from __future__ import annotations

import numpy as np
import scipy.ndimage

#: Decibels below the reference's loudest frame that all levels are floored at.
FLOOR_DB = -80.0
#: How far a line's median level stands over its neighbourhood, and over the reference's, dB.
EXCESS = 9.0
#: Width of a notch at -3 dB, Hz.
NOTCH = 8.0


def check_pair(reference: np.ndarray, estimate: np.ndarray, seconds: float, rate: int) -> None:
    """Refuse a pair of unequal lengths, or shorter than ``seconds``: ValueError."""
    if reference.ndim != 1 or reference.shape != estimate.shape:
        raise ValueError(
            f"reference {reference.shape} and estimate {estimate.shape} must be equally long (n,)"
        )
    if len(reference) < seconds * rate:
        raise ValueError(f"this measure needs {seconds} s, got {len(reference) / rate:.3f} s")


def window_powers(waveform: np.ndarray, size: int, hop: int) -> np.ndarray:
    """Mean square of windows of ``size`` every ``hop`` samples."""
    sums = np.concatenate([[0.0], np.cumsum(np.asarray(waveform, np.float64) ** 2)])
    starts = np.arange(0, len(waveform) - size + 1, hop)
    return np.maximum(sums[starts + size] - sums[starts], 0.0) / size


def decibels(power: np.ndarray, peak: float) -> np.ndarray:
    """Power re ``peak``, dB, floored at :data:`FLOOR_DB`."""
    return 10 * np.log10(np.maximum(power / max(peak, 1e-20), 10 ** (FLOOR_DB / 10)))


def _prominence(waveform: np.ndarray, sample_rate: int) -> tuple[np.ndarray, np.ndarray]:
    """Frequency of each bin and how far its median level stands over its neighbours', dB."""
    from scipy.signal import stft  # costs more than a reconstruction

    size = min(8192, 2 ** int(np.log2(len(waveform) // 4)))
    frequencies, _, spectrum = stft(
        waveform, sample_rate, nperseg=size, noverlap=size * 3 // 4, boundary=None
    )
    level = 20 * np.log10(np.maximum(np.median(np.abs(spectrum), axis=1), 1e-9))
    return frequencies, level - scipy.ndimage.median_filter(level, 41, mode="nearest")


def hum_lines(reference: np.ndarray, estimate: np.ndarray, sample_rate: int) -> np.ndarray:
    """Frequencies, Hz, of steady lines that only the estimate has, by :data:`EXCESS`."""
    check_pair(reference, estimate, 0.25, sample_rate)
    frequencies, before = _prominence(reference, sample_rate)
    _, after = _prominence(estimate, sample_rate)
    # A reference's line may fall in a bin beside: compare with the largest of three.
    before = scipy.ndimage.maximum_filter1d(before, 3)
    peak = after == scipy.ndimage.maximum_filter1d(after, 7)
    return frequencies[peak & (after > EXCESS) & (after - before > EXCESS)]


def onsets(waveform: np.ndarray, sample_rate: int, rise: float = 15.0) -> np.ndarray:
    """Samples where the level of 5 ms rises by ``rise`` dB over the 40 ms before."""
    hop = sample_rate // 200
    level = window_powers(waveform, hop, hop)
    level = decibels(level, level.max())
    # The loudest of the eight frames before each frame.
    padded = np.concatenate([np.full(8, level[0]), level])
    before = np.lib.stride_tricks.sliding_window_view(padded, 8)[: len(level)].max(1)
    kept: list[int] = []
    for frame in np.flatnonzero((level - before > rise) & (level > -40)):
        if frame >= 10 and (not kept or frame - kept[-1] >= 20):
            kept.append(int(frame))
    return np.array(kept, int) * hop


def suppress_lines(waveform: np.ndarray, frequencies: np.ndarray, sample_rate: int) -> np.ndarray:
    """Notch steady lines (Hz) out, forwards and backwards, so that nothing is delayed."""
    from scipy.signal import filtfilt, iirnotch

    out = np.asarray(waveform, np.float64)
    for frequency in frequencies:
        if NOTCH < frequency < sample_rate / 2 - NOTCH:
            notch = iirnotch(frequency, frequency / NOTCH, fs=sample_rate)
            out = filtfilt(*notch, out)
    return out.astype(np.float32)


def spectral_gate(
    waveform: np.ndarray, sample_rate: int, noise: np.ndarray, strength: float
) -> np.ndarray:
    """Stationary spectral gating by the library noisereduce (Sainburg 2020).

    ``noise`` is a sample of it alone, such as the vocoder's answer to silence; ``strength``, 0 to
    1, the share of it to remove.
    """
    import noisereduce

    return noisereduce.reduce_noise(
        y=waveform, sr=sample_rate, y_noise=noise, stationary=True, prop_decrease=strength
    ).astype(np.float32)

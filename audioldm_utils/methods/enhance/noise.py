"""Noise and artefacts that VAE and vocoder add: measures, and what suppresses them.

Every measure is ``f(reference, estimate, sample_rate) -> float``, reference first, on mono
waveforms ``(samples,)`` of equal length and alignment; 0 is perfect and positive means that
the estimate has more of the artefact. They are diagnostic, not measures of quality: a silent
estimate has none of these artefacts.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.ndimage
import scipy.signal

from audioldm_utils.methods.enhance.bands import apply_gain

#: Decibels below the reference's loudest frame that all levels are floored at.
FLOOR_DB = -80.0


def _check(reference: np.ndarray, estimate: np.ndarray, seconds: float, rate: int) -> None:
    if reference.ndim != 1 or reference.shape != estimate.shape:
        raise ValueError(
            f"reference {reference.shape} and estimate {estimate.shape} must be equally long (n,)"
        )
    if len(reference) < seconds * rate:
        raise ValueError(f"this measure needs {seconds} s, got {len(reference) / rate:.3f} s")


def _levels(waveform: np.ndarray, size: int, hop: int) -> np.ndarray:
    """Mean square of windows of ``size`` every ``hop`` samples."""
    sums = np.concatenate([[0.0], np.cumsum(np.asarray(waveform, np.float64) ** 2)])
    starts = np.arange(0, len(waveform) - size + 1, hop)
    return np.maximum(sums[starts + size] - sums[starts], 0.0) / size


def _decibels(power: np.ndarray, peak: float) -> np.ndarray:
    return 10 * np.log10(np.maximum(power / max(peak, 1e-20), 10 ** (FLOOR_DB / 10)))


def noise_floor(reference: np.ndarray, estimate: np.ndarray, sample_rate: int) -> float:
    """Level of the estimate above the reference in the reference's quietest tenth, dB.

    Frames of 20 ms; levels are floored 80 dB below the reference's loudest frame.
    """
    _check(reference, estimate, 0.1, sample_rate)
    size = sample_rate // 50
    quiet, other = _levels(reference, size, size), _levels(estimate, size, size)
    peak = quiet.max()
    chosen = np.argsort(quiet, kind="stable")[: max(1, len(quiet) // 10)]
    return float((_decibels(other, peak) - _decibels(quiet, peak))[chosen].mean())


def _prominence(waveform: np.ndarray, sample_rate: int) -> tuple[np.ndarray, np.ndarray]:
    """Frequency of each bin and how far its median level stands over its neighbours', dB."""
    size = min(8192, 2 ** int(np.log2(len(waveform) // 4)))
    frequencies, _, spectrum = scipy.signal.stft(
        waveform, sample_rate, nperseg=size, noverlap=size * 3 // 4, boundary=None
    )
    level = 20 * np.log10(np.maximum(np.median(np.abs(spectrum), axis=1), 1e-9))
    return frequencies, level - scipy.ndimage.median_filter(level, 41, mode="nearest")


def hum_lines(
    reference: np.ndarray, estimate: np.ndarray, sample_rate: int, excess: float = 9.0
) -> np.ndarray:
    """Frequencies, Hz, of steady lines that only the estimate has.

    A line's median level over time stands at least ``excess`` dB over its neighbourhood, and
    as much further over it than in the reference.
    """
    _check(reference, estimate, 0.25, sample_rate)
    frequencies, before = _prominence(reference, sample_rate)
    _, after = _prominence(estimate, sample_rate)
    # A reference's line may fall in a bin beside: compare with the largest of three.
    before = scipy.ndimage.maximum_filter1d(before, 3)
    peak = after == scipy.ndimage.maximum_filter1d(after, 7)
    return frequencies[peak & (after > excess) & (after - before > excess)]


def hum(reference: np.ndarray, estimate: np.ndarray, sample_rate: int) -> float:
    """Number of steady lines that only the estimate has (see :func:`hum_lines`)."""
    return float(len(hum_lines(reference, estimate, sample_rate)))


def onsets(waveform: np.ndarray, sample_rate: int, rise: float = 15.0) -> np.ndarray:
    """Samples where the level of 5 ms rises by ``rise`` dB over the 40 ms before."""
    hop = sample_rate // 200
    level = _levels(waveform, hop, hop)
    level = _decibels(level, level.max())
    # The loudest of the eight frames before each frame.
    padded = np.concatenate([np.full(8, level[0]), level])
    before = np.lib.stride_tricks.sliding_window_view(padded, 8)[: len(level)].max(1)
    jump = (level - before > rise) & (level > -40)
    frames = [f for f in np.flatnonzero(jump) if f >= 10]
    kept: list[int] = []
    for frame in frames:
        if not kept or frame - kept[-1] >= 20:
            kept.append(int(frame))
    return np.array(kept, int) * hop


def pre_echo(reference: np.ndarray, estimate: np.ndarray, sample_rate: int) -> float:
    """Energy of the estimate above the reference from 30 to 5 ms before onsets, dB.

    Levels are floored 50 dB below the onset's own. NaN where the reference has no onset.
    """
    _check(reference, estimate, 0.1, sample_rate)
    values = []
    for onset in onsets(reference, sample_rate):
        window = slice(onset - sample_rate * 30 // 1000, onset - sample_rate * 5 // 1000)
        attack = slice(onset, onset + sample_rate // 50)
        floor = 1e-5 * float(np.mean(np.square(reference[attack], dtype=np.float64))) + 1e-20
        before = max(float(np.mean(np.square(reference[window], dtype=np.float64))), floor)
        after = max(float(np.mean(np.square(estimate[window], dtype=np.float64))), floor)
        values.append(10 * np.log10(after / before))
    return float(np.mean(values)) if values else float("nan")


def warble(reference: np.ndarray, estimate: np.ndarray, sample_rate: int) -> float:
    """Fluctuation of the band levels, 3 to 20 Hz, that the estimate adds, dB (RMS).

    Octave bands from 125 Hz; of the level difference estimate minus reference, where the
    reference is within 40 dB of the band's loudest.
    """
    _check(reference, estimate, 0.5, sample_rate)
    hop = sample_rate // 100
    fluctuation = scipy.signal.butter(2, (3.0, 20.0), "bandpass", fs=100.0, output="sos")
    values = []
    low = 125.0
    while low * 2 <= sample_rate / 2 * 1.001:
        edge = min(low * 2, sample_rate / 2 * 0.99)
        band = scipy.signal.butter(3, (low, edge), "bandpass", fs=sample_rate, output="sos")
        levels = []
        peak = 0.0
        for waveform in (reference, estimate):
            power = _levels(scipy.signal.sosfiltfilt(band, waveform), 3 * hop, hop)
            peak = peak or float(power.max())
            levels.append(_decibels(power, peak))
        active = levels[0] > -40
        change = scipy.signal.sosfiltfilt(fluctuation, levels[1] - levels[0])
        if active.sum() > 10:
            values.append(np.sqrt(np.mean(change[active] ** 2)))
        low *= 2
    return float(np.mean(values)) if values else float("nan")


#: Name to function, unit and what perfection is; every one is better when lower.
MEASURES: dict[str, tuple[Callable[[np.ndarray, np.ndarray, int], float], str]] = {
    "noise_floor": (noise_floor, "dB"),
    "hum": (hum, "lines"),
    "pre_echo": (pre_echo, "dB"),
    "warble": (warble, "dB"),
}


def measure(reference: np.ndarray, estimate: np.ndarray, sample_rate: int) -> dict[str, float]:
    """Every artefact measure of a pair; NaN where one does not apply to the clip."""
    return {
        name: function(reference, estimate, sample_rate) for name, (function, _) in MEASURES.items()
    }


def suppress_lines(
    waveform: np.ndarray, frequencies: np.ndarray, sample_rate: int, width: float = 8.0
) -> np.ndarray:
    """Notch steady lines out, forwards and backwards, so that nothing is delayed.

    Args:
        waveform: ``(samples,)``.
        frequencies: Hz; those at or above the Nyquist frequency are ignored.
        sample_rate: Hz.
        width: of each notch at -3 dB, Hz.
    """
    out = np.asarray(waveform, np.float64)
    for frequency in frequencies:
        if width < frequency < sample_rate / 2 - width:
            numerator, denominator = scipy.signal.iirnotch(
                frequency, frequency / width, fs=sample_rate
            )
            out = scipy.signal.filtfilt(numerator, denominator, out)
    return out.astype(np.float32)


def spectral_gate(
    waveform: np.ndarray, sample_rate: int, noise: np.ndarray, strength: float = 1.0
) -> np.ndarray:
    """Stationary spectral gating by the library noisereduce (Sainburg 2020).

    Args:
        waveform: ``(samples,)``.
        sample_rate: Hz.
        noise: a sample of the noise alone, such as the vocoder's answer to silence.
        strength: share of the gated noise to remove, 0 to 1.
    """
    import noisereduce

    return noisereduce.reduce_noise(
        y=waveform, sr=sample_rate, y_noise=noise, stationary=True, prop_decrease=strength
    ).astype(np.float32)


def cut_quiet(
    waveform: np.ndarray, gain: np.ndarray, limits: tuple[float, float] = (-4.0, 0.0)
) -> np.ndarray:
    """Apply only the cuts of a per-band log gain ``(frames, n_mels)``: a fitted expander."""
    return apply_gain(waveform, gain, limits)

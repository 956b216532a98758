"""One signal in memory: resample, normalise and undo it, align, match loudness.

Samples are one-dimensional, float, full scale ±1. Nothing here changes its input.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import soxr

#: A signal whose samples all stay within this distance of their mean is silent (-120 dBFS).
SILENCE = 1e-6


@dataclass(frozen=True)
class Gain:
    """What normalising did: ``y = (x - mean) * scale``; arrays and tensors alike.

    Mean and scale are numbers, or of a batch ``(clips, samples)`` tensors ``(clips, 1)``.
    """

    mean: Any
    scale: Any

    def apply(self, x: Any) -> Any:
        """The same offset and gain on another signal of the same recording."""
        return (x - self.mean) * self.scale

    def undo(self, y: Any) -> Any:
        """Back to the level and offset of the original."""
        return y / self.scale + self.mean


def resample(x: np.ndarray, from_rate: int, to_rate: int) -> np.ndarray:
    """``(n,)`` or ``(n, channels)`` at another rate (Hz) by soxr's HQ setting, without delay.

    Float32, ``round(n * to_rate / from_rate)`` samples.
    """
    if from_rate <= 0 or to_rate <= 0:
        raise ValueError(f"sample rates must be positive, got {from_rate} and {to_rate}")
    x = np.asarray(x, np.float32)
    if from_rate == to_rate:
        return x.copy()
    y = soxr.resample(x, from_rate, to_rate, quality="HQ")
    length = (2 * len(x) * to_rate + from_rate) // (2 * from_rate)
    if len(y) < length:
        y = np.pad(y, [(0, length - len(y))] + [(0, 0)] * (y.ndim - 1))
    return y[:length]


def normalise(x: np.ndarray) -> tuple[np.ndarray, Gain]:
    """AudioLDM2's level: subtract the mean, scale the peak to 0.5; and the gain that undoes it.

    A ValueError if the samples are silent or not finite.
    """
    mean = float(np.mean(x, dtype=np.float64))
    peak = float(np.max(np.abs(x - mean))) if x.size else 0.0
    if not np.isfinite(peak) or peak < SILENCE:
        raise ValueError(f"cannot normalise: the peak is {peak}, the samples are silent or NaN")
    gain = Gain(mean, 0.5 / peak)
    return gain.apply(x), gain


def lag(
    reference: np.ndarray,
    estimate: np.ndarray,
    max_lag: int,
    on: Literal["waveform", "envelope"] = "waveform",
) -> int:
    """How many samples later the estimate comes, by the peak of the cross-correlation.

    It is at most ``max_lag`` either way; :func:`shift` by it puts the estimate on the reference.
    ``"waveform"`` compares samples and ignores polarity; ``"envelope"`` compares Hilbert
    envelopes, for outputs whose phase was made up (vocoder, Griffin-Lim).
    """
    from scipy.signal import correlate, correlation_lags, hilbert

    pair = [np.asarray(x, np.float64) for x in (reference, estimate)]
    if any(x.ndim != 1 or not len(x) for x in pair) or max_lag < 0:
        given = f"{pair[0].shape}, {pair[1].shape}, max_lag {max_lag}"
        raise ValueError(f"lag wants two (n,) signals and max_lag >= 0, got {given}")
    if on == "envelope":
        pair = [np.abs(hilbert(x)) for x in pair]
    elif on != "waveform":
        raise ValueError(f"on must be 'waveform' or 'envelope', got {on!r}")
    pair = [x - x.mean() for x in pair]
    correlation = correlate(pair[1], pair[0], method="fft")
    lags = correlation_lags(len(pair[1]), len(pair[0]))
    inside = np.abs(lags) <= max_lag
    likeness = np.abs(correlation) if on == "waveform" else correlation
    return int(lags[inside][np.argmax(likeness[inside])])


def shift(x: np.ndarray, samples: int) -> np.ndarray:
    """Move a signal ``samples`` earlier (later if negative); same length, zeros come in."""
    y = np.zeros_like(x)
    if samples >= 0:
        y[: max(len(x) - samples, 0)] = x[samples:]
    else:
        y[-samples:] = x[:samples]
    return y


def fit_length(x: np.ndarray, samples: int) -> np.ndarray:
    """Cut a signal at its end, or fill it with silence, to so many samples; float32, a copy."""
    y = np.zeros(samples, np.float32)
    y[: min(samples, len(x))] = x[:samples]
    return y


def match_loudness(x: np.ndarray, reference: np.ndarray, sample_rate: int) -> np.ndarray:
    """Scale ``x`` to the loudness of the reference, for listening only, never for a metric.

    Both are weighted with the K curve of ITU-R BS.1770 (ungated). The result may exceed full scale.
    """
    wanted, got = _loudness(reference, sample_rate), _loudness(x, sample_rate)
    if got < SILENCE:
        raise ValueError("cannot match the loudness of a silent signal")
    return (np.asarray(x) * (wanted / got)).astype(np.asarray(x).dtype)


def _loudness(x: np.ndarray, sample_rate: int) -> float:
    """RMS after BS.1770's shelf and high-pass; prototypes mapped by the bilinear transform."""
    from scipy.signal import lfilter

    x = np.asarray(x, np.float64)
    for kind, frequency, quality in (("shelf", 1681.974, 0.7071752), ("highpass", 38.13547, 0.5)):
        k = np.tan(np.pi * min(frequency / sample_rate, 0.49))
        bottom = np.array([1 + k / quality + k * k, 2 * (k * k - 1), 1 - k / quality + k * k])
        if kind == "shelf":
            high = 10 ** (3.999844 / 20)
            band = high**0.4996668
            side, middle = band * k / quality, 2 * (k * k - high)
            top = np.array([high + side + k * k, middle, high - side + k * k])
        else:
            top = np.array([1.0, -2.0, 1.0]) * bottom[0]
        x = lfilter(top / bottom[0], bottom / bottom[0], x)
    return float(np.sqrt(np.mean(x**2))) if x.size else 0.0

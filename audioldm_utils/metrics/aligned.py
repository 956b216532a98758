"""Distances that forgive a small delay; conventions as in :mod:`audioldm_utils.metrics`.

Nobody hears that a sound comes 5 ms later, yet :func:`log_mel_distance` and
:func:`multi_resolution_stft` charge it like an audible fault. Here the estimate is moved by up to
:data:`LARGEST_LAG` either way, as a whole, and the smallest distance counts. The reference is
compared without its first and last :data:`LARGEST_LAG`, so that every lag is judged on the same
sound: against a plain distance of a short clip this alone makes a small difference.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np

from audioldm_utils.audio import MODEL_RATE
from audioldm_utils.audio.signals import resample
from audioldm_utils.metrics.signal import (
    NotApplicable,
    Samples,
    log_mel_distance,
    multi_resolution_stft,
    validate,
)

#: Most that an estimate may come early or late, s.
LARGEST_LAG = 0.010
#: Spacing of the lags that are tried first, and that at which the search ends, s.
COARSE, FINE = 0.0025, 0.0002


def log_mel_distance_aligned(reference: Samples, estimate: Samples, sample_rate: int) -> float:
    """The smallest :func:`log_mel_distance` over lags of at most 10 ms either way, dB.

    Perfection is 0; lower is better. It forgives one delay of the whole clip, at any level and
    polarity that the plain distance forgives. It does not forgive a larger delay, one that changes
    within the clip, smeared attacks or echoes. Lags are tried every 2.5 ms, then about the best
    one to 0.2 ms.

    Raises:
        NotApplicable: shorter than 0.084 s, or silent but for its ends.
    """
    x, y = validate(reference, estimate, sample_rate)
    return _log_mel_search(x.tobytes(), y.tobytes(), sample_rate)[1]


def multi_resolution_stft_aligned(reference: Samples, estimate: Samples, sample_rate: int) -> float:
    """The smallest :func:`multi_resolution_stft` over lags of at most 10 ms either way.

    Perfection is 0; lower is better. Tried are no lag and that of
    :func:`log_mel_distance_aligned`, then lags about the better one to 0.1 ms. It forgives, and
    does not forgive, what that does; like the plain distance it does not compare between rates.

    Raises:
        NotApplicable: fewer than 2048 samples besides 10 ms at each end, or silent but for these.
    """
    x, y = validate(reference, estimate, sample_rate)
    margin = round(LARGEST_LAG * sample_rate)
    if len(x) - 2 * margin < 2048:  # before the search, which costs more
        raise NotApplicable("the multi-resolution STFT needs at least 2048 samples and 20 ms")
    lag = _log_mel_search(x.tobytes(), y.tobytes(), sample_rate)[0]
    first = [0, round(lag * sample_rate)]
    return _smallest(multi_resolution_stft, x, y, sample_rate, first, COARSE / 8, FINE / 2)[1]


# Both distances ask for the same pair's lag. By content, not identity.
@lru_cache(maxsize=1)
def _log_mel_search(x: bytes, y: bytes, sample_rate: int) -> tuple[float, float]:
    """Lag in seconds of the smallest log-mel distance of float64 signals, and that distance."""
    pair = [resample(np.frombuffer(signal), sample_rate, MODEL_RATE) for signal in (x, y)]
    steps = round(LARGEST_LAG / COARSE)
    lags = [round(k * COARSE * MODEL_RATE) for k in range(-steps, steps + 1)]
    lag, distance = _smallest(log_mel_distance, *pair, MODEL_RATE, lags, COARSE, FINE)
    return lag / MODEL_RATE, distance


def _smallest(
    distance: Callable[[np.ndarray, np.ndarray, int], float],
    x: np.ndarray,
    y: np.ndarray,
    rate: int,
    lags: Sequence[int],
    step: float,
    finest: float,
) -> tuple[int, float]:
    """Lag in samples by which the estimate comes late, and the distance there.

    Tried are ``lags``, then half a ``step`` (s) about the best, and so on down to the ``finest``.
    """
    margin = round(LARGEST_LAG * rate)
    found: dict[int, float] = {}
    while True:
        for lag in sorted({*lags} - {*found}, key=abs):
            if abs(lag) <= margin:
                moved = y[margin + lag : len(y) - margin + lag]
                found[lag] = distance(x[margin : len(x) - margin], moved, rate)
        best = min(found, key=found.__getitem__)
        if step <= finest:
            return best, found[best]
        step /= 2
        shift = max(1, round(step * rate))
        lags = [best - shift, best + shift]

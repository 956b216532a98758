"""Mel-consistent refinement: make the vocoder's waveform say what its mel said.

A vocoder's output does not have the log-mel it was given. A few rounds of *measure the log-mel,
scale each bin by what its bands lack, synthesise* close that gap. This is Griffin and Lim's
alternation (1984) started from the vocoder's phase, with the mel constraint imposed
multiplicatively, as in Lee and Seung's updates (2001).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.ndimage

from audioldm_utils.methods.enhance.noise import onsets
from audioldm_utils.methods.enhance.stft import MEL, Stft, bands_to_bins, log_mel_of

#: Samples before an onset (40 ms at 16 kHz) that a gain on the onset's own frames reaches.
BEFORE_ONSET = 640
#: Rise of level that counts as one, dB; less than in the reference, since vocoders blur onsets.
RISE = 9.0
#: Ratio of amplitudes by which a refinement may exceed the change of level that is meant.
ECHO_MARGIN = 1.5
#: Share of the gap that a round closes, and largest change of a bin a round, nat.
STRENGTH, MAX_GAIN = 0.9, 3.0


def _level(waveform: np.ndarray, size: int) -> np.ndarray:
    """Root mean square around each sample over ``size`` samples."""
    power = scipy.ndimage.uniform_filter1d(np.square(waveform, dtype=np.float64), size)
    return np.sqrt(np.maximum(power, 0.0)) + 1e-7


def limit_echo(waveform: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Take out what a refinement smeared before and after the start's onsets.

    A gain that is sharp in frequency spreads an onset over the window, 32 ms to both sides.
    Where the level of 5 ms exceeds that of ``start``, which was refined, by more than
    :data:`ECHO_MARGIN` times what it does over the whole window, it is brought down to that; just
    before an onset of the start it is not raised at all. Both are ``(samples,)`` at 16 kHz.
    """
    # The change of level that is meant, and not what leaks into it from an onset nearby.
    meant = ECHO_MARGIN * _level(waveform, MEL.n_fft) / _level(start, MEL.n_fft)
    for onset in onsets(start, MEL.sample_rate, RISE):
        before = slice(max(0, onset - BEFORE_ONSET), onset)
        meant[before] = np.minimum(meant[before], 1.0)
    gain = np.minimum(1.0, meant * _level(start, 80) / _level(waveform, 80))
    return (waveform * scipy.ndimage.uniform_filter1d(gain, 40)).astype(np.float32)


def only_cuts_below(mel: np.ndarray, own: np.ndarray, depth: float) -> np.ndarray:
    """A target ``mel`` that asks for no more than ``own`` where the clip is quiet.

    The VAE decodes pauses too loud; a vocoder that answers them with less is right. Quiet is
    what lies further than ``depth``, nat, below the target's loudest value.
    """
    return np.where(mel < mel.max() - depth, np.minimum(mel, own), mel)


def refine_phase(
    waveform: np.ndarray,
    mel: np.ndarray,
    iterations: int = 12,
    bands: np.ndarray | None = None,
    measure: Callable[[np.ndarray], np.ndarray] = log_mel_of,
) -> tuple[np.ndarray, np.ndarray]:
    """Move a waveform towards a target log-mel, keeping its phases' start.

    Args:
        waveform: ``(samples,)`` at 16 kHz, the vocoder's output.
        mel: target ``(frames, n_mels)``, nat; frames beyond the waveform's are ignored.
        iterations: rounds; 0 returns the waveform as it is.
        bands: indices of the mel bands to move; None is all.
        measure: what of a spectrum ``(frames, bins)`` is to meet the target;
            :func:`~audioldm_utils.methods.enhance.stft.log_energy_of` for a target of energies.

    Returns:
        The waveform of the best round, never worse than the start, and the curve
        ``(iterations + 1,)`` of mean absolute log-mel errors, nat.

    Raises:
        ValueError: the mel has fewer frames than the waveform.
    """
    stft = Stft()
    frames = stft.frames(len(waveform))
    if mel.ndim != 2 or len(mel) < frames or mel.shape[1] != MEL.n_mels:
        raise ValueError(f"mel must be (at least {frames}, {MEL.n_mels}), got shape {mel.shape}")
    target = np.maximum(np.asarray(mel[:frames], np.float32), MEL.silence)
    best = current = start = np.asarray(waveform, np.float32)
    if not frames:
        return best, np.zeros(1)
    curve: list[float] = []
    for step in range(iterations + 1):
        spectrum = stft.analyse(current)
        gap = target - measure(stft.core(spectrum))
        if bands is not None:
            gap *= np.isin(np.arange(gap.shape[1]), bands)
        curve.append(float(np.abs(gap).mean()))
        if curve[-1] == min(curve):
            best = current
        if step < iterations:
            gain = np.clip(STRENGTH * gap, -MAX_GAIN, MAX_GAIN) @ bands_to_bins()
            spectrum *= stft.spread(np.exp(gain))
            current = limit_echo(stft.synthesise(spectrum, len(current)), start)
    return best, np.array(curve)

"""Metrics of pitch; conventions as in :mod:`audioldm_utils.metrics`.

Log-spectral distances hardly see pitch: a mel band is wider than a semitone below 2 kHz, and an
answer of the right bands with every melody gone can come nearer than one that keeps it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from audioldm_utils.audio import MODEL_RATE
from audioldm_utils.audio.signals import resample
from audioldm_utils.metrics.signal import NotApplicable, validate

if TYPE_CHECKING:
    import numpy.typing as npt

#: Classes of sounds that have a pitch to keep: what chroma is asked of.
TONAL = frozenset(
    (
        *("acoustic_guitar", "bass_guitar", "double_bass", "electric_guitar", "electric_piano"),
        *("flute", "french_horn", "kalimba", "marimba", "oboe", "orchestra", "organ", "piano"),
        *(
            "saxophone",
            "shehnai",
            "singing",
            "sitar",
            "steel_drum",
            "strings",
            "trumpet",
            "vibraphone",
        ),
    )
)
#: Frame rate of AudioLDM2's mel, Hz: whatever repeats every frame holds multiples of it alone.
COMB = 100.0
#: Half the width of a tooth, Hz, and the range that is looked at.
TOOTH, COMB_RANGE = 3.0, (150.0, 4000.0)
#: Hop of the chroma, samples at 16 kHz.
CHROMA_HOP = 512
#: Shorter signals are filled up to this with silence, which is left out again.
CHROMA_SAMPLES = 36000
#: Frames quieter than this re the reference's loudest count for nothing in the chroma.
QUIET_DB = -40.0
#: Fewest frames voiced in both signals that a fundamental is compared on.
FEWEST_VOICED = 10
#: Speech: fundamentals looked for, Hz.
F0_RANGE = (60.0, 500.0)
#: What is asked of speech alone.
SPOKEN = ("stoi", "f0_error")


def pitch_names(category: str | None) -> tuple[str, ...]:
    """Metrics of pitch and speech that a clip of this class is judged by; none of most classes."""
    speech = (category or "").startswith("speech")
    return (*("chroma_correlation", "comb_excess") * (category in TONAL), *SPOKEN * speech)


def chroma_correlation(
    reference: npt.ArrayLike, estimate: npt.ArrayLike, sample_rate: int
) -> float:
    """Pearson correlation of the chromas: is the melody still there?

    librosa's ``chroma_cqt`` at 16 kHz, every 32 ms, each frame divided by its strongest class,
    without the frames below -40 dB re the reference's loudest. Perfection is 1; about 0 is another
    pitch; higher is better. Octaves are not told apart; of sounds without pitch it says little.

    Raises:
        NotApplicable: shorter than a second, or one of the signals is silent.
    """
    x, y = validate(reference, estimate, sample_rate)
    if len(x) < sample_rate:
        raise NotApplicable("chroma needs at least 1 s")
    if not y.any():
        raise NotApplicable("a silent estimate has no pitch")
    (a, power), (b, _) = (_chroma(signal.tobytes(), sample_rate) for signal in (x, y))
    loud = power > power.max() * 10 ** (QUIET_DB / 20)
    return float(np.corrcoef(a[:, loud].ravel(), b[:, loud].ravel())[0, 1])


# One reference meets many estimates: its own is the last but one. By content, not identity.
@lru_cache(maxsize=2)
def _chroma(samples: bytes, sample_rate: int) -> tuple[np.ndarray, np.ndarray]:
    """Chroma ``(12, frames)`` and level ``(frames,)`` of float64 samples."""
    import librosa

    signal = resample(np.frombuffer(samples), sample_rate, MODEL_RATE)
    # The filters of the lowest octave are two seconds long.
    signal = np.pad(signal, (0, max(0, CHROMA_SAMPLES - len(signal))))
    chroma = librosa.feature.chroma_cqt(y=signal, sr=MODEL_RATE, hop_length=CHROMA_HOP, tuning=0.0)
    level = librosa.feature.rms(y=signal, frame_length=4 * CHROMA_HOP, hop_length=CHROMA_HOP)[0]
    return chroma, level


def comb_share(signal: npt.ArrayLike, sample_rate: int) -> float:
    """Share of one signal's energy in a comb of 100 Hz, from 150 to 4000 Hz.

    Energy within 3 Hz of the multiples of 100 Hz over all energy in that range, by one windowed
    spectrum of the whole signal. Noise has 0.06. A vocoder that repeats itself every mel frame
    has 1: it buzzes. So has a tone of 200 Hz: compare with the original's share.

    Raises:
        NotApplicable: shorter than a second (teeth run together), or no energy in the range.
    """
    y = np.asarray(signal, np.float64)
    if len(y) < sample_rate:
        raise NotApplicable("the comb's teeth are told apart from one second on")
    power = np.abs(np.fft.rfft(y * np.hanning(len(y)))) ** 2
    frequency = np.fft.rfftfreq(len(y), 1 / sample_rate)
    inside = (frequency >= COMB_RANGE[0]) & (frequency <= COMB_RANGE[1])
    if not power[inside].any():
        raise NotApplicable("no energy from 150 to 4000 Hz")
    away = np.abs(frequency - np.round(frequency / COMB) * COMB)
    return float(power[inside & (away <= TOOTH)].sum() / power[inside].sum())


def comb_excess(reference: npt.ArrayLike, estimate: npt.ArrayLike, sample_rate: int) -> float:
    """:func:`comb_share` of the estimate less the reference's; 0 is perfection, 1 a buzz."""
    x, y = validate(reference, estimate, sample_rate)
    return comb_share(y, sample_rate) - comb_share(x, sample_rate)


def f0_error(reference: npt.ArrayLike, estimate: npt.ArrayLike, sample_rate: int) -> float:
    """Median absolute error of the fundamental of speech, cents, over frames voiced in both.

    Perfection is 0; 100 is a semitone; lower is better. Fundamentals by pYIN (Mauch and Dixon,
    ICASSP 2014, as librosa has it), 60 to 500 Hz, every 16 ms. It does not count frames whose
    voicing was lost or made up.

    Raises:
        NotApplicable: fewer than ten frames are voiced in both.
    """
    x, y = validate(reference, estimate, sample_rate)
    if len(x) < _frame(sample_rate):
        raise NotApplicable("the fundamental needs at least 0.06 s")
    found = [_fundamental(signal.tobytes(), sample_rate) for signal in (x, y)]
    both = found[0][1] & found[1][1]
    if both.sum() < FEWEST_VOICED:
        raise NotApplicable(f"{both.sum()} frames are voiced in both; {FEWEST_VOICED} are needed")
    cents = 1200 * np.log2(found[1][0][both] / found[0][0][both])
    return float(np.median(np.abs(cents)))


def _frame(sample_rate: int) -> int:
    return 2 ** int(np.ceil(np.log2(sample_rate * 0.06)))


@lru_cache(maxsize=2)
def _fundamental(samples: bytes, sample_rate: int) -> tuple[np.ndarray, np.ndarray]:
    """Fundamental in Hz and whether voiced, ``(frames,)`` each, of float64 samples."""
    import librosa

    (low, high), frame = F0_RANGE, _frame(sample_rate)
    options = {"frame_length": frame, "hop_length": frame // 4}
    signal = np.frombuffer(samples)
    return librosa.pyin(signal, fmin=low, fmax=high, sr=sample_rate, **options)[:2]

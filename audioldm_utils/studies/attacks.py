"""Study ``01_attacks``: what every metric says of changes whose audibility is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from audioldm_utils.audio.clips import Clip, to_model_rate
from audioldm_utils.metrics.pitch import COMB, SPOKEN
from audioldm_utils.studies.bottleneck import ALIGNED
from audioldm_utils.studies.rows import Row

if TYPE_CHECKING:
    from audioldm_utils.model.networks import Networks
    from audioldm_utils.results.tables import ResultsBuilder

#: Judges of the attacks. Those of pitch are asked of every clip: each attack is the same for all.
JUDGES = (
    "snr", "si_sdr", "correlation", "mae", "log_mel_distance", "multi_resolution_stft", "visqol",
    "chroma_correlation", "comb_excess", *ALIGNED,
)  # fmt: skip
#: Of the comb filter's output that comes again one period later: a tooth is 1.6 Hz wide.
FEEDBACK = 0.95


def measure_attacks(clip: Clip, networks: Networks, rows: ResultsBuilder, seed: int) -> None:
    """Every judge of every attack on one clip."""
    reference = to_model_rate(clip)
    names = (*JUDGES, *SPOKEN * (clip.category or "").startswith("speech"))
    for name, attack in attacks().items():
        Row(rows, clip, "attack", name).scores(reference, attack(reference), names=names)


def attacks(rate: int = 16000) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """Changes of a waveform whose audibility is known, to test metrics with.

    ``inverted polarity`` and ``5 ms later`` sound the same. The others are plainly heard:
    ``one semitone up`` has another pitch and the same tempo, ``100 Hz comb`` buzzes,
    ``backwards`` runs from the end to the beginning.
    """
    from scipy.signal import butter, lfilter, sosfiltfilt

    def low_pass(x: np.ndarray) -> np.ndarray:
        sections = butter(6, 1000, fs=rate, output="sos")
        return sosfiltfilt(sections, x).astype(np.float32)

    def noise(x: np.ndarray) -> np.ndarray:
        hiss = np.random.default_rng(0).standard_normal(len(x))
        return (x + hiss * np.sqrt(np.mean(x**2)) * 10 ** (-10 / 20)).astype(np.float32)

    def semitone(x: np.ndarray) -> np.ndarray:
        import librosa

        return librosa.effects.pitch_shift(x, sr=rate, n_steps=1).astype(np.float32)

    def comb(x: np.ndarray) -> np.ndarray:
        period = round(rate / COMB)
        buzz = lfilter([1.0], [1.0, *[0.0] * (period - 1), -FEEDBACK], x)
        return (buzz * np.sqrt(np.mean(x**2) / max(np.mean(buzz**2), 1e-30))).astype(np.float32)

    return {
        "inverted polarity": lambda x: -x,
        "5 ms later": lambda x: np.roll(x, round(0.005 * rate)),
        "1 kHz low-pass": low_pass,
        "white noise at 10 dB": noise,
        "one semitone up": semitone,
        "100 Hz comb": comb,
        "backwards": lambda x: x[::-1].copy(),
    }

"""Sounds for the tests of metrics: noise, tones, and what resembles speech."""

import numpy as np

RATE = 16000


def noise(seed=0, seconds=1.2, level=0.1):
    return level * np.random.default_rng(seed).standard_normal(round(seconds * RATE))


def noise_clip(seconds: float = 0.8, rate: int = RATE, seed: int = 0) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).standard_normal(round(seconds * rate)).astype("f4")


def tone(frequency, seconds=1.2, level=0.3, rate=RATE):
    return level * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)


def speech_like(seed=0, seconds=1.5):
    """Noise bursts with formant-like colour: what STOI takes for speech."""
    from scipy.signal import lfilter

    rng = np.random.default_rng(seed)
    x = lfilter([1.0], [1, -1.6, 0.9], rng.standard_normal(round(seconds * RATE)))
    envelope = 0.2 + np.abs(np.sin(2 * np.pi * 3 * np.arange(len(x)) / RATE))
    return 0.02 * x * envelope


X = noise(0)
Y = X + 0.3 * noise(1)
